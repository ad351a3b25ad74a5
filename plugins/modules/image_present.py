#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: image_present
short_description: Have images on nodes
description:
  - Asks every node once which of the images it has, and loads those it lacks from the controller's cache, into all
    nodes at once. One task for all of them, with C(run_once), costs much less than one for each.
  - Before an image, what it is built on is loaded, if that is one of ours.
version_added: 0.1.0
author:
  - The Apiary developers
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description: Loads nothing; says what would be loaded. A node that cannot be reached yet lacks everything.
  diff_mode:
    support: full
    description: Lists the images of each node before and after.
  idempotent:
    support: full
    description: An image that is there is left as it is.
extends_documentation_fragment:
  - apiary.swarm.images
  - apiary.swarm.images.cache
  - apiary.swarm.endpoint.nodes
options:
  missing_ok:
    description: Whether images that neither a node nor the cache has are returned instead of being an error.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Load what the nodes lack
  apiary.swarm.image_present:
    images: "{{ image_list }}"
    cache_dir: "{{ image_cache_dir }}"
    nodes:
      - name: node1
        docker: "{{ hostvars.node1.machine_docker }}"
      - name: node2
        docker: "{{ hostvars.node2.machine_docker }}"
  run_once: true
"""

RETURN = r"""
loaded:
  description: The images that were loaded, or would be, by the names of the nodes that lacked one.
  returned: success
  type: dict
  sample: {"node2": ["apiary/base:9f0e1d2c3b4a", "apiary/web:4f9d0c1b2a3e"]}
missing:
  description: The images that a node lacks and the cache has not.
  returned: success
  type: list
  elements: str
  sample: []
missing_images:
  description: The entries of O(images) that these are of.
  returned: success
  type: list
  elements: dict
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import NODES_SPEC
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import IMAGES_SPEC

ARGUMENT_SPEC = {
    **IMAGES_SPEC,
    "nodes": NODES_SPEC,
    "missing_ok": {"type": "bool", "default": False},
}


def main() -> None:
    """Explain: the work is done by the action plugin of the same name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="image_present runs as an action plugin on the controller: call it as apiary.swarm.image_present"
    )


if __name__ == "__main__":
    main()

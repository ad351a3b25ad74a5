#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: image_publish
short_description: Have images in a registry and, from there, on nodes
description:
  - Asks the registry for the digest of each image, and every node which of them it has, all at once. What the registry
    lacks is pushed by the first node, if that has it; then every node pulls, by digest, what it lacks.
  - Afterwards each node has the images under their names in O(images), as templates have them, and knows their digests.
    RV(published) is what a stack names instead, so that no node asks the registry again for what it has.
  - The registry is asked through the first node's engine. The login goes with each request that needs one; no engine
    keeps it.
  - Where the registry does not answer and all nodes have everything, that is a warning.
version_added: 0.1.0
author:
  - The Apiary developers
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description:
      Pushes and pulls nothing; says what would be. A node or a registry that cannot be reached yet lacks everything.
      A digest is not known before its image is pushed.
  diff_mode:
    support: full
    description: Lists what is pushed, and what is pulled into which nodes.
  idempotent:
    support: full
    description: What is there is left as it is.
extends_documentation_fragment:
  - apiary.swarm.images
  - apiary.swarm.images.registry
  - apiary.swarm.endpoint.nodes
options:
  missing_ok:
    description: Whether images that neither the registry nor the first node has are returned instead of being an error.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Publish the images, and have the nodes pull them
  apiary.swarm.image_publish:
    images: "{{ image_list }}"
    registry: 127.0.0.1:5000
    nodes:
      - name: node1
        docker: "{{ hostvars.node1.machine_docker }}"
      - name: node2
        docker: "{{ hostvars.node2.machine_docker }}"
  run_once: true
"""

RETURN = r"""
published:
  description: What to name in a stack instead of each image, by its name and tag.
  returned: success
  type: dict
  sample: {"apiary/web:4f9d0c1b2a3e": "127.0.0.1:5000/apiary/web:4f9d0c1b2a3e@sha256:1cb0…"}
pushed:
  description: What was pushed to the registry, or would be.
  returned: success
  type: list
  elements: str
  sample: ["127.0.0.1:5000/apiary/web:4f9d0c1b2a3e"]
pulled:
  description: The images that were pulled, or would be, by the names of the nodes that lacked one.
  returned: success
  type: dict
  sample: {"node2": ["apiary/web:4f9d0c1b2a3e"]}
missing:
  description: The images that neither the registry nor the first node has.
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
from ansible_collections.apiary.swarm.plugins.module_utils.image_registry import REGISTRY_SPEC
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import IMAGE_LIST_SPEC

ARGUMENT_SPEC = {
    **IMAGE_LIST_SPEC,
    **REGISTRY_SPEC,
    "nodes": NODES_SPEC,
    "missing_ok": {"type": "bool", "default": False},
}


def main() -> None:
    """Explain: the work is done by the action plugin of the same name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="image_publish runs as an action plugin on the controller: call it as apiary.swarm.image_publish"
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: image_present
short_description: Have images on a node
description:
  - Asks the node once which of the images it has, and loads those it lacks from the controller's cache.
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
    description: Lists the images before and after.
  idempotent:
    support: full
    description: An image that is there is left as it is.
extends_documentation_fragment:
  - apiary.swarm.images
  - apiary.swarm.endpoint
options:
  missing_ok:
    description: Whether images that neither the node nor the cache has are returned instead of being an error.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Load what this node lacks
  apiary.swarm.image_present:
    images: "{{ image_list }}"
    cache_dir: "{{ image_cache_dir }}"
    docker: "{{ machine_docker }}"
"""

RETURN = r"""
loaded:
  description: The images that were loaded, or would be.
  returned: success
  type: list
  elements: str
  sample: ["apiary/base:9f0e1d2c3b4a", "apiary/web:4f9d0c1b2a3e"]
missing:
  description: The images that neither the node nor the cache has.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import ENDPOINT_SPEC
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import IMAGES_SPEC

ARGUMENT_SPEC = {
    **IMAGES_SPEC,
    "docker": {"type": "dict", "required": True, "options": ENDPOINT_SPEC},
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

#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: image_preflight
short_description: Check a list of images before anything is made
description:
  - Checks names, tags and build contexts, and, where something has to be made, that the controller has what that needs.
  - With O(registry), checks what the images would be called there.
version_added: 0.1.0
author:
  - The Apiary developers
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description: Checks as always.
  diff_mode:
    support: N/A
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
extends_documentation_fragment:
  - apiary.swarm.images
  - apiary.swarm.images.cache
options:
  registry:
    description: Where the images are to be published, as for M(apiary.swarm.image_publish); empty for nowhere.
    type: str
    default: ""
  username:
    description: Name of the account that may write to it; empty where it wants no login.
    type: str
    default: ""
  password:
    description: Its password, or a token.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Check the images
  apiary.swarm.image_preflight:
    images:
      - name: apiary/web
        context: images/web
    cache_dir: ~/.cache/apiary/images
"""

RETURN = r"""
references:
  description: The images with their tags.
  returned: success
  type: list
  elements: str
  sample: ["apiary/web:4f9d0c1b2a3e"]
names:
  description: What the images are called in the registry; empty without one.
  returned: success
  type: dict
  sample: {"apiary/web:4f9d0c1b2a3e": "127.0.0.1:5000/apiary/web:4f9d0c1b2a3e"}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.image_registry import REGISTRY_SPEC
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import IMAGES_SPEC

ARGUMENT_SPEC = {**IMAGES_SPEC, **REGISTRY_SPEC, "registry": {"type": "str", "default": ""}}


def main() -> None:
    """Explain: the work is done by the action plugin of the same name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="image_preflight runs as an action plugin on the controller: call it as apiary.swarm.image_preflight"
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: image_bootstrap
short_description: Have the archive of the image base in the controller's cache
description:
  - Makes with mmdebstrap, on the controller, what the given images are built on, unless the cache has it.
  - No engine is needed.
  - Two runs at once make it once.
version_added: 0.1.0
author:
  - The Apiary developers
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description: Makes nothing; says whether something would be made.
  diff_mode:
    support: N/A
    description: A cache is no state to compare.
  idempotent:
    support: full
    description: A sound archive is left as it is; a damaged one is made again.
extends_documentation_fragment:
  - apiary.swarm.images
  - apiary.swarm.images.cache
"""

EXAMPLES = r"""
- name: Make the image base
  apiary.swarm.image_bootstrap:
    images: "{{ image_list }}"
    cache_dir: "{{ image_cache_dir }}"
  run_once: true
"""

RETURN = r"""
archives:
  description: Paths of the archives.
  returned: success
  type: list
  elements: str
  sample: [/home/ann/.cache/apiary/images/apiary-base-9f0e1d2c3b4a.tar.gz]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.image_source import IMAGES_SPEC

ARGUMENT_SPEC = IMAGES_SPEC


def main() -> None:
    """Explain: the work is done by the action plugin of the same name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="image_bootstrap runs as an action plugin on the controller: call it as apiary.swarm.image_bootstrap"
    )


if __name__ == "__main__":
    main()

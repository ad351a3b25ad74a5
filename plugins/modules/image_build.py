#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: image_build
short_description: Have the archives of images in the controller's cache
description:
  - Builds images from their Dockerfiles through an engine's API and keeps what comes out, unless the cache has it.
  - An archive leaves out the layers of the image base, which every node has by then.
  - The image base itself is made by M(apiary.swarm.image_bootstrap).
version_added: 0.1.0
author:
  - The Apiary developers
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description: Builds nothing; says whether something would be built.
  diff_mode:
    support: N/A
    description: A cache is no state to compare.
  idempotent:
    support: full
    description: A sound archive is left as it is; a damaged one is made again.
extends_documentation_fragment:
  - apiary.swarm.images
  - apiary.swarm.images.cache
  - apiary.swarm.endpoint
"""

EXAMPLES = r"""
- name: Build the images
  apiary.swarm.image_build:
    images: "{{ image_list }}"
    cache_dir: "{{ image_cache_dir }}"
    docker: "{{ image_build_docker }}"
  run_once: true
"""

RETURN = r"""
built:
  description: The images that were built or exported, or would be.
  returned: success
  type: list
  elements: str
  sample: ["apiary/web:4f9d0c1b2a3e"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import ENDPOINT_SPEC
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import IMAGES_SPEC

ARGUMENT_SPEC = {**IMAGES_SPEC, "docker": {"type": "dict", "required": True, "options": ENDPOINT_SPEC}}


def main() -> None:
    """Explain: the work is done by the action plugin of the same name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(msg="image_build runs as an action plugin on the controller: call it as apiary.swarm.image_build")


if __name__ == "__main__":
    main()

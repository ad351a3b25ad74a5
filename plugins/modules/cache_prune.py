#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The cache, rid of what nobody needs: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.image_source import IMAGES_SPEC

DOCUMENTATION = r"""
module: cache_prune
short_description: Remove from the cache what no machine uses and no new machine would use
version_added: 0.1.0
description:
  - Removes machine images, golden snapshots and archives of images, except those that the options name, which a new
    machine would use, and those on which a machine builds that exists, of whichever cluster. What is being made just
    now stays as well. Of a snapshot that only existing machines use, its disk stays.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  cache_directory:
    description: Where machine images and golden snapshots are kept.
    type: path
    required: true
  machine_image:
    description: The machine image that new machines would have.
    type: path
    required: true
  machines:
    description: The machines that would be made from a golden snapshot; options as of M(apiary.swarm.qemu_snapshot).
    type: list
    elements: dict
    default: []
    suboptions:
      memory_mib:
        description: Memory in MiB.
        type: int
        required: true
      cpus:
        description: Number of virtual CPUs.
        type: int
        required: true
      disk_gib:
        description: Size of the disk in GiB.
        type: int
        required: true
      accelerator:
        description: How they run.
        type: str
        choices: [auto, kvm, uml, tcg]
        required: true
      cpu_model:
        description: QEMU's CPU model.
        type: str
        required: true
      snapshot:
        description: What is in the snapshot, as for M(apiary.swarm.qemu_snapshot).
        type: dict
        required: true
        suboptions:
          images:
            description: The images.
            type: list
            elements: dict
            required: true
            suboptions:
              name:
                description: Name without a tag.
                type: str
                required: true
              context:
                description: The directory with the Dockerfile.
                type: path
                required: true
              tag:
                description: The tag; empty means one that follows from the files.
                type: str
                default: ""
              args:
                description: Build arguments.
                type: dict
                default: {}
              repository:
                description: The name in a registry, for M(apiary.swarm.image_publish) alone.
                type: str
                default: ""
              tags:
                description: Other tags in a registry, for M(apiary.swarm.image_publish) alone.
                type: list
                elements: str
                default: []
          base:
            description: An image to build all on instead of those made by C(bootstrap.sh).
            type: str
            default: ""
          debian_suite:
            description: The Debian release that image bases are made of.
            type: str
            default: bookworm
          cache_dir:
            description: Directory on the controller where archives of images are kept.
            type: path
            required: true
  images:
    description: The images whose archives stay, and where archives are.
    type: dict
    required: true
    suboptions:
      images:
        description: The images.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description: Name without a tag.
            type: str
            required: true
          context:
            description: The directory with the Dockerfile.
            type: path
            required: true
          tag:
            description: The tag; empty means one that follows from the files.
            type: str
            default: ""
          args:
            description: Build arguments.
            type: dict
            default: {}
          repository:
            description: The name in a registry, for M(apiary.swarm.image_publish) alone.
            type: str
            default: ""
          tags:
            description: Other tags in a registry, for M(apiary.swarm.image_publish) alone.
            type: list
            elements: str
            default: []
      base:
        description: An image to build all on instead of those made by C(bootstrap.sh).
        type: str
        default: ""
      debian_suite:
        description: The Debian release that image bases are made of.
        type: str
        default: bookworm
      cache_dir:
        description: Directory on the controller where archives of images are kept.
        type: path
        required: true
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Remove from the cache what nobody needs
  apiary.swarm.cache_prune:
    cache_directory: ~/.cache/apiary/qemu
    machine_image: ~/.cache/apiary/qemu/3f9d0c2a71b4
    images:
      images:
        - name: apiary/web
          context: images/web
      cache_dir: ~/.cache/apiary/images
  run_once: true
"""

RETURN = r"""
removed:
  description: What was removed, or in check mode would be, with its size.
  returned: always
  type: list
  elements: str
  sample: ["/home/ann/.cache/apiary/qemu/0b7c1e5d9f22 (671 MiB)"]
bytes_before:
  description: The size of the cache before.
  returned: always
  type: int
  sample: 2147483648
bytes_after:
  description: The size of the cache after it, or in check mode what it would be.
  returned: always
  type: int
  sample: 1444085760
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "cache_directory": {"type": "path", "required": True},
    "machine_image": {"type": "path", "required": True},
    "machines": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "memory_mib": {"type": "int", "required": True},
            "cpus": {"type": "int", "required": True},
            "disk_gib": {"type": "int", "required": True},
            "accelerator": {"type": "str", "choices": ["auto", "kvm", "uml", "tcg"], "required": True},
            "cpu_model": {"type": "str", "required": True},
            "snapshot": {"type": "dict", "options": IMAGES_SPEC, "required": True},
        },
    },
    "images": {"type": "dict", "options": IMAGES_SPEC, "required": True},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller; call it as apiary.swarm.cache_prune from a playbook"
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A golden snapshot of a virtual machine: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.image_source import IMAGES_SPEC

DOCUMENTATION = r"""
module: qemu_snapshot
short_description: A golden snapshot, from which M(apiary.swarm.qemu_machine) clones machines
version_added: 0.1.0
description:
  - Boots a template of a machine, waits for its engine, has images in it (images that are new are built there), lets it
    forget the identity that it needed for that, and keeps its memory and disk in the cache. That takes about half a
    minute under emulation, and as long as the images take.
  - The snapshot is known by everything that must match, the machine image, QEMU's version and command line, the
    accelerator (and under KVM the host's CPU), memory, CPUs and the size of the disk, and by the tags of its images.
    A change of these makes another snapshot; M(apiary.swarm.cache_prune) removes those that are no longer used.
  - Under User Mode Linux, which cannot keep a machine's memory, the snapshot is the template's disk alone, after a
    shutdown. It is known by the machine image, the size of the disk and the tags of its images.
  - One that is not as it was written is thrown away and built again. An interrupted build leaves nothing that counts as
    a snapshot, and no machine that runs on. If several builds want the same snapshot at once, one builds and all others
    wait for it.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  image:
    description: The machine image, a directory with C(root.ext2), C(vmlinuz) and C(initramfs).
    type: path
    required: true
  cache_directory:
    description: Where snapshots are kept, in a directory C(golden).
    type: path
    required: true
  memory_mib:
    description: Memory of the machines in MiB.
    type: int
    default: 1024
  cpus:
    description: Number of virtual CPUs.
    type: int
    default: 1
  disk_gib:
    description: Size of the machines' own disk in GiB.
    type: int
    default: 10
  accelerator:
    description:
      - V(auto) uses KVM where booting a kernel under it works, else User Mode Linux (V(uml)) where its kernel boots and
        the machine has one processor, else emulation (V(tcg)). A machine whose disk only one of them can read goes on
        with that.
    type: str
    choices: [auto, kvm, uml, tcg]
    default: auto
  cpu_model:
    description: QEMU's CPU model. Empty means the host's under KVM, and one without AVX under emulation.
    type: str
    default: ""
  boot_timeout_seconds:
    description: How long the API of the template may take to answer after power-on.
    type: int
    default: 180
  snapshot:
    description: The images that are to be in the golden snapshot, and where their archives are.
    type: dict
    required: true
    suboptions:
      images:
        description: The images, as for M(apiary.swarm.image_present); each is built from a directory.
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
- name: Have the golden snapshot
  apiary.swarm.qemu_snapshot:
    image: ~/.cache/apiary/qemu/3f9d0c2a71b4
    cache_directory: ~/.cache/apiary/qemu
    snapshot:
      images:
        - name: apiary/web
          context: images/web
      cache_dir: ~/.cache/apiary/images
"""

RETURN = r"""
directory:
  description: Where the snapshot is; in check mode where it is or an empty string.
  returned: always
  type: str
  sample: /home/ann/.cache/apiary/qemu/golden/8d0a52c1be93-5b1f20c7
bytes:
  description: How much room it takes; memory that is all zeros takes none.
  returned: always
  type: int
  sample: 503316480
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "image": {"type": "path", "required": True},
    "cache_directory": {"type": "path", "required": True},
    "memory_mib": {"type": "int", "default": 1024},
    "cpus": {"type": "int", "default": 1},
    "disk_gib": {"type": "int", "default": 10},
    "accelerator": {"type": "str", "choices": ["auto", "kvm", "uml", "tcg"], "default": "auto"},
    "cpu_model": {"type": "str", "default": ""},
    "boot_timeout_seconds": {"type": "int", "default": 180},
    "snapshot": {"type": "dict", "options": IMAGES_SPEC, "required": True},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller; call it as apiary.swarm.qemu_snapshot from a playbook"
    )


if __name__ == "__main__":
    main()

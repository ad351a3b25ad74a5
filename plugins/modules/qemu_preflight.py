#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What would keep QEMU machines from starting on this host: documentation and arguments."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: qemu_preflight
short_description: Find what would keep QEMU machines from running on this host, before anything is changed
version_added: 0.1.0
description:
  - Checks names, addresses, ports, programs, memory and disk space for all machines of a cluster at once, and fails
    with the whole list of what is wrong. Changes nothing. Machines that run
    already are not asked for memory or ports again.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  machines:
    description: The machines, as they should be.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the machine.
        type: str
        required: true
      entrypoint:
        description: Its loopback address.
        type: str
        required: true
      lan_address:
        description: Its address on the private network.
        type: str
        required: true
      memory_mib:
        description: Memory in MiB.
        type: int
        required: true
      cpus:
        description: Number of virtual CPUs.
        type: int
        required: true
      disk_gib:
        description: Size of its disk in GiB.
        type: int
        required: true
      forwarded_ports:
        description: Ports to forward, as for M(apiary.swarm.qemu_machine).
        type: list
        elements: dict
        required: true
  cluster_directory:
    description: The directory that holds all files of the cluster.
    type: path
    required: true
  lan_network:
    description: The private network, in CIDR notation.
    type: str
    required: true
  loopback_network:
    description: The range of the entrypoints, in CIDR notation.
    type: str
    required: true
  image:
    description: The directory of the machine image; if it is not there, programs and space to build it are asked for.
    type: path
    required: true
  accelerator:
    description: How the machines are to run, as for M(apiary.swarm.qemu_machine).
    type: str
    choices: [auto, kvm, uml, tcg]
    default: auto
  snapshot_cache:
    description: Where golden snapshots are kept, if new machines are made from one.
    type: path
    default: ""
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Check what the machines need
  apiary.swarm.qemu_preflight:
    machines: "{{ qemu_machine_specifications }}"
    cluster_directory: ~/.local/state/apiary/apiary
    lan_network: 192.168.99.0/24
    loopback_network: 127.0.99.0/24
    image: ~/.cache/apiary/qemu/3f9d0c2a71b4
  run_once: true
"""

RETURN = r"""
problems:
  description: What is wrong, a sentence each, with the variable, its value and the remedy.
  returned: always
  type: list
  elements: str
  sample: ["127.0.99.101:4000 (myvm1) is in use on this host: ..."]
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "machines": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "entrypoint": {"type": "str", "required": True},
            "lan_address": {"type": "str", "required": True},
            "memory_mib": {"type": "int", "required": True},
            "cpus": {"type": "int", "required": True},
            "disk_gib": {"type": "int", "required": True},
            "forwarded_ports": {"type": "list", "elements": "dict", "required": True},
        },
    },
    "cluster_directory": {"type": "path", "required": True},
    "lan_network": {"type": "str", "required": True},
    "loopback_network": {"type": "str", "required": True},
    "image": {"type": "path", "required": True},
    "accelerator": {"type": "str", "choices": ["auto", "kvm", "uml", "tcg"], "default": "auto"},
    "snapshot_cache": {"type": "path", "default": ""},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller; call it as apiary.swarm.qemu_preflight from a playbook"
    )


if __name__ == "__main__":
    main()

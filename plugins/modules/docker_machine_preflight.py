# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What would keep VirtualBox machines from running: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: docker_machine_preflight
short_description: Find what would keep docker-machine's VirtualBox machines from running, before anything is changed
version_added: 0.1.0
description:
  - Checks docker-machine, VirtualBox, virtualization, the host-only network, names, addresses, machines of the same
    names, keys, certificates, and for machines that are to be made also the ISO, memory and disk; fails with the
    whole list of what is wrong. Changes nothing.

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
      address:
        description: Its address on the host-only network.
        type: str
        required: true
      memory_mib:
        description: Its memory in MiB.
        type: int
        required: true
      disk_mib:
        description: The size of its disk in MiB.
        type: int
        required: true
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  adopt:
    description: Whether machines that were not made for the cluster are taken over.
    type: bool
    default: false
  executable:
    description: The program, by its name in C(PATH) or its path.
    type: str
    default: "docker-machine"
  storage_path:
    description: Docker-machine's directory.
    type: path
    default: "~/.docker/machine"
  hostonly_cidr:
    description: The host's address and mask on the host-only network.
    type: str
    required: true
  iso_url:
    description: Where the ISO comes from, as for M(apiary.swarm.docker_machine).
    type: str
    default: ""
  no_vtx_check:
    description: Whether to leave out the check for hardware virtualization.
    type: bool
    default: false
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Check what the machines need
  apiary.swarm.docker_machine_preflight:
    machines:
      - {name: myvm1, address: 192.168.59.31, memory_mib: 1024, disk_mib: 20000}
    cluster: apiary
    hostonly_cidr: 192.168.59.1/24
  run_once: true
"""

RETURN = r"""
problems:
  description: What is wrong, a sentence each, with the variable, its value and the remedy.
  returned: always
  type: list
  elements: str
  sample: ["virtualbox_hostonly_cidr is 192.168.99.1/24, which VirtualBox 7.0.20 refuses: ..."]
missing:
  description: The machines that are to be made.
  returned: success
  type: list
  elements: str
  sample: ["myvm2"]
version:
  description: The version of docker-machine.
  returned: success
  type: str
  sample: 0.16.2
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "machines": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "memory_mib": {"type": "int", "required": True},
            "disk_mib": {"type": "int", "required": True},
        },
    },
    "cluster": {"type": "str", "required": True},
    "adopt": {"type": "bool", "default": False},
    "executable": {"type": "str", "default": "docker-machine"},
    "storage_path": {"type": "path", "default": "~/.docker/machine"},
    "hostonly_cidr": {"type": "str", "required": True},
    "iso_url": {"type": "str", "default": ""},
    "no_vtx_check": {"type": "bool", "default": False},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller: call it as apiary.swarm.docker_machine_preflight"
    )


if __name__ == "__main__":
    main()

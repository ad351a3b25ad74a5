# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What would keep hosts from being nodes: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: existing_machine_preflight
short_description: Find what would keep hosts that exist from being nodes, before anything is changed
version_added: 0.1.0
description:
  - Compares what all hosts have said of themselves (M(apiary.swarm.existing_machine), V(examined)) - systems, engines,
    clocks, machine-ids, host names, addresses and swarms - and fails with the whole list of what is wrong. Chooses the
    address at which the other nodes reach each. Asks nothing, and changes nothing.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  machines:
    description: The hosts.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the host in the inventory.
        type: str
        required: true
      host:
        description: Where SSH reaches it, C(ansible_host).
        type: str
        required: true
      local:
        description: Whether it is this computer.
        type: bool
        default: false
      address:
        description: The address at which the other nodes reach it; empty to have one chosen.
        type: str
        default: ""
      interface:
        description: The interface whose address that is; empty for any.
        type: str
        default: ""
      seen:
        description: What it has said.
        type: dict
        default: {}
      problem:
        description: Why it could not be asked.
        type: str
        default: ""
  others:
    description: Hosts of other providers in the same inventory.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the host.
        type: str
        required: true
      network:
        description: The network that its nodes have among themselves, if it is one of this computer alone.
        type: str
        default: ""
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  adopt_swarm:
    description: Whether a swarm that Apiary has not created is used.
    type: bool
    default: false
  clock_seconds:
    description: How far clocks may be apart.
    type: int
    default: 60
  strict:
    description: Whether to fail when something is wrong.
    type: bool
    default: true
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Compare all hosts
  apiary.swarm.existing_machine_preflight:
    machines:
      - name: host1
        host: 192.0.2.7
        seen: "{{ examined.seen }}"
        problem: "{{ examined.problem }}"
    cluster: apiary
  run_once: true
"""

RETURN = r"""
problems:
  description: What is wrong, a sentence each, with the variable, its value and the remedy.
  returned: always
  type: list
  elements: str
  sample: ["host1 and host2: have the same host name (debian), so nobody could ..."]
addresses:
  description: The address of each host at which the other nodes reach it.
  returned: success
  type: dict
  sample: {"host1": "192.0.2.7"}
untested:
  description: Hosts that are in no swarm yet, so that it is not known whether its ports are open between them.
  returned: success
  type: list
  elements: str
  sample: ["host1"]
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "machines": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "local": {"type": "bool", "default": False},
            "address": {"type": "str", "default": ""},
            "interface": {"type": "str", "default": ""},
            "seen": {"type": "dict", "default": {}},
            "problem": {"type": "str", "default": ""},
        },
    },
    "others": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "network": {"type": "str", "default": ""},
        },
    },
    "cluster": {"type": "str", "required": True},
    "adopt_swarm": {"type": "bool", "default": False},
    "clock_seconds": {"type": "int", "default": 60},
    "strict": {"type": "bool", "default": True},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller: call it as apiary.swarm.existing_machine_preflight"
    )


if __name__ == "__main__":
    main()

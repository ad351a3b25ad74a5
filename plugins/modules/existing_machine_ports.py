# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether the nodes' ports are open between hosts: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: existing_machine_ports
short_description: Try the ports that nodes use among themselves, between hosts that are to be nodes
version_added: 0.1.0
description:
  - Some hosts listen at 2377/tcp, 7946/tcp, 7946/udp and 4789/udp, all ask them, and what got no answer is named. Real
    packets are sent, so that a firewall anywhere on the way is found. Hosts that are nodes already have those ports in
    use; they are asked at the TCP ports alone.
  - Needs perl or Python on the hosts that listen, and bash on those that ask. Nothing is left on the hosts.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  name:
    description: Name of the host in the inventory.
    type: str
    required: true
  state:
    description:
      - V(listening) has the host listen, for two minutes at most.
      - V(asking) has it ask O(targets).
      - V(ended) ends what listens.
      - V(judged) fails with all that was found, by O(results).
    type: str
    choices: [listening, asking, ended, judged]
    required: true
  socket_dir:
    description: Directory on the controller for the sockets of connections.
    type: path
    required: true
  idle_seconds:
    description: How long a connection that nobody uses stays open.
    type: int
    default: 900
  address:
    description: The address at which the host listens.
    type: str
    default: ""
  seen:
    description: What the host has said of itself.
    type: dict
    default: {}
  process:
    description: The process that listens.
    type: int
  targets:
    description: The hosts that are asked.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the host.
        type: str
        required: true
      address:
        description: Its address.
        type: str
        required: true
      ports:
        description: Its ports, such as 7946/udp.
        type: list
        elements: str
        required: true
      answers:
        description: Whether it listens for this test, and so answers.
        type: bool
        default: true
  results:
    description: What became of all hosts.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the host.
        type: str
        required: true
      firewall:
        description: The firewalls that it has.
        type: list
        elements: str
        default: []
      taken:
        description: Ports that something else has taken there.
        type: list
        elements: str
        default: []
      silent:
        description: The hosts that did not answer it, with the ports.
        type: dict
        default: {}
  is_preflight:
    description: Whether nothing has been changed so far.
    type: bool
    default: true
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Listen
  apiary.swarm.existing_machine_ports:
    name: "{{ inventory_hostname }}"
    state: listening
    socket_dir: ~/.cache/apiary/ssh/apiary
    address: 192.0.2.7
    seen: "{{ examined.seen }}"
"""

RETURN = r"""
ports:
  description: The ports at which the host listens.
  returned: O(state=listening)
  type: list
  elements: str
  sample: ["2377/tcp", "7946/tcp", "7946/udp", "4789/udp"]
taken:
  description: Ports that something else has taken there.
  returned: O(state=listening)
  type: list
  elements: str
  sample: []
process:
  description: The process that listens.
  returned: O(state=listening)
  type: int
  sample: 4711
silent:
  description: The hosts that did not answer, with the ports.
  returned: O(state=asking)
  type: dict
  sample: {"host2": ["7946/udp"]}
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["listening", "asking", "ended", "judged"], "required": True},
    "socket_dir": {"type": "path", "required": True},
    "idle_seconds": {"type": "int", "default": 900},
    "address": {"type": "str", "default": ""},
    "seen": {"type": "dict", "default": {}},
    "process": {"type": "int"},
    "targets": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "ports": {"type": "list", "elements": "str", "required": True},
            "answers": {"type": "bool", "default": True},
        },
    },
    "results": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "firewall": {"type": "list", "elements": "str", "default": []},
            "taken": {"type": "list", "elements": "str", "default": []},
            "silent": {"type": "dict", "default": {}},
        },
    },
    "is_preflight": {"type": "bool", "default": True},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller: call it as apiary.swarm.existing_machine_ports"
    )


if __name__ == "__main__":
    main()

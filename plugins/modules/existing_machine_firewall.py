# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host's firewall, open for nodes: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: existing_machine_firewall
short_description: A host's own firewall, open for the nodes of a swarm alone
version_added: 0.1.0
description:
  - Opens 2377/tcp, 7946/tcp, 7946/udp and 4789/udp for the other nodes in the firewall that is active on the host,
    which may be ufw, firewalld, or nftables where a chain ends packets. A host without any is left alone, and so are
    the tables of iptables. Rules of nodes that are no longer given are removed.
  - The rules come back after a restart of the host.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  name:
    description: Name of the host in the inventory.
    type: str
    required: true
  cluster:
    description: Name of the cluster, which what is ours in the firewall carries.
    type: str
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
    description: The host's address among the nodes.
    type: str
    required: true
  peers:
    description: The addresses of all nodes, or networks of theirs; the host's own may be among them.
    type: list
    elements: str
    required: true
  is_root:
    description: Whether the host's user is root.
    type: bool
    default: false
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Open the firewall between the nodes
  apiary.swarm.existing_machine_firewall:
    name: "{{ inventory_hostname }}"
    cluster: apiary
    socket_dir: ~/.cache/apiary/ssh/apiary
    address: 192.0.2.7
    peers: [192.0.2.7, 192.0.2.8]
  become: true
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done, in words.
  returned: always
  type: list
  elements: str
  sample: ["ufw: allow from 192.0.2.8 to any port 2377,7946 proto tcp"]
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "cluster": {"type": "str", "required": True},
    "socket_dir": {"type": "path", "required": True},
    "idle_seconds": {"type": "int", "default": 900},
    "address": {"type": "str", "required": True},
    "peers": {"type": "list", "elements": "str", "required": True},
    "is_root": {"type": "bool", "default": False},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller: call it as apiary.swarm.existing_machine_firewall"
    )


if __name__ == "__main__":
    main()

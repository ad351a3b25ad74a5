#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What would keep a swarm's networks from working: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: swarm_preflight
short_description: Refuse address pools of a swarm that cannot be, or that meet addresses of its machines
version_added: 0.1.0
description:
  - Checks the pools from which the networks of a swarm are to get their addresses, and fails with the whole list of
    what is wrong. Changes nothing, and asks nobody.
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  address_pools:
    description: As for M(apiary.swarm.swarm_node).
    type: raw
    default: auto
  address_pool_prefix:
    description: As for M(apiary.swarm.swarm_node).
    type: raw
    default: 24
  networks:
    description: As for M(apiary.swarm.swarm_node).
    type: dict
    default: {}
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Check the address pools
  apiary.swarm.swarm_preflight:
    address_pools: [10.64.0.0/10]
    networks:
      myvm1: {10.0.2.0/24: NAT, 10.0.2.3: name server, 192.168.99.0/24: network}
"""

RETURN = r"""
problems:
  description: What is wrong, a sentence each, with the variable, its value and the remedy. Never any on success.
  returned: success
  type: list
  elements: str
  sample: []
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "address_pools": {"type": "raw", "default": "auto"},
    "address_pool_prefix": {"type": "raw", "default": 24},
    "networks": {"type": "dict", "default": {}},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller; call it as apiary.swarm.swarm_preflight from a play"
    )


if __name__ == "__main__":
    main()

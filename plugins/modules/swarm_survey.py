#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The nodes of a swarm as the inventory knows them: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.swarm_view import MANAGERS_SPEC

DOCUMENTATION = r"""
module: swarm_survey
short_description: Which hosts of the inventory are nodes, and in which order to take care of them
version_added: 0.1.0
description:
  - Asks one manager for the list of nodes. Changes nothing, and does not fail where no manager answers.
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description: The same in check mode, as nothing is changed.
  diff_mode:
    support: none
  idempotent:
    support: full
    description: Changes nothing.
options:
  hosts:
    description: The hosts of the inventory, and the address that each is to have in the swarm (empty if unknown).
    type: dict
    required: true
extends_documentation_fragment:
  - apiary.swarm.managers
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Look at the swarm
  apiary.swarm.swarm_survey:
    hosts: {myvm1: 192.168.99.101, myvm2: 192.168.99.102}
    managers: "{{ swarm_maintenance_managers }}"
"""

RETURN = r"""
order:
  description: The hosts in the order in which they are restarted - those in no swarm, those that are down, workers,
    managers, and the leader last. Where no manager answers, workers and then managers.
  returned: always
  type: list
  elements: str
  sample: [myvm2, myvm1]
ready:
  description: The hosts whose nodes are ready.
  returned: always
  type: list
  elements: str
  sample: [myvm1, myvm2]
absent:
  description: The hosts that are no nodes.
  returned: always
  type: list
  elements: str
  sample: []
strangers:
  description: Names of the nodes that are no hosts of the inventory.
  returned: always
  type: list
  elements: str
  sample: [myvm7]
manager:
  description: Name of the manager that answered; empty where none did.
  returned: always
  type: str
  sample: myvm1
why:
  description: Why no manager answered.
  returned: always
  type: str
  sample: ""
refused:
  description: Whether none answered because certificates are refused, which no start of a machine mends.
  returned: always
  type: bool
  sample: false
"""

ARGUMENT_SPEC: dict[str, Any] = {
    **MANAGERS_SPEC,
    "hosts": {"type": "dict", "required": True},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller; call it as apiary.swarm.swarm_survey from a playbook"
    )


if __name__ == "__main__":
    main()

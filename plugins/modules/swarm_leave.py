#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A node out of its swarm: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.swarm_view import MANAGERS_SPEC

DOCUMENTATION = r"""
module: swarm_leave
short_description: Take a node out of its swarm for good
version_added: 0.1.0
description:
  - Drains the node and waits until its tasks run elsewhere, demotes a manager, has the engine leave the swarm, and
    removes the node from the swarm's list. The machine itself is left alone.
  - Nothing is changed where it would cost too much. Refused is a manager without which the others would not be a
    majority of those that there are now, so that the swarm lives on should it break half-way. Refused is, unless
    O(data_loss_confirmed) is set, a node on which a service alone can run, or that has the only copy of data - volumes
    of the local driver, and directories that services bind.
  - The leader hands over to another manager before it leaves.
  - A node whose machine is gone is removed from the list all the same. What an interrupted run has begun is finished.
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description: Says what would be done, and refuses what would be refused.
  diff_mode:
    support: none
  idempotent:
    support: full
    description: A node that the swarm does not have is no change.
options:
  name:
    description: The node's name in the inventory, or its host name or ID in the swarm.
    type: str
    required: true
  docker:
    description: The endpoint of the node's engine, as in C(machine_docker). Empty where it is not known.
    type: dict
    default: {}
  address:
    description: The address at which the swarm knows the node, by which it is found when its engine is silent.
    type: str
    default: ""
  docker_guessed:
    description: Whether O(docker) is a guess. Then an engine there is the node's only if it has the node's name.
    type: bool
    default: false
  machine_stays:
    description: Whether the machine is not removed afterwards, so that only what services keep there would be lost.
    type: bool
    default: false
  data_loss_confirmed:
    description: Whether the node goes even if data is on it alone, or a service can run nowhere else.
    type: bool
    default: false
extends_documentation_fragment:
  - apiary.swarm.managers
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Take the node out of the swarm
  apiary.swarm.swarm_leave:
    name: myvm3
    docker: "{{ machine_docker }}"
    managers: "{{ swarm_maintenance_managers }}"
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, in order.
  returned: success
  type: list
  elements: str
  sample: ["drain myvm3", "have myvm3 leave the swarm", "remove myvm3 from the list of nodes"]
node_id:
  description: ID of the node in the swarm; null where it is no node of it.
  returned: success
  type: str
  sample: n59qa2aqrd2r2lpgoshwpvv65
manager:
  description: Name of the manager that was asked.
  returned: success
  type: str
  sample: myvm1
"""

ARGUMENT_SPEC: dict[str, Any] = {
    **MANAGERS_SPEC,
    "name": {"type": "str", "required": True},
    "docker": {"type": "dict", "default": {}},
    "address": {"type": "str", "default": ""},
    "docker_guessed": {"type": "bool", "default": False},
    "machine_stays": {"type": "bool", "default": False},
    "data_loss_confirmed": {"type": "bool", "default": False},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller; call it as apiary.swarm.swarm_leave from a playbook"
    )


if __name__ == "__main__":
    main()

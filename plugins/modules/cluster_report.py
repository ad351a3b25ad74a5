#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A report on a cluster, for people: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.swarm_view import MANAGERS_SPEC

DOCUMENTATION = r"""
module: cluster_report
short_description: Say what a cluster looks like and how to reach it
version_added: 0.1.0
description:
  - Reads nodes, services and tasks from the first manager that answers, and returns them as a text for people. Nodes
    that the inventory does not name are pointed out, and networks whose addresses a host uses itself. Changes nothing.
  - The callback P(apiary.swarm.phases#callback) prints the text at the end of the run.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  name:
    description: Name of the cluster.
    type: str
    required: true
  entrypoints:
    description: The hosts of the inventory, and the addresses at which their published ports are reached.
    type: dict
    required: true
  docker_note:
    description: What there is to know for whoever points a Docker client at the cluster.
    type: str
    default: ""
  addresses:
    description: The address that each host has in the swarm, by which one is known that has another name there.
    type: dict
    default: {}
  networks:
    description: The addresses and networks that each host uses itself, C(machine_networks) by name.
    type: dict
    default: {}
extends_documentation_fragment:
  - apiary.swarm.managers
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Report on the cluster
  apiary.swarm.cluster_report:
    managers: [{name: myvm1, docker: "{{ hostvars.myvm1.machine_docker }}"}]
    name: apiary
    entrypoints:
      myvm1: 127.0.99.101
      myvm2: 127.0.99.102
"""

RETURN = r"""
cluster_report:
  description: The report.
  returned: when a manager answers
  type: str
"""

ARGUMENT_SPEC: dict[str, Any] = {
    **MANAGERS_SPEC,
    "name": {"type": "str", "required": True},
    "entrypoints": {"type": "dict", "required": True},
    "docker_note": {"type": "str", "default": ""},
    "addresses": {"type": "dict", "default": {}},
    "networks": {"type": "dict", "default": {}},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller; call it as apiary.swarm.cluster_report from a playbook"
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What would keep container nodes from running: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: container_preflight
short_description: Find what would keep container nodes from running on an engine, before anything is changed
version_added: 0.1.0
description:
  - Checks the engine, names, addresses, ranges, ports and disk space for all nodes of a cluster at once, and fails with
    the whole list of what is wrong. Changes nothing. Nodes that run already are not asked for ports again.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  nodes:
    description: The nodes, as they should be.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the node.
        type: str
        required: true
      entrypoint:
        description: Its loopback address.
        type: str
        required: true
      address:
        description: Its address on the cluster's network.
        type: str
        required: true
      published_ports:
        description: Ports to publish, as for M(apiary.swarm.container_machine).
        type: list
        elements: dict
        required: true
      privileges:
        description: What its container may do, as for M(apiary.swarm.container_machine).
        type: str
        choices: [auto, privileged, narrow]
        default: auto
      timeout_seconds:
        description: How long its engine may take to answer.
        type: int
        default: 60
  engine:
    description: The engine that the nodes are containers of.
    type: str
    required: true
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  network:
    description: Range of the cluster's network, in CIDR notation.
    type: str
    required: true
  loopback_network:
    description: Range of the entrypoints, in CIDR notation.
    type: str
    required: true
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Check what the nodes need
  apiary.swarm.container_preflight:
    nodes: "{{ container_machine_specifications }}"
    engine: unix:///var/run/docker.sock
    cluster: apiary
    network: 192.168.97.0/24
    loopback_network: 127.0.97.0/24
  run_once: true
"""

RETURN = r"""
problems:
  description: What is wrong, a sentence each, with the variable, its value and the remedy.
  returned: always
  type: list
  elements: str
  sample: ["container_machine_network is 192.168.97.0/24, which overlaps with the Docker network lab: ..."]
missing:
  description: The nodes that have no container yet.
  returned: success
  type: list
  elements: str
  sample: ["node4"]
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "nodes": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "entrypoint": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "published_ports": {"type": "list", "elements": "dict", "required": True},
            "privileges": {"type": "str", "choices": ["auto", "privileged", "narrow"], "default": "auto"},
            "timeout_seconds": {"type": "int", "default": 60},
        },
    },
    "engine": {"type": "str", "required": True},
    "cluster": {"type": "str", "required": True},
    "network": {"type": "str", "required": True},
    "loopback_network": {"type": "str", "required": True},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller; call it as apiary.swarm.container_preflight from a play"
    )


if __name__ == "__main__":
    main()

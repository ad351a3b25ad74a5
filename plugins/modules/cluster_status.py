#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a cluster is: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: cluster_status
short_description: Say how a cluster is, for people and for programs
version_added: 0.1.0
description:
  - Asks every engine of the inventory, one manager, and every published port through every node, each once and all at
    the same time. So it is quick, and dead machines are told rather than waited for.
  - Fails when there is a problem, so that the exit status says whether the cluster is healthy. Problems are an engine
    that does not answer, managers out of reach, no leader, a node that is not ready, a host that is no node, a service
    that lacks tasks or fails, a published port that does not answer, and a certificate that has ended.
  - Warnings are what may become a problem - certificates that end within 30 days, clocks that differ by a minute, an
    update under way, a node that was drained to be stopped.
  - Differences are what the inventory and the stack's template ask for and the swarm has not, or has besides, such as
    nodes that the inventory does not name. They make nothing unhealthy; M(apiary.swarm.cluster_verify) is stricter.
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description: The same in check mode, as nothing is changed.
  diff_mode:
    support: N/A
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
options:
  name:
    description: Name of the cluster, for the report.
    type: str
    required: true
  managers:
    description: Names of the hosts that are to be managers.
    type: list
    elements: str
    required: true
  workers:
    description: Names of the hosts that are to be workers.
    type: list
    elements: str
    required: true
  endpoints:
    description: How each host's engine is reached, its C(machine_docker) by its name. Empty where that is unknown.
    type: dict
    required: true
  entrypoints:
    description: Where each host's published ports are reached, its C(machine_entrypoint) by its name.
    type: dict
    required: true
  addresses:
    description: The address that each node is to have in the swarm, C(machine_address) by name. None is asked for else.
    type: dict
    default: {}
  labels:
    description: The labels that each node has at least, a dict by name.
    type: dict
    default: {}
  availability:
    description: The availability of each node, by name; V(keep), or none, where the inventory asks for none.
    type: dict
    default: {}
  networks:
    description: The addresses and networks that each host uses itself, C(machine_networks) by name.
    type: dict
    default: {}
  stack:
    description: Name of the stack that the compose file describes.
    type: str
    required: true
  compose:
    description: Text of the compose file that the stack is to run, as M(apiary.swarm.stack_render) returns it.
    type: str
    required: true
  timeout_seconds:
    description: How long an engine, or a published port, may take for its answer.
    type: int
    default: 10
  file:
    description: A file on the controller to which the status is written as JSON, for programs. None by default.
    type: path
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Say how the cluster is
  apiary.swarm.cluster_status:
    name: apiary
    managers: [myvm1]
    workers: [myvm2]
    endpoints: "{{ {'myvm1': hostvars.myvm1.machine_docker, 'myvm2': hostvars.myvm2.machine_docker} }}"
    entrypoints: {myvm1: 127.0.99.101, myvm2: 127.0.99.102}
    addresses: {myvm1: 192.168.99.101, myvm2: 192.168.99.102}
    stack: getstartedlab
    compose: "{{ stack_definition.compose }}"
"""

RETURN = r"""
status:
  description: The status, as it is written to O(file).
  returned: when the cluster is healthy
  type: dict
  sample:
    cluster: apiary
    time: "2026-11-23T12:00:00+00:00"
    healthy: false
    problems: ["myvm2 is down, not ready, for 5 min or longer"]
    warnings: []
    differences: ["myvm7 (worker, ready) is not in the inventory: playbooks/remove_node.yml -e node=myvm7 removes it"]
    swarm: {id: k6ypkhwnqk2b, asked: myvm1, managers: 1, reachable_managers: 1, node_certificate_days: 90}
    nodes:
      - {name: myvm1, host: myvm1, role: manager, leader: true, state: ready, availability: active, tasks: 5,
         engine_version: 20.10.24, api_version: "1.41", engine_answers: true, clock_seconds: 0.1}
    services:
      - {name: getstartedlab_web, stack: getstartedlab, mode: replicated, wanted: 5, running: 5, state: converged,
         ports: [4000], tasks: [{slot: 1, node: myvm1, state: running, since: "2026-11-23T11:00:00Z"}]}
    endpoints:
      - {service: getstartedlab_web, port: 4000, node: myvm1, url: "http://127.0.99.101:4000", answers: true}
    certificates:
      - {of: this computer, ends: "2028-11-22T12:00:00+00:00", days_left: 729}
cluster_report:
  description: The status in words. The callback P(apiary.swarm.phases#callback) prints it at the end of the run.
  returned: when the cluster is healthy
  type: str
"""

_NAMES: dict[str, Any] = {"type": "list", "elements": "str", "required": True}
ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "managers": _NAMES,
    "workers": _NAMES,
    "endpoints": {"type": "dict", "required": True},
    "entrypoints": {"type": "dict", "required": True},
    "addresses": {"type": "dict", "default": {}},
    "labels": {"type": "dict", "default": {}},
    "availability": {"type": "dict", "default": {}},
    "networks": {"type": "dict", "default": {}},
    "stack": {"type": "str", "required": True},
    "compose": {"type": "str", "required": True},
    "timeout_seconds": {"type": "int", "default": 10},
    "file": {"type": "path"},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller; call it as apiary.swarm.cluster_status from a playbook"
    )


if __name__ == "__main__":
    main()

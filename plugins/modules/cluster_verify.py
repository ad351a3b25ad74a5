#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a cluster keeps what Apiary promises: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: cluster_verify
short_description: Prove that a cluster is what its inventory and its stack's template ask for
version_added: 0.1.0
description:
  - Asks every engine of the inventory, and one manager for the swarm, what there is, all at once; compares it with what
    the inventory and the compose file ask for; and asks every published port through every entrypoint until every task
    was heard. Fails when a promise is broken, and says which and why.
  - C(engines) - the engine of every host of the inventory answers.
  - C(tls) - an engine's TCP port serves no client without a certificate.
  - C(quorum) - every manager is reachable, and they manage one swarm with one leader.
  - C(nodes) - every host is one node of the swarm, in its role, at its address, ready, with its availability and its
    labels.
  - C(strangers) - the swarm has no node that the inventory does not name.
  - C(workers) - a worker belongs to this very swarm, and does not list its nodes.
  - C(networks) - no network of the swarm meets an address, a route or a name server of a host, which would be out of
    reach for its containers. That only a pool does, from which networks to come get their addresses, is a remark.
  - C(services) - the swarm runs every service as the template asks, as many tasks, from its image.
  - C(limits) - the containers have the limits that the template asks for, as their nodes' engines have set them.
  - C(spread) - the tasks of a service are spread over the nodes as evenly as their numbers allow. Swarm moves no task
    that runs, so what became uneven when a node came or tasks were replaced is a remark, unless O(strict) is set.
    Services that the template places, by constraints, preferences or reservations, are left out.
  - C(answers) - every published port answers through every entrypoint, from every task behind it.
  - What could not be looked at counts as broken.
  - It works on any cluster that the endpoints lead to, and changes nothing.
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
    description: Name of the stack.
    type: str
    required: true
  compose:
    description: Text of the compose file that the stack is to run, as M(apiary.swarm.stack_render) returns it.
    type: str
    required: true
  images:
    description: What published images are called in their registry, by their names in O(compose).
    type: dict
    default: {}
  timeout_seconds:
    description: How long to ask the published ports at most.
    type: int
    default: 60
  strict:
    description: Whether tasks that are spread unevenly break a promise whatever the cause.
    type: bool
    default: false
  file:
    description: A file on the controller to which the verdicts are written as JSON, for programs. None by default.
    type: path
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Verify the cluster
  apiary.swarm.cluster_verify:
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
promises:
  description: The verdict on each promise.
  returned: always
  type: list
  elements: dict
  sample:
    - name: limits
      kept: false
      findings: ["web.3 on myvm2: has no limit of memory, the template asks for 50 MiB of memory"]
      remarks: []
cluster_report:
  description: The verdicts in words. The callback P(apiary.swarm.phases#callback) prints them at the end of the run.
  returned: when all promises are kept
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
    "images": {"type": "dict", "default": {}},
    "timeout_seconds": {"type": "int", "default": 60},
    "strict": {"type": "bool", "default": False},
    "file": {"type": "path"},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller; call it as apiary.swarm.cluster_verify from a playbook"
    )


if __name__ == "__main__":
    main()

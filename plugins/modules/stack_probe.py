#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_probe
short_description: Ask a stack's published ports through every entrypoint until every task has been heard
description:
  - Proves that a stack answers. For each TCP port that it publishes through the routing mesh or the proxy of
    M(apiary.swarm.stack_ingress), requests go to every entrypoint, each over a connection of its own, until every
    running task of the service has answered. A drained node has no proxy, so that it is not asked for such a port.
  - A task is recognised by the first 12 characters of its container ID (its host name) in the answer. Where answers
    name none, an answer through every entrypoint is all that can be proved, and the result says so. For a port that
    does not speak HTTP it is a connection that is accepted and kept open. Redis, which is whoever has the port 6379
    in its container, is asked C(PING). A port that spoke HTTP through one entrypoint has to through all.
  - An HTTP status of 500 or more is no answer.
version_added: 0.1.0
author:
  - The Apiary developers
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: none
    description: Skipped, since what would answer may not be there yet.
  diff_mode:
    support: N/A
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
extends_documentation_fragment:
  - apiary.swarm.endpoint
options:
  name:
    description: Name of the stack.
    type: str
    required: true
  entrypoints:
    description: The addresses to ask at, usually one for each node.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the node, for messages.
        type: str
        required: true
      address:
        description: Address, as in C(machine_entrypoint).
        type: str
        required: true
  timeout_seconds:
    description: How long to ask at most, over all ports and entrypoints.
    type: int
    default: 60
  missing_ok:
    description: Whether a swarm without this stack is fine. Then nothing is asked.
    type: bool
    default: false
  repair:
    description:
      - Whether to start the tasks of a service anew that was not heard whole, one batch after another as its update
        configuration says, and then to ask again. The routing mesh of engine 20.10 loses tasks when a node restarts or
        a published port changes, and finds them again only so.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Ask through every node until every task has been heard
  apiary.swarm.stack_probe:
    docker: "{{ stack_docker }}"
    name: getstartedlab
    entrypoints:
      - {name: myvm1, address: 127.0.99.101}
      - {name: myvm2, address: 127.0.99.102}
"""

RETURN = r"""
repaired:
  description: The services whose tasks were started anew.
  returned: always, unless skipped
  type: list
  elements: str
  sample: [web]
ports:
  description: For each port and entrypoint the number of requests, and of answers by container ID.
  returned: always, unless skipped
  type: list
  elements: dict
  sample:
    - service: web
      port: 4000
      entrypoint: myvm1
      address: 127.0.99.101
      requests: 2
      heard: {7fc2aa6579b9: 1, 0f01aa860247: 1}
      identified: true
      http: true
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import ENDPOINT_SPEC

ARGUMENT_SPEC = {
    "docker": {"type": "dict", "required": True, "options": ENDPOINT_SPEC},
    "name": {"type": "str", "required": True},
    "entrypoints": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"name": {"type": "str", "required": True}, "address": {"type": "str", "required": True}},
    },
    "timeout_seconds": {"type": "int", "default": 60},
    "missing_ok": {"type": "bool", "default": False},
    "repair": {"type": "bool", "default": True},
}


def main() -> None:
    """Explain: the work is done by the action plugin of the same name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(msg="stack_probe runs as an action plugin on the controller: call it as apiary.swarm.stack_probe")


if __name__ == "__main__":
    main()

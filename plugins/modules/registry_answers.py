#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_answers
short_description: Prove that every node reaches the registry service
description:
  - Has the engine of every node, all at once, ask the registry for an image that nobody has, until the registry says
    that it does not know it.
  - Where it stays silent on a node, the routing mesh may have lost its task: it is started anew, once.
version_added: 0.1.0
author:
  - The Apiary developers
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description: Asks nothing.
  diff_mode:
    support: N/A
    description: There is nothing to show of a task that is started anew.
  idempotent:
    support: full
    description: A registry that answers is left alone.
extends_documentation_fragment:
  - apiary.swarm.endpoint
  - apiary.swarm.endpoint.nodes
options:
  name:
    description: Name of the registry's stack.
    type: str
    required: true
  registry:
    description: What the nodes call it, such as C(127.0.0.1:5000).
    type: str
    required: true
  proxied:
    description: Whether a proxy on every node publishes its port, which a drained node does not have.
    type: bool
    default: false
  timeout_seconds:
    description: How long to ask.
    type: int
    default: 60
  repair:
    description: Whether its task is started anew where it does not answer.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Hear the registry on every node
  apiary.swarm.registry_answers:
    docker: "{{ registry_docker }}"
    nodes: "{{ registry_nodes }}"
    name: registry
    registry: 127.0.0.1:5000
"""

RETURN = r"""
unserved:
  description: The names of nodes that were not asked, as they are drained and so have no proxy.
  returned: success, except in check mode
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import ENDPOINT_SPEC, NODES_SPEC

ARGUMENT_SPEC = {
    "docker": {"type": "dict", "required": True, "options": ENDPOINT_SPEC},
    "nodes": NODES_SPEC,
    "name": {"type": "str", "required": True},
    "registry": {"type": "str", "required": True},
    "proxied": {"type": "bool", "default": False},
    "timeout_seconds": {"type": "int", "default": 60},
    "repair": {"type": "bool", "default": True},
}


def main() -> None:
    """Explain: the work is done by the action plugin of the same name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="registry_answers runs as an action plugin on the controller: call it as apiary.swarm.registry_answers"
    )


if __name__ == "__main__":
    main()

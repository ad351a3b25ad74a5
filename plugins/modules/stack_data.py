#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_data
short_description: Have directories for the data of a stack's services, on the one node that keeps it
description:
  - Services that bind a directory of the node find the data there only where it is. They ask for the node with the
    label C(apiary.data=true). This sets the label, on O(node) or the first of O(endpoints), when no node has it, and
    never moves it; where data would be left behind it fails, and says what can be done.
  - What services with that constraint bind below O(data_dir) is made there, for the user that the service or its image
    names by a number, or for root. What is there is left as it is.
  - A service that binds something below O(data_dir) and may start on any node is refused.
  - Asks the manager for services and nodes, and acts only when a service is not there yet, binds another directory, or
    no node has the label. Works through the Docker API alone, with the node's own programs.
version_added: 0.1.0
author:
  - The Apiary developers
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description: Foretells. Whether a directory is there, is not looked at, as that takes a container.
  diff_mode:
    support: none
    description: The actions say it all.
  idempotent:
    support: full
    description: A second run changes nothing.
extends_documentation_fragment:
  - apiary.swarm.endpoint
options:
  name:
    description: Name of the stack.
    type: str
    required: true
  compose:
    description: The compose file, as M(apiary.swarm.stack_render) returns it.
    type: str
    required: true
  data_dir:
    description: The directory for data on the node that keeps it, as in C(machine_data_dir).
    type: str
    required: true
  endpoints:
    description: How each host's engine is reached, a C(machine_docker) dict by name of the host, managers first.
    type: dict
    required: true
  data_dirs:
    description: The C(machine_data_dir) of each host, by its name; that of another host is refused.
    type: dict
    default: {}
  node:
    description: Name of the host that is to keep data when no node does yet. When another one does, it is refused.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Have the directories for data
  apiary.swarm.stack_data:
    docker: "{{ stack_docker }}"
    name: getstartedlab
    compose: "{{ stack_definition.compose }}"
    data_dir: /var/lib/apiary
    endpoints: {myvm1: "{{ hostvars.myvm1.machine_docker }}"}
    data_dirs: {myvm1: /var/lib/apiary}
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be.
  returned: success
  type: list
  elements: str
  sample:
    - make /var/lib/apiary/getstartedlab/redis on myvm1
    - "have myvm1 keep the data of stacks: label apiary.data=true"
node:
  description: The node that keeps the data; empty for a stack that has none.
  returned: success
  type: str
  sample: myvm1
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import ENDPOINT_SPEC

ARGUMENT_SPEC: dict[str, Any] = {
    "docker": {"type": "dict", "required": True, "options": ENDPOINT_SPEC},
    "name": {"type": "str", "required": True},
    "compose": {"type": "str", "required": True},
    "data_dir": {"type": "str", "required": True},
    "endpoints": {"type": "dict", "required": True},
    "data_dirs": {"type": "dict", "default": {}},
    "node": {"type": "str", "default": ""},
}


def main() -> None:
    """Explain: the work is done by the action plugin of the same name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(msg="stack_data runs as an action plugin on the controller: call it as apiary.swarm.stack_data")


if __name__ == "__main__":
    main()

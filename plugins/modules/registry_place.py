#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_place
short_description: Say on which node the registry runs
description:
  - A registry's images are on a volume of one node, so that is where it runs. A service that is there says which; for a
    new one it is the manager that is asked or, where that takes no tasks, another node, managers first.
  - A node with the data that is down or drained stays the registry's. One that is no longer in the swarm is given up,
    with a warning.
version_added: 0.1.0
author:
  - The Apiary developers
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description: Changes nothing in either mode. Where there is no swarm yet, the place is empty.
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
    description: Name of the registry's stack.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Find the node with the registry's data
  apiary.swarm.registry_place:
    docker: "{{ registry_docker }}"
    name: registry
  register: __registry_place
"""

RETURN = r"""
node_id:
  description: ID of the node.
  returned: success
  type: str
  sample: dh2inyigvvtnpbafzbpssjw2s
node:
  description: Its host name.
  returned: success
  type: str
  sample: node1
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import ENDPOINT_SPEC

ARGUMENT_SPEC = {
    "docker": {"type": "dict", "required": True, "options": ENDPOINT_SPEC},
    "name": {"type": "str", "required": True},
}


def main() -> None:
    """Explain: the work is done by the action plugin of the same name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="registry_place runs as an action plugin on the controller: call it as apiary.swarm.registry_place"
    )


if __name__ == "__main__":
    main()

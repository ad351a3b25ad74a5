#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_backup
short_description: Copy what a stack's services keep in directories of a node to the controller
description:
  - A service says what is to be copied by labels, under C(deploy) in the compose file. C(apiary.backup) is the file or
    directory as its containers see it, inside a directory that it binds from the node. C(apiary.backup.save) is a
    command that is run in the container first, and makes it a copy of one moment. C(apiary.backup.check) is one that
    says what data there is; it is kept with the copy, and M(apiary.swarm.stack_restore) goes by it.
  - The service goes on meanwhile. The file appears when it is whole, and only its owner may read it.
  - Works through the Docker API alone. Nothing in the swarm or on a machine is changed, so a backup is no change.
version_added: 0.1.0
author:
  - The Apiary developers
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description: Says which services would be copied, and where to.
  diff_mode:
    support: none
    description: Data is not shown.
  idempotent:
    support: full
    description: Changes nothing but the file.
extends_documentation_fragment:
  - apiary.swarm.endpoint
options:
  name:
    description: Name of the stack.
    type: str
    required: true
  endpoints:
    description: How each host's engine is reached, a C(machine_docker) dict by name of the host.
    type: dict
    required: true
  services:
    description: Names of services in the compose file; empty for all that say what is to be copied.
    type: list
    elements: str
    default: []
  file:
    description:
      - The file to write, which must not be there.
      - Empty for one in O(directory), with the stack's name and the time.
    type: path
    default: ""
  directory:
    description: Where files without a name of their own are; made for its owner alone.
    type: path
    default: .
  timeout_seconds:
    description: How long a save, a check or a pause of the engine may take.
    type: int
    default: 300
"""

EXAMPLES = r"""
- name: Copy the data of the stack
  apiary.swarm.stack_backup:
    docker: "{{ machine_docker }}"
    name: getstartedlab
    endpoints: {myvm1: "{{ hostvars.myvm1.machine_docker }}"}
    directory: ~/.local/state/apiary/apiary.backups
"""

RETURN = r"""
file:
  description: The file.
  returned: success
  type: str
  sample: /home/ann/.local/state/apiary/apiary.backups/getstartedlab-20261125T172148Z.tar.gz
services:
  description: The bytes copied of each service, and what its check said.
  returned: success, except in check mode
  type: dict
  sample: {redis: {bytes: 187, contents: "1 keys, 42 visits"}}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import ENDPOINT_SPEC

ARGUMENT_SPEC: dict[str, Any] = {
    "docker": {"type": "dict", "required": True, "options": ENDPOINT_SPEC},
    "name": {"type": "str", "required": True},
    "endpoints": {"type": "dict", "required": True},
    "services": {"type": "list", "elements": "str", "default": []},
    "file": {"type": "path", "default": ""},
    "directory": {"type": "path", "default": "."},
    "timeout_seconds": {"type": "int", "default": 300},
}


def main() -> None:
    """Explain: the work is done by the action plugin of the same name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="stack_backup runs as an action plugin on the controller: call it as apiary.swarm.stack_backup"
    )


if __name__ == "__main__":
    main()

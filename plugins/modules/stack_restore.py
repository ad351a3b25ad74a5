#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_restore
short_description: Put back what a stack's services kept when a backup was made
description:
  - The file of M(apiary.swarm.stack_backup) is read to its end first, and the services that are to have its data are
    looked for. Then for each the data is put beside what is there; the service is stopped, the two directories are
    exchanged, and it is started. It must run, and its C(apiary.backup.check), given what it said when the backup was
    made, must succeed.
  - Where it does not, what was there before is put back and the service started with it. A run that is interrupted
    leaves one or the other whole, and running again finishes.
  - What was there before stays beside it, in a directory with C(.before-restore) and the time at the end of its name.
    It is yours to remove.
  - Works through the Docker API alone, with the node's own programs.
version_added: 0.1.0
author:
  - The Apiary developers
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description: Says which services would be restored.
  diff_mode:
    support: none
    description: Data is not shown.
  idempotent:
    support: none
    description: Each run puts the data of the backup in place.
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
    description: Names of services in the compose file; empty for all that are in the backup.
    type: list
    elements: str
    default: []
  file:
    description:
      - The backup; empty for the newest one of the stack in O(directory).
    type: path
    default: ""
  directory:
    description: Where backups without a name of their own are.
    type: path
    default: .
  timeout_seconds:
    description: How long each step may take, a stop, a start, a check or a copy.
    type: int
    default: 300
"""

EXAMPLES = r"""
- name: Put the data back
  apiary.swarm.stack_restore:
    docker: "{{ machine_docker }}"
    name: getstartedlab
    endpoints: {myvm1: "{{ hostvars.myvm1.machine_docker }}"}
    file: /backups/getstartedlab-20261125T172148Z.tar.gz
"""

RETURN = r"""
file:
  description: The backup.
  returned: success
  type: str
  sample: /home/ann/.local/state/apiary/apiary.backups/getstartedlab-20261125T172148Z.tar.gz
services:
  description: What each service's check said when the backup was made, and what it says now.
  returned: success
  type: dict
  sample: {redis: {contents: "1 keys, 42 visits", now: "1 keys, 42 visits"}}
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
        msg="stack_restore runs as an action plugin on the controller: call it as apiary.swarm.stack_restore"
    )


if __name__ == "__main__":
    main()

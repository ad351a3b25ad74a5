#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A context of the Docker client: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: docker_context
short_description: Point Docker clients on this computer at a cluster, and take it back
version_added: 0.1.0
description:
  - Writes a context of the Docker client, so that C(docker --context NAME) talks to the cluster, and files by which sh,
    fish and PowerShell are pointed at it and back. No Docker client is needed for that.
  - A context of the same name that was not made for the cluster is left alone, and the task fails.
  - When the context is removed that the client uses by default, the client goes back to its own.
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
    description: A second run changes nothing.
options:
  name:
    description: Name of the context.
    type: str
    required: true
  state:
    description: Whether the context and the files are there.
    type: str
    choices: [present, absent]
    default: present
  cluster:
    description: Name of the cluster. Contexts are marked with it.
    type: str
    required: true
  docker:
    description: The endpoint of a manager's engine, as in C(machine_docker). Needed for V(present) of O(state).
    type: dict
    default: {}
  config_directory:
    description: The directory of the Docker client, as in the variable C(DOCKER_CONFIG).
    type: path
    required: true
  directory:
    description: The directory of the files for shells.
    type: path
    required: true
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Have a context for the cluster
  apiary.swarm.docker_context:
    name: apiary
    cluster: apiary
    docker: "{{ machine_docker }}"
    config_directory: ~/.docker
    directory: ~/.local/state/apiary/apiary/access
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, in words.
  returned: success
  type: list
  elements: str
  sample: ["write the context apiary"]
cluster_report:
  description: How to use it. The callback P(apiary.swarm.phases#callback) prints it at the end of the run.
  returned: success
  type: str
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "cluster": {"type": "str", "required": True},
    "docker": {"type": "dict", "default": {}},
    "config_directory": {"type": "path", "required": True},
    "directory": {"type": "path", "required": True},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller; call it as apiary.swarm.docker_context from a playbook"
    )


if __name__ == "__main__":
    main()

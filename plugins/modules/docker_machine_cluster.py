# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All machines of a cluster: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: docker_machine_cluster
short_description: Remove all machines that docker-machine has of a cluster
version_added: 0.1.0
description:
  - Removes the machines whose engine is labelled with the cluster, also those that no inventory names any more, and
    what is left of half-made ones.
  - Machines that Apiary has not made are left alone, unless they were adopted. Docker-machine's authority, its ISO
    and VirtualBox's host-only adapter stay, as other machines may use them.

attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  state:
    description: V(absent) is all there is.
    type: str
    choices: [absent]
    default: "absent"
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  names:
    description: Names of the machines that the inventory has.
    type: list
    elements: str
    default: []
  only_named:
    description: Whether only machines of these names are removed, not all that the cluster has.
    type: bool
    default: false
  adopt:
    description: Whether machines of these names are removed that were not made for the cluster.
    type: bool
    default: false
  executable:
    description: The program, by its name in C(PATH) or its path.
    type: str
    default: "docker-machine"
  storage_path:
    description: Docker-machine's directory.
    type: path
    default: "~/.docker/machine"
  timeout_seconds:
    description: How long the removal of a machine may take.
    type: int
    default: 120
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Remove the machines
  apiary.swarm.docker_machine_cluster:
    state: absent
    cluster: apiary
    names: [myvm1, myvm2]
  run_once: true
"""

RETURN = r"""
removed:
  description: What was removed, or in check mode would be.
  returned: always
  type: list
  elements: str
  sample: ["myvm1", "myvm2"]
foreign:
  description: Machines of the given names that are not the cluster's, and were left alone.
  returned: always
  type: list
  elements: str
  sample: []
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["absent"], "default": "absent"},
    "cluster": {"type": "str", "required": True},
    "names": {"type": "list", "elements": "str", "default": []},
    "only_named": {"type": "bool", "default": False},
    "adopt": {"type": "bool", "default": False},
    "executable": {"type": "str", "default": "docker-machine"},
    "storage_path": {"type": "path", "default": "~/.docker/machine"},
    "timeout_seconds": {"type": "int", "default": 120},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller: call it as apiary.swarm.docker_machine_cluster"
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A certificate for another person: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: access_certificate
short_description: Let another person use a cluster, with a certificate of their own, and shut them out
version_added: 0.1.0
description:
  - V(present) of O(state) makes a key and a certificate from the cluster's own authority, and packs a context of the
    Docker client with them, to be handed over. The file is readable by its owner only. Whoever has it may do
    everything on every node.
  - V(absent) puts all certificates of the person on the list of revoked ones. Engines heed it once they have it, which
    the roles of the machines see to (C(tasks_from) revoke).
  - Where machines cannot heed it, nothing is made - a certificate that cannot be revoked would be a key for ever.
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
    description: A second run changes nothing. A certificate near its end is made anew.
options:
  name:
    description: The person, for the certificate's subject and the names of files.
    type: str
    required: true
  state:
    description: Whether the person is let in.
    type: str
    choices: [present, absent]
    default: present
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  context:
    description: Name of the context that is packed.
    type: str
    required: true
  docker:
    description: The endpoint of a manager's engine, as in C(machine_docker), to which the context leads.
    type: dict
    required: true
  providers:
    description: The role that makes each host's machine, by the host's name.
    type: dict
    required: true
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Let Ann in
  apiary.swarm.access_certificate:
    name: ann
    cluster: apiary
    context: apiary
    docker: "{{ machine_docker }}"
    providers: {myvm1: qemu_machine, myvm2: qemu_machine}
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, in words.
  returned: success
  type: list
  elements: str
  sample: ["make a certificate for ann", "write /home/bob/.local/state/apiary/apiary/persons/ann/ann.tar"]
cluster_report:
  description: What to do with it. The callback P(apiary.swarm.phases#callback) prints it at the end of the run.
  returned: success
  type: str
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "cluster": {"type": "str", "required": True},
    "context": {"type": "str", "required": True},
    "docker": {"type": "dict", "required": True},
    "providers": {"type": "dict", "required": True},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(msg="this runs as an action plugin on the controller: call it as apiary.swarm.access_certificate")


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_secrets
short_description: Have a stack's secrets and configs in the swarm, a version for each content
description:
  - The content of a swarm's secret or config cannot change. So each content is a secret or config of its own, named
    C(STACK_NAME-VERSION), and the compose file that this returns names the version where the given one says
    C(external=true) and the plain name. A service that uses something whose content has changed is a changed service,
    and the others are as before.
  - The version of a secret follows from its content by scrypt, salted with the ID of the swarm, so that a weak one
    cannot be found from its name. A generated secret is made once, is in no file, and stays until it is rotated.
  - What the compose file takes from the swarm besides must be there, or nothing is made.
  - Contents are in no result and in no message. Tasks that are given them should have C(no_log) all the same; why one
    fails is shown above its result.
version_added: 0.1.0
author:
  - The Apiary developers
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description: Says which would be made, by their names. A swarm that is not there yet has none.
  diff_mode:
    support: none
    description: Contents are not shown. M(apiary.swarm.stack_deploy) shows the names of versions.
  idempotent:
    support: partial
    description: A second run changes nothing, except with O(rotate).
options:
  state:
    description:
      - V(checked) only looks at the entries and the files they name, without any engine.
      - V(present) has all that the compose file uses in the swarm.
      - V(swept) removes O(superseded), except what a service uses.
    type: str
    choices: [checked, present, swept]
    default: present
  docker:
    description: The endpoint of a manager's engine, as in C(machine_docker). Needed unless O(state=checked).
    type: dict
    suboptions:
      docker_host:
        description: Address of the engine, C(tcp://…), C(ssh://…) or C(unix://…).
        type: str
        required: true
      tls:
        description: Whether to use TLS.
        type: bool
        default: false
      validate_certs:
        description: Whether to use TLS and to verify the engine's certificate.
        type: bool
        default: false
      ca_path:
        description: CA certificate of the engines.
        type: path
      client_cert:
        description: Certificate of the client.
        type: path
      client_key:
        description: Key of the client.
        type: path
  name:
    description: Name of the stack.
    type: str
    required: true
  compose:
    description: The compose file, as M(apiary.swarm.stack_render) returns it. Needed with O(state=present).
    type: str
  secrets:
    description:
      - Secrets, each with a C(name) and one of C(value), C(file) (a path on the controller, looked up like a template;
        one that ansible-vault has encrypted is decrypted) and C(generate) (a number of letters and digits).
      - Checked here and not by Ansible, whose messages would show a value that is not a text.
    type: list
    elements: raw
    default: []
  configs:
    description: Configs, each with a C(name) and one of C(value) and C(file).
    type: list
    elements: raw
    default: []
  rotate:
    description: Names of generated secrets to make anew.
    type: list
    elements: str
    default: []
  superseded:
    description: What RV(superseded) says, for O(state=swept).
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Have the stack's secrets and configs in the swarm
  apiary.swarm.stack_secrets:
    docker: "{{ stack_docker }}"
    name: getstartedlab
    compose: "{{ stack_definition.compose }}"
    secrets:
      - name: redis_password
        generate: 32
      - name: visualizer_login
        value: "ann:{{ vault_visualizer_password }}"
    configs:
      - name: motd
        file: files/motd
  register: __stack_secrets
  no_log: true

- name: Remove the versions that nothing uses any more
  apiary.swarm.stack_secrets:
    state: swept
    docker: "{{ stack_docker }}"
    name: getstartedlab
    superseded: "{{ __stack_secrets.superseded }}"
"""

RETURN = r"""
compose:
  description: The compose file to deploy.
  returned: with O(state=present)
  type: str
  sample: "secrets:\n  redis_password:\n    external: true\n    name: getstartedlab_redis_password-3f0c9a71d2e4\n"
actions:
  description: What was made, or in check mode would be, by name.
  returned: with O(state=present)
  type: list
  elements: str
  sample: [make secret redis_password]
superseded:
  description: Versions that the compose file does not name any more.
  returned: with O(state=present)
  type: list
  elements: dict
  sample: [{kind: secrets, id: x7qmfzs4hrn5, name: getstartedlab_redis_password-0b41c3d7e6aa}]
removed:
  description: The names of what was removed, or in check mode would be.
  returned: with O(state=swept)
  type: list
  elements: str
  sample: [getstartedlab_redis_password-0b41c3d7e6aa]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import ENDPOINT_SPEC

ARGUMENT_SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["checked", "present", "swept"], "default": "present"},
    "docker": {"type": "dict", "options": ENDPOINT_SPEC},
    "name": {"type": "str", "required": True},
    "compose": {"type": "str"},
    "secrets": {"type": "list", "elements": "raw", "default": [], "no_log": True},
    "configs": {"type": "list", "elements": "raw", "default": []},
    "rotate": {"type": "list", "elements": "str", "default": []},
    "superseded": {"type": "list", "elements": "dict", "default": []},
}
RELATIONS: dict[str, Any] = {
    "required_if": [("state", "present", ("docker", "compose")), ("state", "swept", ("docker",))]
}


def main() -> None:
    """Explain: the work is done by the action plugin of the same name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True, **RELATIONS)
    module.fail_json(
        msg="stack_secrets runs as an action plugin on the controller: call it as apiary.swarm.stack_secrets"
    )


if __name__ == "__main__":
    main()

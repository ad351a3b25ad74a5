# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the engine of a boot2docker guest listens: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: boot2docker_profile
short_description: Set how the engine of a boot2docker guest listens, in its profile
version_added: 0.1.0
description:
  - Patches C(DOCKER_TLS) and C(DOCKER_HOST) in C(/var/lib/boot2docker/profile) over SSH and nothing else, keeps the
    profile that was there as C(profile.before-apiary), and restarts the engine only if something is to be changed.
    Needs C(sh) and C(sudo) in the guest, and no Python.
  - Waits for each port and for an answer of the API. If they do not come, the old profile is put back.
  - Docker-machine's C(provision) and C(regenerate-certs) write the profile anew; the next run patches it again.
    Without TLS, docker-machine's C(env), C(config), C(version), C(upgrade) and the DOCKER column of C(ls) do not
    work.

attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  name:
    description: Name of the machine, for messages and its SSH host key.
    type: str
    required: true
  address:
    description: Its address.
    type: str
    required: true
  directory:
    description: >-
      The directory with its SSH key C(id_rsa), and with C(ca.pem), C(cert.pem) and C(key.pem) of the client.
    type: path
    required: true
  state:
    description:
      - V(patched) has the engine listen as wanted.
      - >-
        V(observed) only looks: it returns what is so, and changes nothing.
    type: str
    choices: [patched, observed]
    default: "patched"
  ssh_user:
    description: The user that may use sudo.
    type: str
    default: "docker"
  tls:
    description: >-
      Whether the API takes clients with certificates only. V(false) lets anyone who reaches it be root on the
      machine.
    type: bool
    default: true
  listen:
    description: The address on which the API listens; empty for O(address).
    type: str
    default: ""
  ports:
    description: Ports of the API. 2376 must be one of them, as docker-machine waits for it.
    type: list
    elements: int
    default: [4040, 2376]
  timeout_seconds:
    description: How long the engine may take to open its ports and to answer.
    type: int
    default: 90
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Keep TLS, and listen on 4040 too
  apiary.swarm.boot2docker_profile:
    name: myvm1
    address: 192.168.59.31
    directory: ~/.docker/machine/machines/myvm1

- name: The tutorial's setting to the letter, open to all who reach the machine
  apiary.swarm.boot2docker_profile:
    name: myvm1
    address: 192.168.59.31
    directory: ~/.docker/machine/machines/myvm1
    tls: false
    listen: 0.0.0.0
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done, in words.
  returned: always
  type: list
  elements: str
  sample: ["patch the profile: TLS on, API on 192.168.59.31:4040, 2376", "restart the engine"]
endpoint:
  description: How the API is reached, a C(machine_docker) dict.
  returned: always
  type: dict
  sample: {"docker_host": "tcp://192.168.59.31:4040"}
kernel_lacks:
  description: Features that the guest's kernel lacks; C(ip_vs) or nothing.
  returned: always
  type: list
  elements: str
  sample: []
docker_group_id:
  description: Number of the group that may use the engine's socket; 0 where only root may.
  returned: always
  type: int
  sample: 101
engine_version:
  description: The engine's version.
  returned: always
  type: str
  sample: 19.03.12
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "address": {"type": "str", "required": True},
    "directory": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["patched", "observed"], "default": "patched"},
    "ssh_user": {"type": "str", "default": "docker"},
    "tls": {"type": "bool", "default": True},
    "listen": {"type": "str", "default": ""},
    "ports": {"type": "list", "elements": "int", "default": [4040, 2376]},
    "timeout_seconds": {"type": "int", "default": 90},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(msg="this runs as an action plugin on the controller: call it as apiary.swarm.boot2docker_profile")


if __name__ == "__main__":
    main()

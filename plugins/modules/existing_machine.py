# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host that exists, as a machine: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: existing_machine
short_description: A host that exists, with a Docker Engine, as a machine
version_added: 0.1.0
description:
  - Looks at a host, installs and starts an engine where there is none, and leads a socket of the controller to the
    engine's over SSH, so that no TCP port of the engine is opened. Runs in Ansible's own worker, and needs no Python
    on the host.
  - The host is reached as Ansible would reach it, by C(ansible_host), C(ansible_port), C(ansible_user),
    C(ansible_ssh_private_key_file), C(ansible_ssh_common_args) and the rest; root is become by C(sudo), as
    C(ansible_become_password) and its like say. Passwords for SSH itself are refused.
  - With C(ansible_connection=local) the host is this computer, and its engine is used as it is.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  name:
    description: Name of the host in the inventory.
    type: str
    required: true
  state:
    description:
      - V(observed) opens the connection and looks, as the host's user; what cannot be reached is a warning.
      - V(examined) also looks as root, and says what V(present) and V(configured) would do; what cannot be reached is
        put down in RV(problem).
      - V(present) installs and starts the engine where need be, gives the user its socket's group if asked for, and
        makes the directory for data.
      - V(configured) merges C(daemon.json), and restarts the engine if that has changed it.
      - V(started) and V(stopped) are the engine's.
      - V(closed) ends the connection.
    type: str
    choices: [observed, examined, present, configured, started, stopped, closed]
    default: present
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  socket:
    description: The engine's socket on the host.
    type: str
    default: /var/run/docker.sock
  docker_host:
    description: Address of the engine of this computer, where C(ansible_connection) is V(local).
    type: str
    default: unix:///var/run/docker.sock
  socket_dir:
    description: Directory on the controller for the sockets of connections; made if missing, for its owner only.
    type: path
    required: true
  data_dir:
    description: Directory on the host in which services keep data.
    type: str
    default: /var/lib/apiary
  engine_source:
    description:
      - Where a missing engine comes from on Debian and Ubuntu. On the RHEL family it is always Docker's repository.
    type: str
    choices: [distribution, docker]
    default: distribution
  repository_url:
    description: Docker's repository, or a mirror of it.
    type: str
    default: https://download.docker.com/linux
  daemon_json:
    description: What the engine's configuration is to have.
    type: dict
    default: {}
  daemon_json_overrides:
    description: Whether O(daemon_json) replaces what is there otherwise; without, that is kept and told.
    type: bool
    default: false
  docker_group:
    description:
      - Whether the host's user joins the group that may use the engine's socket, which makes it as good as root.
    type: bool
    default: false
  idle_seconds:
    description: How long a connection that nobody uses stays open.
    type: int
    default: 900
  timeout_seconds:
    description: How long the engine may take to answer after its start.
    type: int
    default: 120
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Look at the host
  apiary.swarm.existing_machine:
    name: "{{ inventory_hostname }}"
    state: examined
    cluster: apiary
    socket_dir: ~/.cache/apiary/ssh/apiary
  become: true

- name: Have an engine on it
  apiary.swarm.existing_machine:
    name: "{{ inventory_hostname }}"
    cluster: apiary
    socket_dir: ~/.cache/apiary/ssh/apiary
  become: true
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done, in words.
  returned: always
  type: list
  elements: str
  sample: ["install the engine (docker.io, from the distribution)", "start the engine"]
endpoint:
  description: How the engine is reached, as C(machine_docker).
  returned: always
  type: dict
  sample: {"docker_host": "unix:///home/ann/.cache/apiary/ssh/apiary/host1.sock"}
problem:
  description: Why the host cannot be looked at; empty if it can.
  returned: always
  type: str
  sample: "host1 (ann@192.0.2.7): does not answer: is it running, ..."
plan:
  description: What O(state=present) would do.
  returned: always
  type: list
  elements: str
  sample: ["start the engine"]
restarts:
  description: Whether O(state=configured) would change C(daemon.json).
  returned: always
  type: bool
  sample: false
seen:
  description: What the host and its engine say of themselves.
  returned: always
  type: dict
  sample: {"hostname": "host1", "kernel_lacks": [], "init": "systemd"}
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "state": {
        "type": "str",
        "choices": ["observed", "examined", "present", "configured", "started", "stopped", "closed"],
        "default": "present",
    },
    "cluster": {"type": "str", "required": True},
    "socket": {"type": "str", "default": "/var/run/docker.sock"},
    "docker_host": {"type": "str", "default": "unix:///var/run/docker.sock"},
    "socket_dir": {"type": "path", "required": True},
    "data_dir": {"type": "str", "default": "/var/lib/apiary"},
    "engine_source": {"type": "str", "choices": ["distribution", "docker"], "default": "distribution"},
    "repository_url": {"type": "str", "default": "https://download.docker.com/linux"},
    "daemon_json": {"type": "dict", "default": {}},
    "daemon_json_overrides": {"type": "bool", "default": False},
    "docker_group": {"type": "bool", "default": False},
    "idle_seconds": {"type": "int", "default": 900},
    "timeout_seconds": {"type": "int", "default": 120},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(msg="this runs as an action plugin on the controller: call it as apiary.swarm.existing_machine")


if __name__ == "__main__":
    main()

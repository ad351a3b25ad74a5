# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A machine of docker-machine: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: docker_machine
short_description: A machine made by docker-machine, idempotent where that program is not
version_added: 0.1.0
description:
  - Makes, starts, stops or removes one machine with docker-machine 0.16 or a fork that keeps its commands. Runs in
    Ansible's own worker on the controller.
  - A machine that docker-machine has left half-made is finished, or replaced where nothing can have been kept on it.
    Machines of one store are made one after another, whatever the number of hosts. Docker-machine's crash reporter is
    off.
  - An address is never taken from docker-machine's files, but asked for. With O(fixed_address), the machine has that
    address after each start; its certificate follows. A certificate that is about to expire, for another address, or
    from another authority is renewed.
  - What docker-machine cannot change of a machine (memory, CPUs, disk, engine labels) is reported in RV(pending) and
    as a warning.

attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  name:
    description: >-
      Name of the machine: letters, digits, hyphens.
    type: str
    required: true
  state:
    description:
      - V(present) makes the machine unless it is there (docker-machine starts what it makes).
      - V(started) starts it too, V(restarted) stops and starts it, V(stopped) shuts it down.
      - V(absent) removes it with its data.
      - V(observed) only looks, fails for nothing, and warns of what there is to do.
    type: str
    choices: [present, started, stopped, restarted, absent, observed]
    default: "started"
  executable:
    description: The program, by its name in C(PATH) or its path.
    type: str
    default: "docker-machine"
  storage_path:
    description: Docker-machine's directory.
    type: path
    default: "~/.docker/machine"
  driver:
    description: Docker-machine's driver.
    type: str
    default: "virtualbox"
  virtualbox:
    description: How a VirtualBox machine is made. What is left out is as docker-machine has it.
    type: dict
    suboptions:
      memory_mib:
        description: Memory in MiB; docker-machine's default is 1024.
        type: int
      cpus:
        description: Number of CPUs; -1 for all of the host.
        type: int
      disk_mib:
        description: Size of the disk in MiB; docker-machine's default is 20000. It grows as it is filled.
        type: int
      iso_url:
        description: >-
          Where the boot2docker ISO comes from, C(file:///…), a path or C(https://…). Without, it is the one in the
          store's cache, and where there is none, the latest release.
        type: str
      import_vm:
        description: A VM of the old C(boot2docker) program to import.
        type: str
      hostonly_cidr:
        description: >-
          The host's address and mask on the host-only network. Docker-machine's default, V(192.168.99.1/24), is
          refused by VirtualBox 6.1.28 and newer.
        type: str
      hostonly_nictype:
        description: Model of the host-only network card.
        type: str
      hostonly_nicpromisc:
        description: Promiscuous mode of the host-only network card.
        type: str
      hostonly_no_dhcp:
        description: Whether to have no DHCP server on the host-only network.
        type: bool
      nat_nictype:
        description: Model of the NAT network card.
        type: str
      host_dns_resolver:
        description: Whether names are resolved by the host.
        type: bool
      no_dns_proxy:
        description: Whether to have no DNS proxy.
        type: bool
      no_share:
        description: Whether to leave out the share of the home directories.
        type: bool
      share_folder:
        description: A directory of the host to share instead, C(directory:name).
        type: str
      no_vtx_check:
        description: Whether to leave out the check for hardware virtualization.
        type: bool
      ui_type:
        description: How VirtualBox shows the machine.
        type: str
        choices: [gui, sdl, headless, separate]
  driver_options:
    description: >-
      Further arguments of C(create), as they are: for other drivers.
    type: list
    elements: str
    default: []
  engine_options:
    description: Options of the engine, C(key=value).
    type: list
    elements: str
    default: []
  engine_labels:
    description: Labels of the engine, C(key=value).
    type: list
    elements: str
    default: []
  engine_env:
    description: Environment of the engine, C(KEY=value).
    type: list
    elements: str
    default: []
  insecure_registries:
    description: Registries that the engine uses without TLS.
    type: list
    elements: str
    default: []
  registry_mirrors:
    description: Mirrors of Docker Hub that the engine asks first.
    type: list
    elements: str
    default: []
  fixed_address:
    description: >-
      The address that the machine keeps on the host-only network, set by C(/var/lib/boot2docker/bootsync.sh). A
      machine whose swarm knows it by another address is refused.
    type: str
    default: ""
  data_directories:
    description: >-
      Directories to make for what a stack binds from the machine, in C(/var/lib/boot2docker), since all else is RAM.
      Needs O(fixed_address).
    type: list
    elements: str
    default: []
  create:
    description:
      - Whether a machine that is not there is made. Without, V(stopped) of O(state) is content with none, and
        V(started) fails.
    type: bool
    default: true
  recreate:
    description: >-
      Whether a machine that differs in what cannot be changed, or whose VM is gone, is made anew: empty.
    type: bool
    default: false
  force_stop:
    description: Whether a machine that does not stop in time has its plug pulled.
    type: bool
    default: false
  create_timeout_seconds:
    description: How long the making of a machine may take.
    type: int
    default: 900
  start_timeout_seconds:
    description: How long the start of a machine may take, and its provisioning.
    type: int
    default: 420
  stop_timeout_seconds:
    description: How long the stop of a machine may take, and its removal.
    type: int
    default: 120
  query_timeout_seconds:
    description: How long a question may take.
    type: int
    default: 60
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Have a machine
  apiary.swarm.docker_machine:
    name: myvm1
    fixed_address: 192.168.59.31
    virtualbox:
      memory_mib: 2048
      hostonly_cidr: 192.168.59.1/24
      iso_url: file:///home/ann/boot2docker.iso

- name: Have one of another driver
  apiary.swarm.docker_machine:
    name: cloud1
    executable: rancher-machine
    driver: generic
    driver_options: [--generic-ip-address, 10.0.0.7, --generic-ssh-key, /home/ann/.ssh/id_ed25519]

- name: Remove it
  apiary.swarm.docker_machine:
    name: myvm1
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done, in words.
  returned: always
  type: list
  elements: str
  sample: ["make and start the machine", "fix its address to 192.168.59.31"]
pending:
  description: What is asked and cannot be changed; what the machine has, and what is wanted.
  returned: always
  type: dict
  sample: {"memory_mib": [1024, 2048]}
state:
  description: V(running), V(stopped), V(paused), V(saved), V(absent), V(gone) where the VM is no more, V(unknown).
  returned: always
  type: str
  sample: running
address:
  description: The address that docker-machine has just told; empty where the machine does not run.
  returned: always
  type: str
  sample: 192.168.59.31
directory:
  description: The directory of the machine's files.
  returned: always
  type: str
  sample: /home/ann/.docker/machine/machines/myvm1
tls:
  description: Files for the TLS of its API, named as in C(machine_docker).
  returned: always
  type: dict
  sample: {"ca_path": "/home/ann/.docker/machine/machines/myvm1/ca.pem"}
ssh:
  description: How it is reached over SSH.
  returned: always
  type: dict
  sample: {"host": "192.168.59.31", "port": 22, "user": "docker"}
versions:
  description: Versions of the engine (with O(fixed_address)) and of docker-machine (where a machine was made).
  returned: always
  type: dict
  sample: {"engine": "19.03.12", "docker_machine": "0.16.2"}
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "state": {
        "type": "str",
        "choices": ["present", "started", "stopped", "restarted", "absent", "observed"],
        "default": "started",
    },
    "executable": {"type": "str", "default": "docker-machine"},
    "storage_path": {"type": "path", "default": "~/.docker/machine"},
    "driver": {"type": "str", "default": "virtualbox"},
    "virtualbox": {
        "type": "dict",
        "options": {
            "memory_mib": {"type": "int"},
            "cpus": {"type": "int"},
            "disk_mib": {"type": "int"},
            "iso_url": {"type": "str"},
            "import_vm": {"type": "str"},
            "hostonly_cidr": {"type": "str"},
            "hostonly_nictype": {"type": "str"},
            "hostonly_nicpromisc": {"type": "str"},
            "hostonly_no_dhcp": {"type": "bool"},
            "nat_nictype": {"type": "str"},
            "host_dns_resolver": {"type": "bool"},
            "no_dns_proxy": {"type": "bool"},
            "no_share": {"type": "bool"},
            "share_folder": {"type": "str"},
            "no_vtx_check": {"type": "bool"},
            "ui_type": {"type": "str", "choices": ["gui", "sdl", "headless", "separate"]},
        },
    },
    "driver_options": {"type": "list", "elements": "str", "default": []},
    "engine_options": {"type": "list", "elements": "str", "default": []},
    "engine_labels": {"type": "list", "elements": "str", "default": []},
    "engine_env": {"type": "list", "elements": "str", "default": []},
    "insecure_registries": {"type": "list", "elements": "str", "default": []},
    "registry_mirrors": {"type": "list", "elements": "str", "default": []},
    "fixed_address": {"type": "str", "default": ""},
    "data_directories": {"type": "list", "elements": "str", "default": []},
    "create": {"type": "bool", "default": True},
    "recreate": {"type": "bool", "default": False},
    "force_stop": {"type": "bool", "default": False},
    "create_timeout_seconds": {"type": "int", "default": 900},
    "start_timeout_seconds": {"type": "int", "default": 420},
    "stop_timeout_seconds": {"type": "int", "default": 120},
    "query_timeout_seconds": {"type": "int", "default": 60},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(msg="this runs as an action plugin on the controller: call it as apiary.swarm.docker_machine")


if __name__ == "__main__":
    main()

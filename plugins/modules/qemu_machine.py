#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A virtual machine under QEMU: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.image_source import IMAGES_SPEC

DOCUMENTATION = r"""
module: qemu_machine
short_description: A virtual machine with a Docker Engine, under QEMU, without root or a bridge
version_added: 0.1.0
description:
  - Brings one machine to run and to answer its Docker API over TLS. Runs in Ansible's own worker on the controller.
  - A new machine is a clone of a golden snapshot (M(apiary.swarm.qemu_snapshot)) if O(snapshot) is given. It resumes,
    and before anyone can reach it, is given its own name, addresses (also of its cards), machine-id, SSH host key,
    certificate, time and random numbers. A snapshot that does not become a machine is thrown away and built once more;
    if that does not help, the machine boots from cold. Each is said in one line.
  - Under User Mode Linux the machine is a kernel that runs as a process of the user's, with a QEMU beside it as its
    network; they end together. Its new machines boot, each on a copy-on-write disk of the snapshot's. It is the user's
    process in every respect, so whoever is root in the machine may become that user on the host.
  - The ID that the engine of a clone shows (C(docker info)) is that of its template until the machine is started again.
    Swarm knows nodes by certificates that it makes itself. Two clones with one engine ID have formed a swarm, were
    listed as two nodes, and ran the tasks of a service, which answered through the routing mesh of each.
  - What else clones have in common until they are started again are the layout of the memory of init, containerd and
    dockerd, and the kernel's secrets that are made at boot, such as those of its hash tables and TCP sequence numbers.
  - A machine whose process died is started again, from cold. What is missing of it (disk, keys, certificate) is made.
  - A running machine keeps running. Ports are forwarded while it runs, and stay so until it stops; memory, CPUs and
    addresses that differ from what it was started with are reported in RV(pending) and hold from its next start.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  name:
    description: Name of the machine, which becomes its host name.
    type: str
    required: true
  state:
    description:
      - V(started) makes, starts and waits for the machine.
      - V(forwarded) only brings the forwarded ports of a running machine up to date.
      - V(revoked) brings the list of revoked certificates to a running machine, over SSH, and ends all connections to
        its engine. A machine that does not run gets it when it boots.
      - V(stopped) shuts the machine down; its disk, keys and addresses stay.
      - V(absent) ends the machine and removes its disk and its keys, and nothing else of the cluster.
    type: str
    choices: [started, forwarded, revoked, stopped, absent]
    default: started
  create:
    description: Whether a machine that is not there is made. Without, V(started) of O(state) fails.
    type: bool
    default: true
  cluster_directory:
    description: The directory that holds all files of the cluster; made if missing, readable by its owner only.
    type: path
    required: true
  cluster:
    description: Name of the cluster, for its certificate authority.
    type: str
    required: true
  image:
    description: The directory with C(root.ext2), C(vmlinuz) and C(initramfs).
    type: path
    required: true
  cache_directory:
    description: Where the answer of the acceleration probe is remembered.
    type: path
    required: true
  memory_mib:
    description: Memory in MiB.
    type: int
    default: 1024
  cpus:
    description: Number of virtual CPUs.
    type: int
    default: 1
  disk_gib:
    description: Size of the machine's own disk in GiB. The file is sparse.
    type: int
    default: 10
  disk_cache:
    description: QEMU's cache mode of the disk. V(unsafe) is faster, and may lose data if the host loses power.
    type: str
    choices: [writeback, unsafe]
    default: writeback
  entrypoint:
    description: The loopback address on which the host reaches the machine's ports.
    type: str
    required: true
  lan_address:
    description: The machine's IPv4 address on the private network of the cluster's machines.
    type: str
    required: true
  lan_prefix:
    description: Prefix length of that network.
    type: int
    default: 24
  multicast:
    description: Multicast group and port, on the loopback device, that carries that network.
    type: str
    required: true
  forwarded_ports:
    description: Ports of the entrypoint that lead to the machine, besides the API and SSH.
    type: list
    elements: dict
    default: []
    suboptions:
      published:
        description: Port on the entrypoint and on the machine.
        type: int
        required: true
      protocol:
        description: Protocol.
        type: str
        choices: [tcp, udp]
        default: tcp
  accelerator:
    description:
      - V(auto) uses KVM where booting a kernel under it works, else User Mode Linux (V(uml)) where its kernel boots and
        the machine has one processor, else emulation (V(tcg)). A machine whose disk only one of them can read goes on
        with that.
    type: str
    choices: [auto, kvm, uml, tcg]
    default: auto
  cpu_model:
    description: QEMU's CPU model. Empty means the host's under KVM, and one without AVX under emulation.
    type: str
    default: ""
  snapshot:
    description: The images that are to be in the golden snapshot, and where their archives are.
      With it, a new machine is a clone of that snapshot, which is built if need be; without, it boots from cold.
    type: dict
    suboptions:
      images:
        description: The images, as for M(apiary.swarm.image_present); each is built from a directory.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description: Name without a tag.
            type: str
            required: true
          context:
            description: The directory with the Dockerfile.
            type: path
            required: true
          tag:
            description: The tag; empty means one that follows from the files.
            type: str
            default: ""
          args:
            description: Build arguments.
            type: dict
            default: {}
          repository:
            description: The name in a registry, for M(apiary.swarm.image_publish) alone.
            type: str
            default: ""
          tags:
            description: Other tags in a registry, for M(apiary.swarm.image_publish) alone.
            type: list
            elements: str
            default: []
      base:
        description: An image to build all on instead of those made by C(bootstrap.sh).
        type: str
        default: ""
      debian_suite:
        description: The Debian release that image bases are made of.
        type: str
        default: bookworm
      cache_dir:
        description: Directory on the controller where archives of images are kept.
        type: path
        required: true
  boot_timeout_seconds:
    description: How long the API may take to answer after power-on.
    type: int
    default: 180
  stop_timeout_seconds:
    description: How long a shutdown may take; then the machine loses its power.
    type: int
    default: 120
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Start the machine
  apiary.swarm.qemu_machine:
    name: "{{ inventory_hostname }}"
    cluster: apiary
    cluster_directory: ~/.local/state/apiary/apiary
    cache_directory: ~/.cache/apiary/qemu
    image: ~/.cache/apiary/qemu/3f9d0c2a71b4
    entrypoint: 127.0.99.101
    lan_address: 192.168.99.101
    multicast: 230.0.99.1:12399
    forwarded_ports:
      - published: 4000
    snapshot:
      images:
        - name: apiary/web
          context: images/web
      cache_dir: ~/.cache/apiary/images
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done, in words.
  returned: always
  type: list
  elements: str
  sample: ["make the machine from the golden snapshot", "start the machine"]
accelerator:
  description:
    - V(kvm), V(uml) or V(tcg), where this call started the machine; V(unchanged) where another run did meanwhile.
  returned: when started
  type: str
  sample: tcg
pending:
  description: Settings that hold from the next start on; the running and the wanted value of each.
  returned: always
  type: dict
  sample: {"memory_mib": [1024, 2048]}
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["started", "forwarded", "revoked", "stopped", "absent"], "default": "started"},
    "create": {"type": "bool", "default": True},
    "cluster_directory": {"type": "path", "required": True},
    "cluster": {"type": "str", "required": True},
    "image": {"type": "path", "required": True},
    "cache_directory": {"type": "path", "required": True},
    "memory_mib": {"type": "int", "default": 1024},
    "cpus": {"type": "int", "default": 1},
    "disk_gib": {"type": "int", "default": 10},
    "disk_cache": {"type": "str", "choices": ["writeback", "unsafe"], "default": "writeback"},
    "entrypoint": {"type": "str", "required": True},
    "lan_address": {"type": "str", "required": True},
    "lan_prefix": {"type": "int", "default": 24},
    "multicast": {"type": "str", "required": True},
    "forwarded_ports": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "published": {"type": "int", "required": True},
            "protocol": {"type": "str", "choices": ["tcp", "udp"], "default": "tcp"},
        },
    },
    "accelerator": {"type": "str", "choices": ["auto", "kvm", "uml", "tcg"], "default": "auto"},
    "cpu_model": {"type": "str", "default": ""},
    "boot_timeout_seconds": {"type": "int", "default": 180},
    "stop_timeout_seconds": {"type": "int", "default": 120},
    "snapshot": {"type": "dict", "options": IMAGES_SPEC},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller; call it as apiary.swarm.qemu_machine from a playbook"
    )


if __name__ == "__main__":
    main()

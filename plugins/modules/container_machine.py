#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A node that is a container: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: container_machine
short_description: A node that is a container with a Docker Engine of its own
version_added: 0.1.0
description:
  - Brings one container on an engine to run and its own engine to answer over TLS. Runs in Ansible's own worker.
  - The node's data lies on a volume that outlives the container, and its address is fixed. So a node that is started
    again, or made anew for a new certificate, is the same member of its swarm.
  - A container's published ports are fixed when it is made. A port that is wanted later is led to the node by a small
    container of its own, while the node runs on; it stays until the node is removed.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  name:
    description: Name of the node, which becomes its host name. The container is called C(<cluster>-<name>).
    type: str
    required: true
  state:
    description:
      - V(started) makes, starts and waits for the node.
      - V(forwarded) only leads missing ports to a running node.
      - V(revoked) brings the list of revoked certificates to a running node, and ends all connections to its engine. A
        node that does not run gets it when it starts.
      - V(stopped) ends its engine as a shutdown does; its data and addresses stay.
      - V(absent) removes the node with its volume and its keys, and nothing else of the cluster.
    type: str
    choices: [started, forwarded, revoked, stopped, absent]
    default: started
  create:
    description: Whether a node that is not there is made. Without, V(started) of O(state) fails.
    type: bool
    default: true
  engine:
    description: The engine that the node is a container of, such as V(unix:///var/run/docker.sock).
    type: str
    required: true
  cluster:
    description: Name of the cluster, of its network, and the value of the label C(apiary.cluster).
    type: str
    required: true
  cluster_directory:
    description: The directory that holds the keys of the cluster; made if missing, readable by its owner only.
    type: path
    required: true
  image:
    description: Reference of the node's image, which the engine has.
    type: str
    required: true
  network:
    description: Range of the cluster's network, in CIDR notation; made if missing.
    type: str
    required: true
  address:
    description: The node's IPv4 address on that network.
    type: str
    required: true
  entrypoint:
    description: The loopback address on which the host reaches the node's ports.
    type: str
    required: true
  published_ports:
    description: Ports of the entrypoint that lead to the node, besides the API's.
    type: list
    elements: dict
    default: []
    suboptions:
      published:
        description: Port on the entrypoint and on the node.
        type: int
        required: true
      protocol:
        description: Protocol.
        type: str
        choices: [tcp, udp]
        default: tcp
  privileges:
    description:
      - What the container may do. V(privileged) is all, as in C(docker run --privileged).
      - V(narrow) is what its engine needs where the outer engine may not give everything, having less itself - all
        capabilities but C(SYS_RESOURCE), no seccomp, AppArmor or masked paths, all devices.
      - V(auto) tries one and then the other.
    type: str
    choices: [auto, privileged, narrow]
    default: auto
  timeout_seconds:
    description: How long the node's engine may take to answer after its start.
    type: int
    default: 60
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Start the node
  apiary.swarm.container_machine:
    name: "{{ inventory_hostname }}"
    engine: unix:///var/run/docker.sock
    cluster: apiary
    cluster_directory: ~/.local/state/apiary/apiary
    image: apiary/node:4f9d0c1b2a3e
    network: 192.168.97.0/24
    address: 192.168.97.101
    entrypoint: 127.0.97.101
    published_ports:
      - published: 4000
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done, in words.
  returned: always
  type: list
  elements: str
  sample: ["make the node", "start the node"]
endpoint:
  description: How the node's engine is reached, as C(machine_docker).
  returned: always
  type: dict
  sample: {"docker_host": "tcp://127.0.97.101:2376", "tls": true, "validate_certs": true, "ca_path": "…/client/ca.pem"}
kernel_lacks:
  description: What a swarm needs and the running node's kernel has not, of ip_vs, vxlan, overlay, br_netfilter.
  returned: always
  type: list
  elements: str
  sample: ["ip_vs"]
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["started", "forwarded", "revoked", "stopped", "absent"], "default": "started"},
    "create": {"type": "bool", "default": True},
    "engine": {"type": "str", "required": True},
    "cluster": {"type": "str", "required": True},
    "cluster_directory": {"type": "path", "required": True},
    "image": {"type": "str", "required": True},
    "network": {"type": "str", "required": True},
    "address": {"type": "str", "required": True},
    "entrypoint": {"type": "str", "required": True},
    "published_ports": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "published": {"type": "int", "required": True},
            "protocol": {"type": "str", "choices": ["tcp", "udp"], "default": "tcp"},
        },
    },
    "privileges": {"type": "str", "choices": ["auto", "privileged", "narrow"], "default": "auto"},
    "timeout_seconds": {"type": "int", "default": 60},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller; call it as apiary.swarm.container_machine from a playbook"
    )


if __name__ == "__main__":
    main()

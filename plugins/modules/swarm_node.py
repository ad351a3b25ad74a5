#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_node
short_description: Make a machine a manager or a worker of the swarm
description:
  - Brings about one whole outcome, that a node is a manager or a worker of I(this) swarm, with these labels and this
    availability.
  - The state is read once and only differences are acted on. Runs on the controller, against the Docker API of the node
    and of one manager; nothing is needed on the node but its engine.
  - The swarm is the one of the first manager in O(managers) that answers for one. A node in another swarm is refused,
    with both swarms named; no node is ever taken out of a swarm, and the settings of a swarm are never written.
  - A node that has just joined is waited for until a manager lists it as ready. Entries that earlier lives of the same
    machine left in the swarm (same host name and address, another ID) are removed.
  - Join tokens are read and used inside the plugin; they appear in no result, message or log, so no task needs
    C(no_log).
version_added: 0.1.0
author:
  - The Apiary developers
attributes:
  action:
    support: full
    description: Runs as an action plugin, in Ansible's own worker, on the controller.
  check_mode:
    support: full
    description:
      Predicts what would be done without changing anything. A node whose engine cannot be reached yet is taken for one
      in no swarm.
  diff_mode:
    support: full
    description:
      Shows membership, role, availability and labels before and after, and the address pools that a swarm is created
      with where they are not the engine's own.
  idempotent:
    support: full
    description: A second run changes nothing.
options:
  name:
    description:
      - The node's name in messages, by which it is also found in O(managers). The host's inventory name by default.
    type: str
  docker:
    description: The endpoint of the node's engine, as in C(machine_docker).
    type: dict
    required: true
    suboptions: &endpoint
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
  role:
    description:
      - What the node shall be. A member with the other role is promoted, or demoted where a majority of managers stays.
    type: str
    required: true
    choices: [manager, worker]
  managers:
    description:
      - The managers of the inventory, in order. The node itself may be among them.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Inventory name of the manager.
        type: str
        required: true
      docker:
        description: The endpoint of the manager's engine.
        type: dict
        required: true
        suboptions: *endpoint
  create:
    description:
      - Whether this node creates the swarm when there is none. Give it to one manager only.
      - It is refused when another manager of O(managers) cannot be asked or holds a swarm that does not answer, so that
        no cluster splits in two.
    type: bool
    default: false
  advertise_address:
    description: Address at which the other nodes reach this one, used when it joins or creates the swarm.
    type: str
    required: true
  listen_address:
    description:
      - Address on which the node listens for other nodes, with or without a port (2377). Taken from
        O(advertise_address) by default.
    type: str
  data_path_address:
    description: Address for the traffic of overlay networks. The engine uses the advertised one by default.
    type: str
  cluster:
    description:
      - Name of the cluster. A swarm that is created carries it as its label C(apiary.cluster), which tells it from
        swarms of others.
    type: str
    default: ""
  address_pools:
    description:
      - From which addresses the networks of a swarm that is created get theirs, a list of IPv4 networks in CIDR
        notation. Those that meet O(networks) are refused.
      - V(auto) takes the engine's own pool, 10.0.0.0/8, where nothing in O(networks) meets that, else the largest block
        of private addresses that meets nothing.
      - Without effect on a swarm that is there, whose pools cannot be changed; a warning tells where they are others.
    type: raw
    default: auto
  address_pool_prefix:
    description: Prefix length of each network of a swarm that is created.
    type: raw
    default: 24
  networks:
    description:
      - The addresses and networks that each host uses itself, C(machine_networks) by its name. Each is a dict of
        addresses, or networks in CIDR notation, and what they are.
    type: dict
    default: {}
  labels:
    description: Labels of the node. Numbers and booleans are written as YAML writes them (C(true), not C(True)).
    type: dict
    default: {}
  purge_labels:
    description: Whether labels that are not in O(labels) are removed. By default they are left alone.
    type: bool
    default: false
  availability:
    description:
      - Whether the node takes tasks. V(keep) leaves it as it is, so that a run does not undo a drain; new nodes are
        active.
    type: str
    choices: [keep, active, pause, drain]
    default: keep
  wait_seconds:
    description:
      - How long to wait at most, each time that something has to settle (a join, a start, an election, a promotion).
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Create the swarm on its first manager
  apiary.swarm.swarm_node:
    docker: "{{ machine_docker }}"
    advertise_address: "{{ machine_address }}"
    role: manager
    managers: "{{ swarm_manager_managers }}"
    create: true
    networks:
      myvm1: {10.0.2.0/24: NAT, 10.0.2.3: name server, 192.168.99.0/24: network}

- name: Join a worker for tasks that need a fast disk
  apiary.swarm.swarm_node:
    docker: "{{ machine_docker }}"
    advertise_address: "{{ machine_address }}"
    role: worker
    managers: "{{ swarm_worker_managers }}"
    labels:
      disk: ssd
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, in order.
  returned: success
  type: list
  elements: str
  sample: [join as worker, set label disk=ssd, remove the ghost 8soo40rjlofsfo98g75hf66k1]
node_id:
  description: ID of the node in the swarm, null in check mode for one that is in no swarm yet.
  returned: success
  type: str
  sample: n59qa2aqrd2r2lpgoshwpvv65
cluster_id:
  description: ID of the swarm, null in check mode for a node that is in no swarm yet.
  returned: success
  type: str
  sample: k6ypkhwnqk2bb2dldeynonj7b
role:
  description: The node's role.
  returned: success
  type: str
  sample: worker
availability:
  description: The node's availability.
  returned: success
  type: str
  sample: active
labels:
  description: All labels of the node.
  returned: success
  type: dict
  sample: {disk: ssd}
addr:
  description: Address at which the swarm knows the node.
  returned: success
  type: str
  sample: 192.168.99.102
msg:
  description: In check mode, for a node that is in no swarm yet, what a run would do.
  returned: check mode, when the node is in no swarm
  type: str
  sample: "myvm2 is in no swarm. A run would: join as worker."
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import ENDPOINT_SPEC

ARGUMENT_SPEC = {
    "name": {"type": "str"},
    "docker": {"type": "dict", "required": True, "options": ENDPOINT_SPEC},
    "role": {"type": "str", "required": True, "choices": ["manager", "worker"]},
    "managers": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "docker": {"type": "dict", "required": True, "options": ENDPOINT_SPEC},
        },
    },
    "create": {"type": "bool", "default": False},
    "cluster": {"type": "str", "default": ""},
    "address_pools": {"type": "raw", "default": "auto"},
    "address_pool_prefix": {"type": "raw", "default": 24},
    "networks": {"type": "dict", "default": {}},
    "advertise_address": {"type": "str", "required": True},
    "listen_address": {"type": "str"},
    "data_path_address": {"type": "str"},
    "labels": {"type": "dict", "default": {}},
    "purge_labels": {"type": "bool", "default": False},
    "availability": {"type": "str", "choices": ["keep", "active", "pause", "drain"], "default": "keep"},
    "wait_seconds": {"type": "int", "default": 120},
}


def main() -> None:
    """Explain: the work is done by the action plugin of the same name."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(msg="swarm_node runs as an action plugin on the controller: call it as apiary.swarm.swarm_node")


if __name__ == "__main__":
    main()

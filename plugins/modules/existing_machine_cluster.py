# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All hosts of a cluster that exist: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import ENDPOINT_SPEC

DOCUMENTATION = r"""
module: existing_machine_cluster
short_description: Take hosts that exist out of a cluster's swarm
version_added: 0.1.0
description:
  - Removes what runs in the cluster's swarm, and has the hosts leave it, the managers last. Their engines, images and
    volumes stay, and so do containers that are no tasks of the swarm.
  - The cluster's swarm is known by its label C(apiary.cluster). A host in any other swarm is left alone; from one that
    was adopted, only the stacks are removed that Apiary has deployed.
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
    default: absent
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  machines:
    description: The hosts, as M(apiary.swarm.existing_machine) has seen them.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the host.
        type: str
        required: true
      address:
        description: Its address among the nodes.
        type: str
        required: true
      docker:
        description: The endpoint of its engine, as in C(machine_docker).
        type: dict
        required: true
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
      seen:
        description: What it has said.
        type: dict
        default: {}
      problem:
        description: Why it could not be asked.
        type: str
        default: ""
  others:
    description: Hosts of other providers in the same inventory.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the host.
        type: str
        required: true
      network:
        description: The network that its nodes have among themselves, if it is one of this computer alone.
        type: str
        default: ""
  adopt_swarm:
    description: Whether a swarm of somebody else was used, so that stacks are to be removed from it.
    type: bool
    default: false
  timeout_seconds:
    description: How long tasks may take to end before their containers are removed.
    type: int
    default: 120
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Take the hosts out of the swarm
  apiary.swarm.existing_machine_cluster:
    cluster: apiary
    machines:
      - name: host1
        address: 192.0.2.7
        docker: {docker_host: "unix:///home/ann/.cache/apiary/ssh/apiary/host1.sock"}
        seen: "{{ observed.seen }}"
  run_once: true
"""

RETURN = r"""
removed:
  description:
    - The hosts that left the swarm, and the stacks that were removed from one that stays; in check mode, would be.
  returned: always
  type: list
  elements: str
  sample: ["host1", "host2"]
foreign:
  description: Hosts in swarms of others, which were left alone.
  returned: always
  type: list
  elements: str
  sample: []
adopted:
  description: A host whose swarm was used and is somebody else's.
  returned: always
  type: list
  elements: str
  sample: []
volumes:
  description: Volumes of stacks that are kept.
  returned: always
  type: list
  elements: str
  sample: ["getstartedlab_data on host1"]
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["absent"], "default": "absent"},
    "cluster": {"type": "str", "required": True},
    "machines": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "docker": {"type": "dict", "required": True, "options": ENDPOINT_SPEC},
            "seen": {"type": "dict", "default": {}},
            "problem": {"type": "str", "default": ""},
        },
    },
    "others": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "network": {"type": "str", "default": ""},
        },
    },
    "adopt_swarm": {"type": "bool", "default": False},
    "timeout_seconds": {"type": "int", "default": 120},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller: call it as apiary.swarm.existing_machine_cluster"
    )


if __name__ == "__main__":
    main()

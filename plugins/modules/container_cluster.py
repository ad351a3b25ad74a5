#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All container nodes of a cluster, to be removed: documentation and arguments; the work is in the action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: container_cluster
short_description: Remove all container nodes of a cluster, with their volumes, network and keys
version_added: 0.1.0
description:
  - Removes every container, volume and network that carries the label C(apiary.cluster) with the cluster's name, also
    nodes that no inventory names any more, and the directory with the cluster's keys. Proves at the end that nothing
    is left.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  state:
    description: What the cluster should be.
    type: str
    choices: [absent]
    default: absent
  engine:
    description: The engine that the nodes are containers of.
    type: str
    required: true
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  cluster_directory:
    description: The directory that holds the keys of the cluster.
    type: path
    required: true
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Remove the nodes
  apiary.swarm.container_cluster:
    engine: unix:///var/run/docker.sock
    cluster: apiary
    cluster_directory: ~/.local/state/apiary/apiary
"""

RETURN = r"""
removed:
  description: What was removed, or in check mode would be.
  returned: always
  type: list
  elements: str
  sample: ["container apiary-node1", "volume apiary-node1", "network apiary", "/home/ann/.local/state/apiary/apiary"]
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["absent"], "default": "absent"},
    "engine": {"type": "str", "required": True},
    "cluster": {"type": "str", "required": True},
    "cluster_directory": {"type": "path", "required": True},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller; call it as apiary.swarm.container_cluster from a play"
    )


if __name__ == "__main__":
    main()

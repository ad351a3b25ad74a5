#!/usr/bin/python
# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All machines of a cluster under QEMU, to be removed: documentation and arguments."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: qemu_cluster
short_description: Remove all QEMU machines of a cluster, with their networks, processes and files
version_added: 0.1.0
description:
  - Ends every machine whose files are in the cluster's directory, also those that no inventory names any more, and
    removes the directory with keys and certificates. Proves at the end that no process and no file is left.
  - The image cache is kept; V(kept) says where it is and how large.
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
  cluster_directory:
    description: The directory that holds all files of the cluster.
    type: path
    required: true
  cache_directory:
    description: The cache that is kept and reported.
    type: path
    required: true
author:
  - The Apiary developers
"""

EXAMPLES = r"""
- name: Remove the machines
  apiary.swarm.qemu_cluster:
    cluster_directory: ~/.local/state/apiary/apiary
    cache_directory: ~/.cache/apiary
"""

RETURN = r"""
removed:
  description: What was removed, or in check mode would be.
  returned: always
  type: list
  elements: str
  sample: ["myvm1", "myvm2"]
kept:
  description: What was kept, in words.
  returned: always
  type: str
  sample: "/home/ann/.cache/apiary (image cache, 612 MiB)"
"""

ARGUMENT_SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["absent"], "default": "absent"},
    "cluster_directory": {"type": "path", "required": True},
    "cache_directory": {"type": "path", "required": True},
}


def main() -> None:
    """Say where the work is done: the action plugin of the same name runs on the controller."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(
        msg="this runs as an action plugin on the controller; call it as apiary.swarm.qemu_cluster from a playbook"
    )


if __name__ == "__main__":
    main()

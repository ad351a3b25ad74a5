# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What all action plugins share."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.apiary.swarm.plugins.action import container_preflight, qemu_preflight
from ansible_collections.apiary.swarm.plugins.module_utils.base_action import ApiaryAction

MACHINE = {
    "name": "myvm1",
    "entrypoint": "127.0.99.101",
    "lan_address": "192.168.99.101",
    "memory_mib": 1024,
    "cpus": 1,
}


def run(action: type[ApiaryAction], args: dict[str, object]) -> None:
    task = MagicMock(args=args, check_mode=False, diff=False, async_val=0)
    action(task, MagicMock(), MagicMock(), MagicMock(), MagicMock(), MagicMock()).run(task_vars={})


def test_error_in_a_list_names_the_variable() -> None:
    machine = {**MACHINE, "memory_mib": "lots", "disk_gib": 10, "forwarded_ports": []}
    with pytest.raises(AnsibleActionFail, match=r"^qemu_machine_memory_mib is of type str.*lots") as caught:
        run(
            qemu_preflight.ActionModule,
            {
                "machines": [machine],
                "cluster_directory": "/nowhere",
                "lan_network": "192.168.99.0/24",
                "loopback_network": "127.0.99.0/24",
                "image": "/nowhere",
            },
        )
    assert "'memory_mib'" not in str(caught.value)


def test_error_outside_lists_names_the_option() -> None:
    with pytest.raises(AnsibleActionFail, match=r"missing required arguments.*nodes"):
        run(container_preflight.ActionModule, {"cluster": "hive"})

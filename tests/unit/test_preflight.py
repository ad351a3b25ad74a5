# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bad input is named, with its value and the remedy, before anything is changed."""

from __future__ import annotations

import runpy
import socket
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.action import container_preflight, qemu_preflight
from ansible_collections.apiary.swarm.plugins.module_utils import preflight
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError

LOOPBACK, LAN = "127.0.99.0/24", "192.168.99.0/24"


def machine(name: str = "myvm1", number: int = 101, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "entrypoint": f"127.0.99.{number}",
        "lan_address": f"192.168.99.{number}",
        "memory_mib": 1024,
        "cpus": 1,
        "disk_gib": 10,
        "forwarded_ports": [],
        **changes,
    }


def address_problems(machines: list[dict[str, Any]], loopback: str = LOOPBACK, lan: str = LAN) -> list[str]:
    networks = {
        "entrypoint": ("qemu_machine_loopback_network", loopback),
        "lan_address": ("qemu_machine_lan_network", lan),
    }
    return preflight.address_problems(machines, networks, "qemu_machine_number")


@pytest.mark.parametrize("action", [qemu_preflight, container_preflight])
def test_other_systems_are_refused_before_all_else(monkeypatch: pytest.MonkeyPatch, action: Any) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    made = action.ActionModule.__new__(action.ActionModule)
    with pytest.raises(ApiaryError, match=r"which needs Linux, and this computer has Darwin.*INVENTORY=virtualbox"):
        made.outcome({}, {})


@pytest.mark.parametrize(("system", "limit"), [("linux", 107), ("darwin", 103)])
def test_path_of_a_socket_has_the_systems_limit(monkeypatch: pytest.MonkeyPatch, system: str, limit: int) -> None:
    monkeypatch.setattr("sys.platform", system)
    assert runpy.run_path(preflight.__file__)["SOCKET_PATH_LIMIT"] == limit


def test_two_sound_machines_have_no_problem() -> None:
    machines = [machine(), machine("myvm2", 102)]
    assert address_problems(machines) == []
    assert preflight.size_problems(machines) == []


@pytest.mark.parametrize(
    ("machines", "loopback", "lan", "expected"),
    [
        ([machine(), machine("myvm2", 101)], LOOPBACK, LAN, "127.0.99.101 is the address of myvm1 and myvm2"),
        ([machine("my_vm1")], LOOPBACK, LAN, "'my_vm1' cannot be a host name"),
        ([machine(number=0)], LOOPBACK, LAN, "set qemu_machine_number"),
        ([machine(number=255)], LOOPBACK, LAN, "set qemu_machine_number"),
        ([machine(number=300)], LOOPBACK, LAN, "'127.0.99.300', which is no address"),
        ([machine()], "127.0.98.0/24", LAN, "in qemu_machine_loopback_network (127.0.98.0/24)"),
        ([machine()], "10.0.0.0/24", LAN, "outside 127.0.0.0/8"),
        ([machine()], "127.0.99.1/24", LAN, "qemu_machine_loopback_network is '127.0.99.1/24'"),
        ([machine()], LOOPBACK, "home", "qemu_machine_lan_network is 'home'"),
    ],
)
def test_bad_names_and_addresses_are_named(
    machines: list[dict[str, Any]], loopback: str, lan: str, expected: str
) -> None:
    assert expected in "\n".join(address_problems(machines, loopback, lan))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"memory_mib": 64}, "qemu_machine_memory_mib is 64; an engine needs at least 512"),
        ({"cpus": 0}, "qemu_machine_cpus is 0"),
        ({"disk_gib": 1}, "qemu_machine_disk_gib is 1"),
    ],
)
def test_sizes_that_cannot_work_are_named(changes: dict[str, Any], expected: str) -> None:
    assert expected in "\n".join(preflight.size_problems([machine(**changes)]))


def test_a_port_in_use_is_named_with_its_machine() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.99.250", 0))
        taken.listen()
        port = taken.getsockname()[1]
        problems = preflight.port_problems("myvm1", "127.0.99.250", {("tcp", port)}, "qemu_machine_loopback_network")
    assert len(problems) == 1
    assert f"127.0.99.250:{port}/tcp (myvm1) cannot be used on this host: Address already in use" in problems[0]
    assert preflight.port_problems("myvm1", "127.0.99.250", {("tcp", port)}, "qemu_machine_loopback_network") == []


def test_memory_is_compared_with_what_is_available() -> None:
    meminfo = "MemTotal: 4000000 kB\nMemAvailable:    2097152 kB\n"
    assert preflight.memory_problems([machine(), machine()], meminfo) == []
    problems = preflight.memory_problems([machine(), machine(), machine()], meminfo)
    assert problems[0].startswith("3 machines need 3072 MiB of memory and 2048 MiB are available")


def test_space_is_asked_of_the_directory_that_exists(tmp_path: Path) -> None:
    assert preflight.space_problems("qemu_machine_state_dir", tmp_path / "a" / "b", 1) == []
    (problem,) = preflight.space_problems("qemu_machine_state_dir", tmp_path / "a" / "b", 1 << 60)
    assert problem.startswith(f"{tmp_path} has ")
    assert "qemu_machine_state_dir" in problem

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What hosts that exist say of themselves, at which addresses they are nodes, and what keeps them from being nodes."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.action import existing_machine
from ansible_collections.apiary.swarm.plugins.module_utils import existing

ROOT = Path(__file__).resolve().parents[2]
ENGINE = {"version": "20.10.24", "api_version": "1.41", "live_restore": False, "rootless": False}
SWARM = {
    "state": "inactive",
    "node_id": "",
    "address": "",
    "control": False,
    "managers": [],
    "cluster": "",
    "nodes": [],
    "leaderless": False,
}
NO_ENGINE: dict[str, Any] = {"socket": False, "tools": ["apt-get", "perl"], "engine": None, "swarm": None}


def seen(number: int = 1, **differences: Any) -> dict[str, Any]:
    """What a host without a fault says."""
    return {
        "user": "ann",
        "is_root": False,
        "hostname": f"host{number}",
        "machine_id": f"{number:032x}",
        "system": "Debian GNU/Linux 12 (bookworm)",
        "release": {"ID": "debian", "ID_LIKE": "", "VERSION_CODENAME": "bookworm", "UBUNTU_CODENAME": ""},
        "addresses": [
            {"interface": "lo", "address": "127.0.0.1/8"},
            {"interface": "eth0", "address": f"192.0.2.{number}/24"},
            {"interface": "docker0", "address": "172.17.0.1/16"},
        ],
        "route_source": f"192.0.2.{number}",
        "init": "systemd",
        "socket": True,
        "socket_group": 998,
        "socket_usable": False,
        "tools": ["apt-get", "docker", "dockerd", "perl"],
        "firewall": [],
        "kernel_lacks": [],
        "space_mib": 20000,
        "data_dir": True,
        "clock_offset": 0.3,
        "leave": f"ssh host{number} sudo docker swarm leave --force",
        "engine": dict(ENGINE),
        "swarm": dict(SWARM),
        **differences,
    }


def member(number: int, **differences: Any) -> dict[str, Any]:
    """The swarm of a host that is in one."""
    return {
        **SWARM,
        "state": "active",
        "node_id": f"node{number}",
        "address": f"192.0.2.{number}",
        "managers": ["192.0.2.1:2377"],
        **differences,
    }


def machine(number: int = 1, *, host: str = "", local: bool = False, **differences: Any) -> dict[str, Any]:
    """A host as the inventory has it, with what it says."""
    own = {key: differences.pop(key, "") for key in ("address", "interface")}
    return {
        "name": f"host{number}",
        "host": host or f"192.0.2.{number}",
        "local": local,
        **own,
        "seen": seen(number, **differences),
    }


# What a host says


def test_this_computer_can_say_what_it_is() -> None:
    script = existing.look_script("/var/run/docker.sock", "/var/lib/it's data")
    said = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, check=True)
    found = existing.parse("Welcome to this host!\n" + said.stdout, now=0.0)
    assert found["user"]
    assert found["clock_offset"] > 1_700_000_000
    assert found["init"] in ("systemd", "sysv")
    assert found["system"] != "an unknown system"
    assert {"lo"} <= {entry["interface"] for entry in found["addresses"]}


def test_addresses_that_it_uses_are_those_of_interfaces_routes_and_name_servers() -> None:
    said = """--apiary-- addresses
1: lo    inet 127.0.0.1/8 scope host lo
2: eth0    inet 10.0.2.15/24 brd 10.0.2.255 scope global eth0
3: eth1    inet 10.9.0.7/32 scope global eth1
--apiary-- routes
default via 10.0.2.2 dev eth0
0.0.0.0/1 via 10.8.0.1 dev tun0
10.0.2.0/24 dev eth0 proto kernel scope link src 10.0.2.15
10.64.0.0/10 proto static metric 100 \\\tnexthop via 10.0.2.2 dev eth0 \\\tnexthop via 10.0.2.4 dev eth1
172.16.5.1 dev tun0 scope link
172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1 linkdown
--apiary-- resolvers
# made by somebody
nameserver 127.0.0.53
nameserver fd00::1
nameserver 10.0.2.3
search example
nameserver 10.0.2.3
"""
    assert existing.parse(said, now=0.0)["networks"] == {
        "10.0.2.0/24": "network",
        "10.9.0.7": "network",
        "10.64.0.0/10": "route through eth0",
        "172.16.5.1": "route through tun0",
        "172.17.0.0/16": "route through docker0",
        "10.0.2.3": "name server",
    }


def test_what_is_missing_is_not_made_up() -> None:
    found = existing.parse("", now=0.0)
    assert found["networks"] == {}
    assert found["addresses"] == []
    assert not found["socket"]
    assert found["space_mib"] is None


@pytest.mark.parametrize(("state", "times"), [("examined", 1), ("observed", 0)])
def test_what_the_kernel_lacks_is_told_once(state: str, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(Display, "warning", lambda _self, text: warnings.append(text))

    class Host(existing_machine._Machine):
        endpoint: dict[str, Any] = {}  # noqa: RUF012

        def look(self, *, thoroughly: bool) -> None:
            self.seen = seen(1, kernel_lacks=["ip_vs", "vxlan"])

    Host({"name": "host1"}, check_mode=False).result(state)
    assert warnings == ["host1: its kernel lacks vxlan: networks between nodes (overlay) will not work"] * times


@pytest.mark.parametrize(
    ("release", "tools", "family"),
    [
        ({"ID": "debian", "ID_LIKE": ""}, ["apt-get"], "debian"),
        ({"ID": "ubuntu", "ID_LIKE": "debian"}, ["apt-get"], "debian"),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, ["apt-get"], "debian"),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, ["dnf"], "rhel"),
        ({"ID": "fedora", "ID_LIKE": ""}, ["dnf"], "rhel"),
        ({"ID": "centos", "ID_LIKE": "rhel fedora"}, ["yum"], "rhel"),
        ({"ID": "alpine", "ID_LIKE": ""}, [], ""),
        ({"ID": "opensuse-leap", "ID_LIKE": "suse opensuse"}, [], ""),
    ],
)
def test_packages_are_those_of_the_systems_family(release: dict[str, str], tools: list[str], family: str) -> None:
    assert existing.family({"release": release, "tools": tools}) == family


# Addresses

VM = [{"interface": "eth0", "address": "10.0.2.15/24"}]


def vm(number: int, **differences: Any) -> dict[str, Any]:
    """A virtual machine whose first interface is the same in all, and whose SSH port is forwarded on a loopback one."""
    lan = [{"interface": "eth1", "address": f"192.168.99.{100 + number}/24"}]
    return machine(number, host=f"127.0.98.{100 + number}", addresses=VM + lan, **differences)


ADDRESSES: dict[str, tuple[Sequence[dict[str, Any]], dict[str, str]]] = {
    "ansible_host, if it is the host's own": ([machine(1)], {"host1": "192.0.2.1"}),
    "what the inventory says": ([machine(1, address="172.17.0.1")], {"host1": "172.17.0.1"}),
    "the interface that it names": (
        [vm(1, interface="eth0")],
        {"host1": "10.0.2.15"},
    ),
    "the network that all share": ([vm(1), vm(2)], {"host1": "192.168.99.101", "host2": "192.168.99.102"}),
    "the one that the swarm knows": (
        [machine(1, addresses=[*seen()["addresses"], {"interface": "eth1", "address": "10.1.0.9/16"}],
                 swarm=member(1, address="10.1.0.9"))],
        {"host1": "10.1.0.9"},
    ),
    "of the route, for a host alone": ([machine(1, host="bastion-forwarded")], {"host1": "192.0.2.1"}),
    "loopback, for this computer": ([machine(1, local=True)], {"host1": "127.0.0.1"}),
    "of its swarm, for this computer": (
        [machine(1, local=True, swarm=member(1, control=True, address="192.0.2.77"))],
        {"host1": "192.0.2.77"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("machines", "expected"), ADDRESSES.values(), ids=ADDRESSES)
def test_address_among_the_nodes_is(machines: Sequence[dict[str, Any]], expected: dict[str, str]) -> None:
    assert existing.choose_addresses(machines) == (expected, [])


NO_ADDRESS: dict[str, tuple[Sequence[dict[str, Any]], str]] = {
    "one that the host does not have": (
        [machine(1, address="192.0.2.99")],
        "host1: existing_machine_address is 192.0.2.99, which is no address of the host: it has eth0 192.0.2.1",
    ),
    "no such interface": (
        [machine(1, interface="eth7")],
        "host1: existing_machine_interface is 'eth7', which the host does not have",
    ),
    "several that could be": (
        [
            machine(number, host="gate", addresses=[
                {"interface": "eth0", "address": f"10.0.0.{number}/24"},
                {"interface": "eth1", "address": f"10.0.1.{number}/24"},
            ])
            for number in (1, 2)
        ],
        "host1: at which address the other nodes reach it cannot be told (it has eth0 10.0.0.1, eth1 10.0.1.1; "
        "ansible_host is gate): set existing_machine_interface",
    ),
    "none but the same": (
        [machine(1, host="gate", addresses=VM), machine(2, host="gate", addresses=VM)],
        "host1: at which address the other nodes reach it cannot be told (it has eth0 10.0.2.15",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("machines", "message"), NO_ADDRESS.values(), ids=NO_ADDRESS)
def test_no_address_is_guessed(machines: Sequence[dict[str, Any]], message: str) -> None:
    problems = existing.choose_addresses(machines)[1]
    assert message in problems[0]


# What is wrong


def problems(machines: Sequence[dict[str, Any]], *, adopt: bool = False, others: Any = ()) -> list[str]:
    addresses, found = existing.choose_addresses(machines)
    return found + existing.problems_of(
        machines, addresses, cluster="fleet", adopt=adopt, clock_seconds=60, others=others
    )


def three(**differences: Any) -> list[dict[str, Any]]:
    """Three hosts, the second of which differs."""
    return [machine(1), machine(2, **differences), machine(3)]


FINE: dict[str, list[dict[str, Any]]] = {
    "three hosts with engines": three(),
    "one without": three(**NO_ENGINE),
    "an unknown system that has an engine": three(release={"ID": "alpine", "ID_LIKE": ""}),
    "live-restore that is about to go": three(engine={**ENGINE, "live_restore": True}, live_restore_goes=True),
    "clocks a minute apart": three(clock_offset=60.0),
    "a controller whose clock is wrong": [machine(number, clock_offset=-7200.0) for number in (1, 2, 3)],
    "no machine-id at all": [machine(number, machine_id="") for number in (1, 2)],
    "the cluster's own swarm": [
        machine(1, swarm=member(1, control=True, cluster="fleet", nodes=["node1", "node2"])),
        machine(2, swarm=member(2)),
    ],
    "managers that have no leader": [machine(1, swarm=member(1, control=True, leaderless=True))],
}


@pytest.mark.parametrize("machines", FINE.values(), ids=FINE)
def test_nothing_is_wrong_with(machines: list[dict[str, Any]]) -> None:
    assert problems(machines) == []


WRONG: dict[str, tuple[list[dict[str, Any]], str]] = {
    "an unsupported system": (
        three(**NO_ENGINE, release={"ID": "alpine", "ID_LIKE": ""}, system="Alpine Linux v3.20"),
        "host2: is Alpine Linux v3.20, for which there is no way here to install an engine",
    ),
    "no room": (three(**NO_ENGINE, space_mib=200), "host2: /var/lib has 200 MiB free, and an engine"),
    "an engine that is too old": (
        three(engine={**ENGINE, "version": "18.09.1", "api_version": "1.39"}),
        "host2: its engine is 18.09.1 (API 1.39), and 19.03 (API 1.40) or newer is needed: upgrade it yourself",
    ),
    "podman": (
        three(**{**NO_ENGINE, "tools": ["docker", "podman-docker", "dnf"]}),
        "host2: its command docker is podman's",
    ),
    "live-restore": (three(engine={**ENGINE, "live_restore": True}), "host2: its engine has live-restore"),
    "a rootless engine": (three(engine={**ENGINE, "rootless": True}), "host2: its engine is rootless"),
    "no addresses": (three(addresses=[]), "host2: has no command ip, or no IPv4 address"),
    "a clock that is ahead": (three(clock_offset=130.0), "host2: its clock is 130 s ahead of the others'"),
    "a clock that is behind": (three(clock_offset=-600.0), "host2: its clock is 600 s behind the others'"),
    "the same machine-id": (three(machine_id=f"{1:032x}"), "host1 and host2: have the same machine-id"),
    "the same host name": (three(hostname="host3"), "host2 and host3: have the same host name (host3)"),
    "the same address": (
        [machine(1, address="192.0.2.1"), machine(2, host="192.0.2.1", addresses=seen(1)["addresses"])],
        "host1 and host2: would have the same address among the nodes (192.0.2.1)",
    ),
    "a swarm of somebody else": (
        [machine(1, swarm=member(1, control=True, nodes=["node1"]))],
        "host1: manages a swarm already, which Apiary has not created: cluster_name is 'fleet'. To use that swarm as "
        "it is, set existing_machine_adopt_swarm: true",
    ),
    "a swarm of another cluster": (
        [machine(1, swarm=member(1, control=True, cluster="herd", nodes=["node1"]))],
        "host1: manages a swarm already, of the cluster 'herd'",
    ),
    "a worker of another swarm": (
        [
            machine(1, swarm=member(1, control=True, cluster="fleet", nodes=["node1"])),
            machine(2, swarm=member(2, managers=["198.51.100.1:2377"])),
        ],
        "host2: is a worker of a swarm that no manager of the inventory manages (its managers are 198.51.100.1:2377)",
    ),
    "an address that changed": (
        [machine(1, swarm=member(1, control=True, cluster="fleet", address="192.0.2.77", nodes=["node1"]))],
        "host1: is in its swarm as 192.0.2.77, and its address is 192.0.2.1: a node cannot change its address",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("machines", "message"), WRONG.values(), ids=WRONG)
def test_host_is_refused_for(machines: list[dict[str, Any]], message: str) -> None:
    found = problems(machines)
    assert len(found) == 1, found
    assert message in found[0]


def test_all_that_is_wrong_is_told_at_once() -> None:
    machines = three(clock_offset=130.0, hostname="host3", engine={**ENGINE, "rootless": True})
    assert len(problems(machines)) == 3


def test_swarm_of_somebody_else_is_used_when_asked_for() -> None:
    assert problems([machine(1, swarm=member(1, control=True, nodes=["node1"]))], adopt=True) == []


OTHERS = [{"name": "node1", "network": "192.168.97.0/24"}, {"name": "myvm1", "network": "192.168.59.1/24"}]


def test_host_that_cannot_reach_nodes_of_other_providers_is_refused() -> None:
    found = problems([machine(1)], others=OTHERS[:1])
    assert "host1: cannot be in one swarm with node1, whose network 192.168.97.0/24 is one of this computer" in found[0]


def test_host_on_the_network_of_other_nodes_is_fine() -> None:
    inside = machine(1, host="192.168.97.9", addresses=[{"interface": "eth0", "address": "192.168.97.9/24"}])
    assert problems([inside], others=OTHERS[:1]) == []


def test_host_that_is_called_like_another_node_is_refused() -> None:
    inside = machine(1, hostname="node1", address="192.168.97.9", addresses=[
        {"interface": "eth0", "address": "192.168.97.9/24"},
    ])  # fmt: skip
    assert "have the same host name (node1)" in problems([inside], others=OTHERS[:1])[0]


@pytest.mark.parametrize(("provider", "variable"), [
    ("container_machine", "container_machine_network"),
    ("docker_machine", "docker_machine_hostonly_cidr"),
])  # fmt: skip
def test_networks_of_other_providers_are_those_of_their_roles(provider: str, variable: str) -> None:
    known = yaml.safe_load((ROOT / "roles/existing_machine/vars/main.yml").read_text())["__existing_machine_networks"]
    defaults = yaml.safe_load((ROOT / "roles" / provider / "defaults/main.yml").read_text())
    assert known[provider] == {"variable": variable, "default": defaults[variable]}


# Leaving

OURS: dict[str, tuple[dict[str, Any], bool]] = {
    "a manager of a swarm with our name": (member(1, control=True, cluster="fleet"), True),
    "a manager of one without": (member(1, control=True), False),
    "a manager of another cluster's": (member(1, control=True, cluster="herd"), False),
    "a worker that our managers know": (member(2, managers=["198.51.100.1:2377"]), True),
    "a worker whose managers are hosts of the inventory": (member(9), True),
    "a worker of others": (member(9, managers=["198.51.100.1:2377"]), False),
    "a worker that knows no manager": (member(9, managers=[]), False),
    "a manager without a leader, among ours": (member(9, control=True, leaderless=True), True),
    "one among others": (
        member(9, control=True, leaderless=True, managers=["192.0.2.1:2377", "198.51.100.1:2377"]),
        False,
    ),
}


@pytest.mark.parametrize(("swarm", "expected"), OURS.values(), ids=OURS)
def test_only_the_clusters_own_swarm_is_left(swarm: dict[str, Any], expected: bool) -> None:
    near = {"192.0.2.1", "192.0.2.2"}.__contains__
    assert existing.is_ours({"swarm": swarm}, "fleet", ["node1", "node2"], near) is expected

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is promised where an inventory has machines of several providers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.plain_hosts import PROJECT, PlainHosts

NODES = ["node1", "node2", "host1"]


@pytest.fixture(scope="session")
def hosts() -> PlainHosts:
    return PlainHosts("molecule-mixed-host", Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "state" / "hosts")


def said(run: Any) -> str:
    return " ".join(run.output.split())


def test_container_nodes_and_a_host_are_one_swarm(scenario: Any) -> None:
    addresses = {name: entries[0]["Status"]["Addr"] for name, entries in scenario.listed("node1").items()}
    numbers = {"node1": 101, "node2": 102, "host1": 201}
    assert addresses == {name: f"192.168.{scenario.range}.{numbers[name]}" for name in NODES}
    assert scenario.ready("node1") == {"node1": "leader", "node2": "worker", "host1": "worker"}


def test_tasks_run_on_each_and_answer_through_each(scenario: Any) -> None:
    assert set(scenario.running_tasks("node1").values()) == set(NODES)
    assert scenario.play("verify").status == 0


def variant(directory: Path, **hosts: dict[str, Any]) -> Path:
    """The scenario's inventory, where some hosts differ."""
    (directory / "group_vars").symlink_to(PROJECT / "molecule" / "inventory" / "group_vars")
    names = {"managers": ["node1"], "workers": [name for name in hosts if name != "node1"]}
    content: dict[str, Any] = {group: {"hosts": {name: hosts[name] for name in its}} for group, its in names.items()}
    content["plain"] = {"hosts": {name: {} for name in hosts if name.startswith("host")}}
    path = directory / "hosts.json"
    path.write_text(json.dumps(content))
    return path


def test_host_outside_of_the_nodes_network_is_refused(scenario: Any, hosts: PlainHosts, tmp_path: Path) -> None:
    inventory = variant(tmp_path, node1={}, node2={}, host1={"existing_machine_interface": "aside"})
    hosts.run("host1", "ip link add aside type bridge && ip address add 198.51.100.7/24 dev aside")
    before = {container.id for container in scenario.containers.values()}
    text = said(scenario.play("machines", inventory=inventory, succeeds=False))
    network = f"192.168.{scenario.range}.0/24"
    assert f"host1: cannot be in one swarm with node1, node2, whose network {network} is one of this computer" in text
    assert "Nothing has been changed" in text
    assert {container.id for container in scenario.containers.values()} == before


def test_nobody_can_join_virtual_machines_under_qemu(scenario: Any, tmp_path: Path) -> None:
    inventory = variant(tmp_path, node1={}, myvm1={"machine_provider": "qemu_machine"})
    text = said(scenario.play("machines", inventory=inventory, succeeds=False))
    assert "machine_provider is container_machine and qemu_machine: each makes machines with a network" in text
    assert "nobody can join those of qemu_machine" in text


def test_host_leaves_the_swarm_of_the_nodes(scenario: Any, hosts: PlainHosts, tmp_path: Path) -> None:
    play = tmp_path / "leave.yml"
    leave = {"ansible.builtin.include_role": {"name": "existing_machine", "tasks_from": "absent"}}
    tasks = [{**leave, "when": "machine_provider == 'existing_machine'"}]
    play.write_text(json.dumps([{"name": "Leave", "hosts": "all", "gather_facts": False, "tasks": tasks}]))
    assert "removed: host1; kept: the hosts" in said(scenario.play(str(play)))
    assert hosts.run("host1", "docker info --format '{{.Swarm.LocalNodeState}}'").strip() == "inactive"
    assert scenario.membership("node2")["LocalNodeState"] == "active"

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is promised when nodes come and go. The tests build on each other.

The load goes through node2, which stays: the proxy that publishes ports on kernels without IPVS ends with its node.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.load import Load

Inventory = Callable[..., Path]


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    """An inventory with these managers and workers."""

    def write(managers: list[str], workers: list[str]) -> Path:
        directory = tmp_path_factory.mktemp("inventory")
        (directory / "group_vars").symlink_to(Path(__file__).parents[1] / "inventory" / "group_vars")
        groups = {"managers": managers, "workers": workers, "quick": managers + workers}
        path = directory / "hosts.json"
        path.write_text(json.dumps({name: {"hosts": dict.fromkeys(hosts)} for name, hosts in groups.items()}))
        return path

    return write


@pytest.fixture(scope="module")
def four(inventory: Inventory) -> Path:
    return inventory(["node1", "node3", "node4"], ["node2"])


def changed(output: str, host: str) -> int:
    match = re.search(rf"^{host}\s.*\bchanged=(\d+)", output, re.MULTILINE)
    assert match, output
    return int(match[1])


def test_new_hosts_become_nodes_and_nothing_else_is_touched(scenario: Any, four: Path) -> None:
    machines = {name: container.attrs["State"]["StartedAt"] for name, container in scenario.containers.items()}
    tasks = scenario.running_tasks("node1")
    with Load([scenario.url("node2"), scenario.url("node1")]) as load:
        run = scenario.play("site", inventory=four)
    assert load.lost == []
    assert scenario.ready("node1") == {"node1": "leader", "node2": "worker", "node3": "manager", "node4": "manager"}
    assert changed(run.output, "node2") == 0
    assert scenario.running_tasks("node1") == tasks
    after = {name: container.attrs["State"]["StartedAt"] for name, container in scenario.containers.items()}
    assert machines.items() <= after.items()


def test_check_says_what_would_be_spread_and_moves_nothing(scenario: Any, four: Path) -> None:
    before = scenario.running_tasks("node1")
    run = scenario.play("rebalance", "--check", inventory=four)
    assert "would move 2 of 4 tasks of getstartedlab_web (2 on node1, 2 on node2, 0 on node3, 0 on node4)" in run.output
    assert scenario.running_tasks("node1") == before


def test_rebalance_gives_new_nodes_their_share(scenario: Any, four: Path) -> None:
    before = set(scenario.running_tasks("node1"))
    with Load([scenario.url("node2")]) as load:
        scenario.play("rebalance", inventory=four)
    assert load.lost == []
    tasks = scenario.running_tasks("node1")
    assert Counter(tasks.values()) == {"node1": 1, "node2": 1, "node3": 1, "node4": 1}
    assert len(before & set(tasks)) == 2
    assert changed(scenario.play("rebalance", inventory=four).output, "node1") == 0


def test_stack_is_still_what_was_deployed(scenario: Any, four: Path) -> None:
    assert changed(scenario.play("stack", inventory=four).output, "node1") == 0


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ("node2", "node2 has the only copy of the volume getstartedlab_kept of the service getstartedlab_store"),
        ("nobody", "node is 'nobody': there is no node and no machine of that name"),
    ],
)
def test_removal_is_refused_before_anything_is_changed(scenario: Any, four: Path, node: str, reason: str) -> None:
    before = scenario.running_tasks("node1")
    run = scenario.play("remove_node", "-e", f"node={node}", inventory=four, succeeds=False)
    assert reason in " ".join(run.output.split())
    assert scenario.running_tasks("node1") == before
    assert len(scenario.ready("node1")) == 4
    assert scenario.availability("node1", "node2") == ("active", None)


def test_leader_hands_over_and_leaves_with_its_machine(scenario: Any, four: Path) -> None:
    roles = scenario.ready("node1")
    leader = next(name for name, role in roles.items() if role == "leader")
    with Load([scenario.url("node2")]) as load:
        scenario.play("remove_node", "-e", f"node={leader}", inventory=four)
    assert load.lost == []
    (survivor, _other) = sorted({"node1", "node3", "node4"} - {leader})
    assert sorted(scenario.ready(survivor)) == sorted(set(roles) - {leader})
    assert "leader" in scenario.ready(survivor).values()
    assert leader not in scenario.containers
    assert f"{scenario.name}-{leader}" not in [volume.name for volume in scenario.outer.volumes.list()]
    assert len(scenario.running_tasks(survivor)) == 4


@pytest.fixture(scope="module")
def managers(scenario: Any) -> list[str]:
    """The managers that are left, the leader first."""
    (any_manager, *_) = [name for name in ("node1", "node3", "node4") if name in scenario.containers]
    roles = scenario.ready(any_manager)
    return sorted((name for name, role in roles.items() if role != "worker"), key=lambda name: roles[name] != "leader")


def test_second_of_three_managers_is_refused(scenario: Any, four: Path, managers: list[str]) -> None:
    run = scenario.play("remove_node", "-e", f"node={managers[1]}", inventory=four, succeeds=False)
    assert f"nothing was changed: {managers[1]} is a manager, and of 2 managers 2 are a majority" in " ".join(
        run.output.split()
    )
    assert scenario.ready(managers[0])[managers[1]] == "manager"


def test_node_that_is_dead_and_no_longer_in_the_inventory_is_reported_and_then_removed(
    scenario: Any, inventory: Inventory, managers: list[str]
) -> None:
    leader, gone = managers
    scenario.play("swarm", inventory=inventory([leader], ["node2", gone]))
    container = scenario.containers[gone]
    container.remove(force=True, v=True)
    scenario.outer.volumes.get(container.name).remove()
    two = inventory([leader], ["node2"])
    with Load([scenario.url("node2")]) as load:
        run = scenario.play("remove_node", "-e", f"node={gone}", inventory=two)
    assert scenario.ready(leader) == {leader: "leader", "node2": "worker"}
    assert sorted(scenario.containers) == sorted([leader, "node2"])
    assert Counter(scenario.running_tasks(leader).values()).total() == 4
    assert f"the node {gone}" in " ".join(run.output.split())
    # its own tasks were lost with it, and so may be what was on its way to them until the swarm noticed
    assert load.answers > 0

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promises of the role swarm_maintenance, as its scenario leaves the cluster: with a worker out of work."""

from __future__ import annotations

from typing import Any


def test_drained_node_has_no_tasks_and_what_it_was_is_remembered(scenario: Any) -> None:
    assert scenario.availability("node1", "node2") == ("drain", "active")
    assert list(scenario.running_tasks("node1").values()) == ["node1"] * 4
    assert scenario.engine("node2").containers.list() == []


def test_next_run_of_the_swarm_gives_the_node_back(scenario: Any) -> None:
    scenario.play("swarm")
    assert scenario.availability("node1", "node2") == ("active", None)


def test_rebalance_lets_it_take_its_share(scenario: Any) -> None:
    before = set(scenario.running_tasks("node1"))
    scenario.play("rebalance")
    tasks = scenario.running_tasks("node1")
    assert sorted(tasks.values()) == ["node1", "node1", "node2", "node2"]
    assert len(before & set(tasks)) == 2

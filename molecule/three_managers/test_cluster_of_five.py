# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promises of a cluster with three managers and two workers."""

from __future__ import annotations

from typing import Any

import docker.errors
import pytest

MANAGERS = ["node1", "node2", "node3"]
WORKERS = ["node4", "node5"]


@pytest.mark.parametrize("node", MANAGERS)
def test_each_manager_lists_all_nodes_as_ready(scenario: Any, node: str) -> None:
    ready = scenario.ready(node)
    assert sorted(ready[manager] for manager in MANAGERS) == ["leader", "manager", "manager"]
    assert [ready[worker] for worker in WORKERS] == ["worker", "worker"]


@pytest.mark.parametrize("node", WORKERS)
def test_worker_cannot_list_nodes(scenario: Any, node: str) -> None:
    with pytest.raises(docker.errors.APIError, match="Worker nodes can't"):
        scenario.engine(node).api.nodes()


@pytest.mark.parametrize("node", WORKERS)
def test_worker_knows_all_managers(scenario: Any, node: str) -> None:
    known = {manager["NodeID"] for manager in scenario.membership(node)["RemoteManagers"]}
    assert known == {scenario.membership(manager)["NodeID"] for manager in MANAGERS}


def test_tasks_are_spread_over_all_nodes(scenario: Any) -> None:
    assert sorted(scenario.running_tasks("node1").values()) == MANAGERS + WORKERS


@pytest.mark.parametrize("node", MANAGERS + WORKERS)
def test_all_tasks_answer_in_turn_through_every_node(scenario: Any, node: str) -> None:
    tasks = {container[:12] for container in scenario.running_tasks("node1")}
    assert scenario.heard(node, tasks) == tasks

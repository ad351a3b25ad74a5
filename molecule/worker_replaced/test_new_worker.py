# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is promised when a worker is lost with all its data."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="module")
def former(scenario: Any) -> str:
    """Lose the worker's container and volume, and run site.yml; the ID in the swarm that the worker had."""
    node_id: str = scenario.membership("node2")["NodeID"]
    container = scenario.containers["node2"]
    container.remove(force=True, v=True)
    scenario.outer.volumes.get(container.name).remove()
    scenario.play("site")
    return node_id


def test_worker_is_a_new_node(scenario: Any, former: str) -> None:
    assert scenario.membership("node2")["LocalNodeState"] == "active"
    assert scenario.membership("node2")["NodeID"] != former


def test_entry_of_the_lost_one_is_gone(scenario: Any, former: str) -> None:
    assert scenario.ready("node1") == {"node1": "leader", "node2": "worker"}


def test_all_tasks_run_and_answer_through_the_new_worker(scenario: Any, former: str) -> None:
    tasks = {container[:12] for container in scenario.running_tasks("node1")}
    assert len(tasks) == 2
    assert scenario.heard("node2", tasks) == tasks


def test_new_worker_can_run_tasks(scenario: Any, former: str) -> None:
    scenario.play("stack", "-e", "web_replicas=4")
    assert "node2" in scenario.running_tasks("node1").values()

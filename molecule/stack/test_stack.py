# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promises of the role stack."""

from __future__ import annotations

from typing import Any

import pytest

NODES = ["node1", "node2"]


def test_service_has_the_replicas_that_the_template_asks_for(scenario: Any) -> None:
    service = scenario.engine("node1").services.get("getstartedlab_web")
    assert service.attrs["Spec"]["Mode"]["Replicated"]["Replicas"] == 2
    assert len(scenario.running_tasks("node1")) == 2


def test_tasks_are_held_to_their_limits(scenario: Any) -> None:
    for container, node in scenario.running_tasks("node1").items():
        limits = scenario.engine(node).api.inspect_container(container)["HostConfig"]
        assert (limits["NanoCpus"], limits["Memory"]) == (500_000_000, 50 * 1024**2)


@pytest.mark.parametrize("node", NODES)
def test_every_task_answers_through_every_node(scenario: Any, node: str) -> None:
    tasks = {container[:12] for container in scenario.running_tasks("node1")}
    assert scenario.heard(node, tasks) == tasks


def test_scaling_leaves_the_running_tasks_alone(scenario: Any) -> None:
    before = set(scenario.running_tasks("node1"))
    scenario.play("stack", "-e", "web_replicas=3")
    after = set(scenario.running_tasks("node1"))
    assert len(after) == 3
    assert before < after

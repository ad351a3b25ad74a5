# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is promised when site.yml is killed half-way. The tests build on each other."""

from __future__ import annotations

import re
from typing import Any

import pytest

PLACES = ["Have the node in its state", "Work for the swarm", "Load what the nodes lack", "Deploy the stack"]


@pytest.fixture(scope="module")
def interrupted(scenario: Any) -> None:
    """Kill a run while machines are made, one while the worker joins, and so on."""
    for task in PLACES:
        scenario.play_until("site", task)


@pytest.fixture(scope="module")
def finished(scenario: Any, interrupted: None) -> None:
    """Run it to its end."""
    scenario.play("site")


def test_swarm_is_as_after_one_run(scenario: Any, finished: None) -> None:
    assert scenario.ready("node1") == {"node1": "leader", "node2": "worker"}


def test_stack_is_as_after_one_run(scenario: Any, finished: None) -> None:
    assert len(scenario.running_tasks("node1")) == 2


def test_no_node_was_made_twice(scenario: Any, finished: None) -> None:
    assert sorted(scenario.containers) == ["node1", "node2"]


def test_nothing_is_left_to_do(scenario: Any, finished: None) -> None:
    changes = re.findall(r"\bchanged=(\d+)", scenario.play("site").output)
    assert changes == ["0", "0"]

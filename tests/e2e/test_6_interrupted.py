# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A run that is killed in any phase, and run again, ends in the same state."""

from __future__ import annotations

import pytest

from .conftest import Cluster, ask_often

#: a task of each phase, in running order
TASKS = [
    "Have the machine in its state",
    "Manage the swarm",
    "Work for the swarm",
    "Load what this node lacks",
    "Deploy the stack",
    "Wait until the stack runs",
]


@pytest.mark.parametrize("task", TASKS)
def test_run_is_killed_in(cluster: Cluster, task: str) -> None:
    assert "fatal:" not in cluster.play_until("site", task)


def test_next_run_finishes_the_job(cluster: Cluster) -> None:
    output = cluster.play("site").output
    assert "getstartedlab_web" in output
    assert len(cluster.web_containers()) == 5
    for address in cluster.entrypoints.values():
        assert len(ask_often(address, 20)) == 5
    assert cluster.play("site").changed == 0


def test_destroy_finishes_what_a_killed_destroy_began(cluster: Cluster) -> None:
    cluster.play("destroy", "-e", "destroy_confirmed=true")
    assert not cluster.directory.exists()

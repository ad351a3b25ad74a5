# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A run that is killed in any phase, and run again, ends in the same state."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.clusters import CONFIRMED, SECRETS, Cluster

#: a task of each phase, in running order
TASKS = [
    "Have the machine in its state",
    "Manage the swarm",
    "Work for the swarm",
    "Load what the nodes lack",
    "Deploy the stack",
    "Wait until the stack runs",
]
#: more than one on a machine
REPLICAS = 3


@pytest.fixture(scope="module")
def cluster(qemu: Cluster) -> Cluster:
    """The cluster of which nothing is left; it gets one service with few tasks, as each takes its time."""
    if qemu.directory.exists():
        qemu.play("destroy", *CONFIRMED)
    return replace(qemu, settings={**qemu.settings, "stack_services": ["web"], "web_replicas": REPLICAS})


@pytest.mark.parametrize("task", TASKS)
def test_run_is_killed_in(cluster: Cluster, task: str) -> None:
    assert "fatal:" not in cluster.play_until("site", task)


def test_next_run_finishes_the_job(cluster: Cluster) -> None:
    output = cluster.play("site").output
    assert "getstartedlab_web" in output
    assert len(cluster.web_containers()) == REPLICAS
    for machine in cluster.machines:
        assert len(cluster.answers(machine, 4 * REPLICAS)) == REPLICAS
    assert cluster.play("site").changed == 0


def test_destroy_leaves_nothing_and_says_what_it_kept(cluster: Cluster) -> None:
    run = cluster.play("destroy", *CONFIRMED)
    assert re.search(r"kept: .*image cache, \d+ MiB", run.output)
    assert cluster.parts() == []


def test_no_run_has_shown_a_secret(cluster: Cluster) -> None:
    everything = "\n".join(cluster.outputs)
    assert [secret for secret in SECRETS if secret in everything] == []

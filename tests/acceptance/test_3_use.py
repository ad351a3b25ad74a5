# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The stack as its user meets it, and a run with nothing to do."""

from __future__ import annotations

import pytest

from tests.clusters import Cluster

pytestmark = pytest.mark.lifecycle


def test_requests_come_back_from_the_same_tasks_in_turn_through_every_entrypoint(made: Cluster) -> None:
    containers = {container[:12] for container in made.web_containers()}
    assert len(containers) == made.replicas
    for machine in made.machines:
        assert made.answers(machine, 4 * len(containers)) == dict.fromkeys(containers, 4), machine


def test_answers_say_plainly_that_there_is_no_redis(made: Cluster) -> None:
    assert made.answer(made.named("manager")[0])["visits"] is None


def test_tasks_have_the_limits_of_the_tutorial(made: Cluster) -> None:
    for container, machine in made.web_containers().items():
        with made.api(machine) as api:
            limits = api.inspect_container(container)["HostConfig"]
        assert limits["NanoCpus"] == 100_000_000
        assert limits["Memory"] == 50 * 1024 * 1024


def test_second_run_changes_nothing(made: Cluster) -> None:
    before = made.web_containers()
    run = made.play("site")
    assert run.changed == 0, run.output
    assert made.web_containers() == before


def test_check_after_it_has_nothing_to_change(made: Cluster) -> None:
    run = made.play("site", "--check", "--diff")
    assert run.changed == 0, run.output

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The stack as its user meets it, and a run with nothing to do."""

from __future__ import annotations

import socket

import pytest
import requests

from tests.clusters import Cluster

pytestmark = pytest.mark.lifecycle


def test_requests_come_back_from_the_same_tasks_in_turn_through_every_entrypoint(made: Cluster) -> None:
    containers = {container[:12] for container in made.web_containers()}
    assert len(containers) == made.replicas
    for machine in made.machines:
        assert made.answers(machine, 4 * len(containers)) == dict.fromkeys(containers, 4), machine


@pytest.fixture
def redis(made: Cluster) -> str:
    """The manager that has Redis, and its data."""
    if "redis" not in made.services:
        pytest.skip("the stack of this inventory has no redis")
    ((_container, machine),) = made.containers("redis").items()
    return machine


def test_visualizer_shows_every_machine_through_every_entrypoint(made: Cluster) -> None:
    if "visualizer" not in made.services:
        pytest.skip("the stack of this inventory has no visualizer")
    ((_container, machine),) = made.containers("visualizer").items()
    assert machine in made.named("manager")
    for entrypoint in made.entrypoints.values():
        url = f"http://{entrypoint}:{made.port_of('visualizer')}"
        assert "<title>" in requests.get(url, timeout=60).text
        # The first event is the whole swarm: it may use the engine's socket.
        with requests.get(f"{url}/events", stream=True, timeout=60) as events:
            state = next(line.decode() for line in events.iter_lines() if line.startswith(b"data:"))
        assert [name for name in made.machines if name not in state] == []


def test_redis_has_its_data_on_a_manager_in_the_directory_that_outlives_it(made: Cluster, redis: str) -> None:
    assert redis in made.named("manager")
    ((container, _machine),) = made.containers("redis").items()
    with made.api(redis) as api:
        mounts = api.inspect_container(container)["Mounts"]
    assert [mount["Source"] for mount in mounts if mount["Destination"] == "/data"] == [
        f"{made.machines[redis]['data_dir']}/{made.stack}/redis"
    ]


def test_counter_counts_through_every_entrypoint(made: Cluster, redis: str) -> None:
    visits = [made.counted(machine) for machine in made.machines]
    assert visits == sorted(set(visits))


def test_redis_answers_through_every_entrypoint_and_wants_a_password(made: Cluster, redis: str) -> None:
    for entrypoint in made.entrypoints.values():
        with socket.create_connection((entrypoint, made.port_of("redis")), 60) as connection:
            connection.sendall(b"INCR visits\r\n")
            assert connection.recv(100).startswith(b"-NOAUTH")


def test_counter_goes_on_after_redis_was_removed_and_deployed(made: Cluster, redis: str) -> None:
    before = made.counted(redis)
    with made.api(redis) as api:
        api.remove_service(f"{made.stack}_redis")
    assert "create service redis" in made.play("stack", "--check", "--diff").output
    made.play("stack")
    assert made.counted(redis) > before


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

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The counter goes on: after its container is killed, after the stack is removed, after its node has restarted."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import docker.errors
import pytest

NODES = ["node1", "node2", "node3"]
STACK = {"label": "com.docker.stack.namespace=getstartedlab"}


def redis_on(scenario: Any, manager: str = "node2") -> list[str]:
    return list(scenario.running_tasks(manager, "getstartedlab_redis").values())


def secrets(scenario: Any) -> list[str]:
    return [secret["Spec"]["Name"] for secret in scenario.engine("node2").api.secrets()]


def labelled(scenario: Any) -> list[str]:
    nodes = scenario.engine("node2").api.nodes()
    return [node["Description"]["Hostname"] for node in nodes if node["Spec"].get("Labels", {}).get("apiary.data")]


def test_redis_runs_on_the_first_manager_which_has_its_data(scenario: Any) -> None:
    assert redis_on(scenario) == labelled(scenario) == ["node1"]
    data = scenario.inside("node1").file("/var/lib/apiary/getstartedlab/redis")
    assert (data.uid, data.gid, data.mode) == (999, 999, 0o700)


def test_counter_counts_through_every_node(scenario: Any) -> None:
    visits = [scenario.counted(node) for node in NODES]
    assert visits == list(range(visits[0], visits[0] + len(NODES)))


@pytest.mark.parametrize("node", NODES)
def test_redis_wants_a_password_through_every_node(scenario: Any, node: str) -> None:
    with socket.create_connection((scenario.entrypoint(node), 6379), 20) as connection:
        connection.sendall(b"INCR visits\r\n")
        assert connection.recv(100).startswith(b"-NOAUTH")


def test_password_is_on_no_command_line_and_in_no_specification(scenario: Any) -> None:
    password = scenario.redis("node1", "sh", "-c", "cat /run/secrets/redis_password")
    assert len(password) == 32
    lines = scenario.inside("node1").run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
    assert "redis-server" in lines
    (container,) = scenario.running_tasks("node1", "getstartedlab_redis")
    api = scenario.engine("node1").api
    assert password not in f"{lines} {api.inspect_container(container)} {api.services()}"


def test_counter_goes_on_after_redis_was_killed(scenario: Any, eventually: Callable[..., Any]) -> None:
    before = scenario.counted("node1")
    (container,) = scenario.running_tasks("node1", "getstartedlab_redis")
    scenario.engine("node1").containers.get(container).kill()
    assert eventually(
        lambda: redis_on(scenario) and container not in scenario.running_tasks("node1", "getstartedlab_redis")
    )
    assert scenario.counted("node1") == before + 1


def test_counter_goes_on_after_the_stack_was_removed_and_deployed(scenario: Any) -> None:
    before = scenario.counted("node1")
    api = scenario.engine("node1").api
    # as docker stack rm does
    for service in api.services(filters=STACK):
        api.remove_service(service["ID"])
    for config in api.configs(filters=STACK):
        api.remove_config(config["ID"])
    for network in api.networks(filters=STACK):
        api.remove_network(network["Id"])
    kept = secrets(scenario)
    scenario.play("stack")
    kept_visits = int(scenario.redis("node1", "/redis/cli", "get", "visits"))
    assert kept_visits >= before  # the run's own questions may be counted
    assert scenario.counted("node2") == kept_visits + 1
    assert secrets(scenario) == kept  # those who know the password go on with it


def test_counter_goes_on_with_another_password(scenario: Any) -> None:
    before, (old,) = scenario.counted("node1"), secrets(scenario)
    proxies = scenario.running_tasks("node1", "getstartedlab_ingress")
    scenario.play("stack", "-e", '{"stack_secrets_rotate": ["redis_password"]}')
    (new,) = secrets(scenario)
    assert new != old
    assert scenario.counted("node2") > before
    assert scenario.running_tasks("node1", "getstartedlab_ingress") == proxies  # which have nothing to do with it


def test_data_is_not_left_behind_for_another_node(scenario: Any) -> None:
    run = scenario.play("stack", "-e", "stack_data_node=node2", succeeds=False)
    assert "the data is on node1, where it would stay" in " ".join(run.output.split())
    assert (redis_on(scenario), labelled(scenario)) == (["node1"], ["node1"])


def test_redis_does_not_go_where_its_data_is_not(scenario: Any, eventually: Callable[..., Any]) -> None:
    before = scenario.counted("node1")
    scenario.containers["node1"].kill()

    def waits() -> bool:
        try:
            tasks = scenario.engine("node2").api.tasks({"service": "getstartedlab_redis", "desired-state": "running"})
        except docker.errors.APIError:  # until the other managers have a leader
            return False
        return any("no suitable node" in task["Status"].get("Err", "") for task in tasks)

    assert eventually(waits, 120)
    assert not [node for node in redis_on(scenario) if node != "node1"]
    scenario.play("site")
    assert redis_on(scenario) == ["node1"]
    assert scenario.counted("node3") > before


def test_data_outlives_a_node_that_is_made_anew(scenario: Any) -> None:
    """As for a new certificate: the container goes, and its volume stays."""
    before = scenario.counted("node2")
    scenario.containers["node1"].remove(force=True)
    scenario.play("site")
    assert scenario.counted("node1") > before

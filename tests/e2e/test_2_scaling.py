# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Change a number, run one playbook."""

from __future__ import annotations

import socket

from .conftest import Cluster, ask_often


def listens(address: str, port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex((address, port)) == 0


def test_scaling_up_starts_the_difference_alone(cluster: Cluster) -> None:
    before = set(cluster.web_containers())
    run = cluster.play("stack", "-e", "web_replicas=7")
    after = set(cluster.web_containers())
    assert run.changed == 1
    assert before < after
    assert len(after) == 7


def test_scaling_down_stops_the_difference_alone(cluster: Cluster) -> None:
    before = set(cluster.web_containers())
    cluster.play("stack", "-e", "web_replicas=3")
    after = set(cluster.web_containers())
    assert after < before
    assert len(after) == 3
    assert set(ask_often(cluster.entrypoints["myvm2"], 6)) == {container[:12] for container in after}


def test_plan_shows_the_number_that_would_change(cluster: Cluster) -> None:
    run = cluster.play("stack", "--check", "--diff")
    assert run.changed == 1
    assert "replicas: 5" in run.output
    assert len(cluster.web_containers()) == 3


def test_deploying_again_goes_back_to_the_inventorys_number(cluster: Cluster) -> None:
    assert cluster.play("stack").changed == 1
    for address in cluster.entrypoints.values():
        assert len(ask_often(address, 10)) == 5


def test_what_the_stack_publishes_is_forwarded_while_the_machines_run(cluster: Cluster) -> None:
    before = cluster.process("myvm1")
    assert not listens(cluster.entrypoints["myvm1"], 4001)
    assert cluster.play("machines", "-e", "web_port=4001").changed == 2
    assert listens(cluster.entrypoints["myvm1"], 4001)
    assert listens(cluster.entrypoints["myvm1"], 4000), "it may be another stack's"
    assert cluster.play("machines").changed == 0
    assert cluster.process("myvm1") == before

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Change a number, run one playbook."""

from __future__ import annotations

from .conftest import Cluster, ask_often


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


def test_published_port_is_forwarded_without_being_named_twice(cluster: Cluster) -> None:
    cluster.play("stack", "-e", "web_port=4001")
    with cluster.api("myvm1") as api:
        assert api.services()[0]["Endpoint"]["Ports"][0]["PublishedPort"] == 4001
    assert cluster.play("stack").changed > 0
    assert len(ask_often(cluster.entrypoints["myvm1"], 10)) == 5

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""New versions of the application on virtual machines, where the kernel balances: the routing mesh loses no request."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.clusters import Cluster
from tests.load import Load, lossless
from tests.sources import BROKEN, REASON, Sources, rebuilt

#: two tasks, so that they are soon replaced, and soon known to be healthy
FEW = ("-e", "web_replicas=2", "-e", "health_interval=5s")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return Sources(tmp_path_factory.mktemp("sources") / "images", "visualizer", "redis")


@pytest.fixture(scope="module")
def cluster(qemu: Cluster, sources: Sources) -> Cluster:
    qemu.play("site", "-e", sources.variables, *FEW)
    return qemu


def load(cluster: Cluster) -> AbstractContextManager[Load]:
    """A load on every entrypoint, from which nothing is lost."""
    return lossless([f"http://{address}:{cluster.port}/" for address in cluster.entrypoints.values()], 0.2)


def greetings(cluster: Cluster) -> set[str]:
    """What is said through every entrypoint."""
    return {str(cluster.answer(machine)["greeting"]) for machine in cluster.machines for _ in range(6)}


def update_state(cluster: Cluster) -> str:
    with cluster.api(cluster.named("manager")[0]) as api:
        service: dict[str, Any] = api.inspect_service(cluster.service)
    return str(service["UpdateStatus"]["State"])


def test_an_edit_is_what_every_task_says_and_no_request_is_lost(cluster: Cluster, sources: Sources) -> None:
    sources.greet()
    with load(cluster) as running:
        output = cluster.play("stack", "-e", sources.variables, *FEW).output
    assert rebuilt(output) == [sources.reference]
    assert greetings(cluster) == {f"{sources.greeting} World!"}
    assert {container[:12] for container in cluster.web_containers()} <= set(running.heard)


def test_a_broken_version_is_rolled_back_and_the_old_one_goes_on(cluster: Cluster, sources: Sources) -> None:
    sources.edit(*BROKEN["ends"])
    with load(cluster):
        output = " ".join(cluster.play("stack", "-e", sources.variables, *FEW, succeeds=False).output.split())
        deadline = time.monotonic() + 120
        while update_state(cluster) != "rollback_completed":
            assert time.monotonic() < deadline, update_state(cluster)
            time.sleep(1)
    assert "the update was rolled back, so the version before runs" in output
    assert REASON["ends"] in output
    assert greetings(cluster) == {f"{sources.greeting} World!"}

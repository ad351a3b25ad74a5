# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What dies comes back."""

from __future__ import annotations

import os
import shutil
import signal
import time

from tests.clusters import Cluster


def wait_for_web(cluster: Cluster, count: int, without: str) -> set[str]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        running = set(cluster.web_containers())
        if len(running) == count and without not in running:
            return running
        time.sleep(1)
    raise AssertionError(f"{cluster.web_containers()} after two minutes")


def test_killed_container_is_replaced(cluster: Cluster) -> None:
    before = cluster.web_containers()
    victim, machine = next(iter(before.items()))
    with cluster.api(machine) as api:
        api.kill(victim)
    after = wait_for_web(cluster, 5, victim)
    assert set(before) - {victim} < after


def test_killed_manager_is_back_after_the_next_run_with_the_swarm_and_its_data(cluster: Cluster) -> None:
    with cluster.api("myvm1") as api:
        nodes = {node["ID"] for node in api.nodes()}
    visits = cluster.counted("myvm2")
    time.sleep(2)  # what Redis was told in the last second may be lost with the power
    killed = cluster.process("myvm1")
    os.kill(killed, signal.SIGKILL)
    output = cluster.play("site").output
    assert cluster.process("myvm1") != killed
    assert "5/5" in output
    assert cluster.counted("myvm2") > visits
    with cluster.api("myvm1") as api:
        assert {node["ID"]: node["Status"]["State"] for node in api.nodes()} == dict.fromkeys(nodes, "ready")
    for machine in cluster.machines:
        assert len(cluster.answers(machine, 15)) == 5
    assert cluster.play("site").changed == 0


def test_machine_that_lost_its_files_is_made_anew_and_joins(cluster: Cluster) -> None:
    os.kill(cluster.process("myvm2"), signal.SIGKILL)
    shutil.rmtree(cluster.directory / "machines" / "myvm2")
    cluster.play("site")
    with cluster.api("myvm1") as api:
        names = [(node["Description"]["Hostname"], node["Status"]["State"]) for node in api.nodes()]
    assert sorted(names) == [("myvm1", "ready"), ("myvm2", "ready")]
    assert len(cluster.answers("myvm2", 15)) == 5

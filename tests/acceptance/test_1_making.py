# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From nothing to a stack that answers, with one playbook."""

from __future__ import annotations

import re

import pytest

from tests.clusters import Cluster

pytestmark = pytest.mark.lifecycle


def test_check_before_the_first_run_says_what_would_be_made(cluster: Cluster) -> None:
    run = cluster.play("site", "--check", "--diff")
    assert re.search(r"start the (machine|node)|membership: the swarm", run.output)
    assert run.changed > 0
    assert not cluster.directory.exists()


def test_site_tells_how_long_each_phase_took(site: str) -> None:
    assert re.search(r"Machines \d+\.\d s · .*Swarm \d+\.\d s · .*Stack \d+\.\d s · .*total \d+\.\d s", site)


def test_site_ends_with_the_report(made: Cluster, site: str) -> None:
    report = " ".join(site[site.rindex(f"Cluster {made.name}") :].split())
    for machine in made.machines.values():
        role = "(leader|manager)" if machine["role"] == "manager" else "worker"
        assert re.search(rf"{machine['node']} {role} ready {machine['address']} {machine['entrypoint']}\b", report)
        assert f"http://{machine['entrypoint']}:{made.port}" in report
    assert report.count(" leader ready ") == 1
    assert f"{made.service} {made.replicas}/{made.replicas} " in report
    for service, scheme in (("visualizer", "http"), ("redis", "redis")):
        if service in made.services:
            assert f"{made.stack}_{service} 1/1 " in report
            assert f"{scheme}://{machine['entrypoint']}:{made.port_of(service)}" in report
    assert "export DOCKER_HOST=" in report


def test_what_python_imports_at_a_start_is_compiled(made: Cluster) -> None:
    """Else each start compiles it anew; the image is made on this computer, whose own Python may be another one."""
    container, machine = next(iter(made.web_containers().items()))
    check = "import json, os, sys; sys.exit(not os.path.exists(json.__cached__))"
    with made.api(machine) as api:
        asked = api.exec_create(container, ["/usr/bin/python3", "-c", check])
        said = api.exec_start(asked["Id"])
        assert api.exec_inspect(asked["Id"])["ExitCode"] == 0, said

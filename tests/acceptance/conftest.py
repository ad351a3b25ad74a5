# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Apiary promises of every cluster, whatever its machines are: written once, run against any inventory.

pytest tests/acceptance                                            on clusters of the tests' own
pytest tests/acceptance --inventory inventories/mine               on yours: looks, and changes nothing
pytest tests/acceptance --inventory inventories/mine --lifecycle   makes yours, scales it, removes it
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.clusters import Cluster

#: the inventories of which the tests make clusters of their own; fixtures of these names
OWN = ["containers", "qemu", "virtualbox"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cluster" in metafunc.fixturenames:
        given = metafunc.config.getoption("inventory")
        metafunc.parametrize("cluster", [given] if given else OWN, indirect=True, scope="session")


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """The cluster, which the first test makes unless it is somebody's."""
    if not request.config.getoption("inventory"):
        own: Cluster = request.getfixturevalue(request.param)
        return own
    cluster = Cluster(request.param, extra_vars=tuple(request.config.getoption("cluster_vars")))
    # a look of its own: what this cluster knows of its machines, it remembers
    if request.config.getoption("lifecycle") and (parts := replace(cluster, outputs=[], _machines={}).parts()):
        pytest.exit(
            f"there is a cluster {cluster.name} already ({parts[0]}), which --lifecycle would remove: "
            "remove it yourself with playbooks/destroy.yml, or choose another with --cluster-vars cluster_name=other",
            returncode=2,
        )
    return cluster


@pytest.fixture(scope="session")
def site(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """What was said by the run that made the cluster; nothing where it is somebody's."""
    is_somebodys = request.config.getoption("inventory") and not request.config.getoption("lifecycle")
    return "" if is_somebodys else cluster.play("site").output


@pytest.fixture(scope="session")
def made(cluster: Cluster, site: str) -> Cluster:
    """The cluster, made."""
    return cluster


@pytest.fixture(scope="session")
def verdicts(made: Cluster, site: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The verdict on each promise, by its name, from one run of playbooks/verify.yml."""
    # Where all nodes were there before the tasks, there is no excuse for an uneven spread.
    strict = ["-e", "cluster_verify_strict=true"] if site else []
    return verify(made, tmp_path_factory.mktemp("verify") / "verdicts.json", *strict)


def verify(cluster: Cluster, path: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    """Return what playbooks/verify.yml finds; its exit status must say the same."""
    run = cluster.run("verify", "-e", f"cluster_verify_file={path}", *arguments)
    assert path.exists(), f"the cluster could not be verified:\n{run.output}"
    result = json.loads(path.read_text())
    assert (run.status == 0) == result["kept"], run.output
    assert run.changed == 0, run.output
    return {promise["name"]: promise for promise in result["promises"]}

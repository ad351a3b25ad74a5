# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The clusters that tests run on: two of their own, or the one of an inventory.

The cluster of virtual machines takes minutes to make, so all tests share one: it is made and scaled by the acceptance
tests, mistreated by the end-to-end tests, and then removed by the acceptance tests.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clusters import CONFIRMED, ROOT, Cluster
from tests.controllers import Controller, controller
from tests.docker_machines import RESOURCES, DockerMachine
from tests.scenarios import Scenarios, missing, no_engine, no_virtual_machines

TESTS = Path(__file__).resolve().parent
NEWEST_DEBIAN = "trixie"

#: where the tests of a file are run, those of unnamed ones first. Molecule's scenarios begin beside the first of all,
#: and what is left of them is waited for before machines are emulated, which have the computer for themselves.
_STAGES = {
    "acceptance": 1,
    "acceptance, virtual machines": 2,
    "e2e": 3,
    "acceptance, removal of virtual machines": 4,
    "e2e, from nothing": 5,
    "molecule": 6,
    "emulated": 7,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("apiary", "Apiary's clusters")
    group.addoption("--inventory", help="run the acceptance tests against this inventory's cluster; changes nothing")
    group.addoption(
        "--cluster-vars",
        action="append",
        default=[],
        metavar="VARS",
        help="with --inventory: settings, as ansible-playbook takes them with -e; may be given more than once",
    )
    group.addoption(
        "--lifecycle",
        action="store_true",
        help="with --inventory: make that cluster, which must not be there, scale it and REMOVE it",
    )

    group.addoption(
        "--pictures",
        action="store_true",
        help="with tests/browser: take the pictures in docs/ anew; Inter is their font",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lifecycle: makes, changes or removes the cluster")


@pytest.hookimpl(trylast=True)  # pytest itself has grouped the tests by their clusters
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _STAGES.get(_stage(item), 0))
    if config.getoption("inventory") and not config.getoption("lifecycle"):
        left_out = pytest.mark.skip(reason="changes the cluster: run with --lifecycle on one that may be removed")
        for item in items:
            if item.get_closest_marker("lifecycle"):
                item.add_marker(left_out)


def _stage(item: pytest.Item) -> str:
    if TESTS / "molecule" in item.path.parents:
        return "molecule" if getattr(item, "originalname", "") == "test_scenario" else "acceptance"
    if TESTS / "e2e" in item.path.parents:
        if "containers" in getattr(item, "fixturenames", ()):
            return "acceptance"
        return {"test_4_interrupted": "e2e, from nothing", "test_5_snapshots": "emulated"}.get(item.path.stem, "e2e")
    if TESTS / "acceptance" not in item.path.parents:
        return ""
    if "qemu" not in getattr(getattr(item, "callspec", None), "params", {}).values():
        return "acceptance"
    return "acceptance, removal of virtual machines" if "removal" in item.path.name else "acceptance, virtual machines"


@pytest.fixture(scope="session", autouse=True)
def scenarios(request: pytest.FixtureRequest) -> Iterator[Scenarios]:
    """Molecule's scenarios that are to be tested: they run beside all other tests, since much of both is waiting."""
    tests = [item for item in request.session.items if _stage(item) == "molecule"]
    names = [item.callspec.params["name"] for item in tests]  # type: ignore[attr-defined]
    scenarios = Scenarios(name for name in names if not missing(name))
    scenarios.start()
    yield scenarios
    scenarios.stop()


@pytest.fixture(scope="session")
def outer_engine() -> None:
    """An engine for nodes to be containers of."""
    if reason := no_engine():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def qemu() -> Iterator[Cluster]:
    """A cluster of virtual machines, which the tests make and remove."""
    if reason := no_virtual_machines():
        pytest.skip(reason)
    settings = {
        "cluster_name": "e2e",
        "qemu_machine_loopback_network": "127.0.98.0/24",
    }
    with _own("inventories/qemu", settings) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def containers(outer_engine: None) -> Iterator[Cluster]:
    """A cluster of containers, which the tests make and remove.

    Controller and nodes have the newest Debian, so its Python and engine are tried whole; all others have Debian 12.
    """
    settings = {
        "cluster_name": "acceptance",
        "container_machine_loopback_network": "127.0.95.0/24",
        "container_machine_network": "192.168.95.0/24",
        "container_machine_debian_suite": NEWEST_DEBIAN,
    }
    with controller(NEWEST_DEBIAN) as newest, _own("inventories/containers", settings, controller=newest) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def virtualbox(outer_engine: None) -> Iterator[Cluster]:
    """A cluster of docker-machine's machines, on the stand-ins in molecule/resources; which the tests make and remove.

    The real docker-machine takes the place of the stand-in where DOCKER_MACHINE says where it is.
    """
    with tempfile.TemporaryDirectory(prefix="apiary-") as directory:
        variables = {
            "PATH": f"{RESOURCES}:{os.environ['PATH']}",
            "MACHINE_STORAGE_PATH": f"{directory}/docker-machine",
            "STAND_IN_STATE": f"{directory}/virtualbox",
        }
        settings = {
            "cluster_name": "virtualbox",
            "virtualbox_hostonly_cidr": "192.168.62.1/24",
            "docker_machine_disk_mib": 2000,
            "docker_machine_iso_url": f"file://{RESOURCES}/guest/os-release",  # no stand-in boots from it
            "docker_machine_virtualbox": {"no_vtx_check": True, "no_share": True},
            # boot2docker's kernel has IPVS, and this computer's, which the stand-ins' machines share, may not
            "image_list": [
                {"name": f"apiary/{name}", "context": str(ROOT / "images" / name)}
                for name in ("web", "visualizer", "redis", "ingress")
            ],
            "stack_ingress_image": "apiary/ingress:{{ (project_dir ~ '/images/ingress') | apiary.swarm.image_tag }}",
        }
        try:
            with _own("inventories/virtualbox", settings, variables) as cluster:
                yield cluster
        finally:
            DockerMachine({**os.environ, **variables}).virtualbox("stand-in-clear")


@contextmanager
def _own(
    inventory: str,
    settings: dict[str, Any],
    variables: Mapping[str, str] | None = None,
    controller: Controller | None = None,
) -> Iterator[Cluster]:
    """Yield a cluster in a state directory of its own; whatever is left of it at the end is removed."""
    # not pytest's own directory: its path may be too long for a socket
    with tempfile.TemporaryDirectory(prefix="apiary-") as state:
        cluster = Cluster(inventory, settings, state=Path(state), variables=variables or {}, controller=controller)
        try:
            yield cluster
        finally:
            cluster.play("destroy", *CONFIRMED)

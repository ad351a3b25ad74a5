# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is promised of inventories/local: a swarm of one on somebody's engine. The tests build on each other."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import requests

LABEL = "molecule.local-engine"


def said(run: Any) -> str:
    return " ".join(run.output.split())


def state(engine: Any) -> str:
    return str(engine.info()["Swarm"]["LocalNodeState"])


def tasks(engine: Any) -> list[Any]:
    found: list[Any] = engine.containers.list(filters={"label": "com.docker.swarm.service.name=getstartedlab_web"})
    return found


@pytest.fixture(scope="session")
def engine(scenario: Any) -> Any:
    return scenario.outer


@pytest.fixture(scope="session")
def url(scenario: Any) -> str:
    return f"http://127.0.0.1:{4000 + scenario.range}/"


@pytest.fixture(scope="session")
def theirs(engine: Any) -> Iterator[dict[str, set[str]]]:
    """What somebody else has on the engine."""
    image = tasks(engine)[0].image
    image.tag("molecule/theirs", "1")
    engine.volumes.create("molecule-theirs", labels={LABEL: "1"})
    network = engine.networks.create("molecule-theirs", labels={LABEL: "1"})
    container = engine.containers.run(
        image, entrypoint=["/bin/sh", "-c", "sleep 3600"], name="molecule-theirs", labels={LABEL: "1"},
        network="molecule-theirs", detach=True,
    )  # fmt: skip
    there = inventory(engine)
    assert all(there.values())
    yield there
    container.remove(force=True)
    network.remove()
    engine.volumes.get("molecule-theirs").remove()
    engine.images.remove("molecule/theirs:1")


def inventory(engine: Any) -> dict[str, set[str]]:
    """What is theirs; other tests may use the engine too, and what they have comes and goes."""
    its = {"filters": {"label": LABEL}}
    containers = engine.containers.list(all=True, **its)
    return {
        "containers": {f"{one.id} {one.status} {one.attrs['State']['StartedAt']}" for one in containers},
        "networks": {one.id for one in engine.networks.list(**its)},
        "volumes": {one.name for one in engine.volumes.list(**its)},
        "images": {tag for one in engine.images.list("molecule/theirs") for tag in one.tags},
    }


def test_stack_answers_on_this_computer(engine: Any, url: str) -> None:
    heard = {
        requests.get(url, headers={"Accept": "application/json"}, timeout=20).json()["container_id"] for _ in "12345678"
    }
    assert heard == {container.id[:12] for container in tasks(engine)}
    assert len(heard) == 2


def test_swarm_is_one_of_this_computer_alone(engine: Any) -> None:
    listening = subprocess.run(["ss", "-Hlntu"], capture_output=True, text=True, check=True).stdout.splitlines()
    addresses = {row.split()[4] for row in listening}
    assert {address for address in addresses if address.endswith((":2377", ":7946"))} == {
        "127.0.0.1:2377",
        "127.0.0.1:7946",
    }
    assert engine.swarm.attrs["Spec"]["Labels"] == {"apiary.cluster": "molecule-local-engine"}


def test_report_names_the_engine_as_docker_does(scenario: Any, engine: Any) -> None:
    assert f"{engine.info()['Name']} leader ready 127.0.0.1 127.0.0.1" in said(scenario.play("site"))


def test_scaling_starts_the_difference(scenario: Any, engine: Any) -> None:
    before = {container.id for container in tasks(engine)}
    scenario.play("stack", "-e", "web_replicas=3")
    after = {container.id for container in tasks(engine)}
    assert before < after
    assert len(after) == 3


def test_removal_leaves_the_engine_and_what_is_theirs(scenario: Any, engine: Any, theirs: dict[str, set[str]]) -> None:
    run = scenario.play("destroy", "-e", "destroy_confirmed=true")
    assert "removed: here; kept: " in said(run)
    assert state(engine) == "inactive"
    assert inventory(engine) == theirs
    assert engine.networks.list(names=["docker_gwbridge"]) == []


def test_making_it_again_leaves_what_is_theirs(scenario: Any, engine: Any, theirs: dict[str, set[str]]) -> None:
    scenario.play("site")
    assert inventory(engine) == theirs
    scenario.play("destroy", "-e", "destroy_confirmed=true")
    assert inventory(engine) == theirs


def test_no_engine_is_told_with_what_to_do(scenario: Any) -> None:
    text = said(scenario.play("machines", "-e", "existing_machine_docker_host=unix:///nowhere", succeeds=False))
    assert "existing_machine_docker_host is unix:///nowhere, and no Docker Engine answers there" in text
    assert "install Docker (on Debian: apt-get install docker.io)" in text


def test_engine_of_another_computer_is_refused(scenario: Any) -> None:
    text = said(scenario.play("machines", "-e", "existing_machine_docker_host=ssh://ann@192.0.2.7", succeeds=False))
    assert "existing_machine_docker_host is ssh://ann@192.0.2.7, an engine of another computer" in text


@pytest.fixture
def foreign(engine: Any) -> Iterator[str]:
    """A swarm that somebody has made."""
    engine.swarm.init(advertise_addr="127.0.0.1", listen_addr="127.0.0.1:2377")
    yield str(engine.swarm.attrs["ID"])
    engine.swarm.leave(force=True)


def test_swarm_of_somebody_else_is_used_only_if_asked_and_stays(
    scenario: Any, engine: Any, foreign: str, url: str
) -> None:
    text = said(scenario.play("site", succeeds=False))
    assert "here: manages a swarm already, which Apiary has not created" in text
    assert engine.services.list() == []
    adopt = ["-e", "existing_machine_adopt_swarm=true"]
    scenario.play("site", *adopt)
    assert requests.get(url, timeout=20).ok
    other = engine.services.create(
        tasks(engine)[0].image.id, name="other", command=["sleep", "60"], mode={"Replicated": {"Replicas": 0}}
    )
    assert "left alone: here" in said(scenario.play("destroy", "-e", "destroy_confirmed=true"))
    run = scenario.play("destroy", "-e", "destroy_confirmed=true", *adopt)
    assert "removed: stack getstartedlab" in said(run)
    assert "still in a swarm, as it was there before: here" in said(run)
    assert [service.id for service in engine.services.list()] == [other.id]
    assert engine.configs.list() == []
    assert engine.swarm.attrs["ID"] == foreign

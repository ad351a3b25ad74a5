# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is promised to who changes the application and deploys it again. The tests build on each other.

All the while there is a load on both entrypoints, and none of its requests may be lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.clusters import Run
from tests.load import lossless
from tests.sources import BROKEN, REASON, Sources, rebuilt

NODES = ["node1", "node2"]
REGISTRY = "127.0.0.1:5000"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return Sources(tmp_path_factory.mktemp("sources") / "images", "ingress")


def urls(scenario: Any) -> list[str]:
    return [f"http://{scenario.entrypoint(node)}:4000/" for node in NODES]


def greetings(scenario: Any, times: int = 6) -> set[str]:
    """What is said through every entrypoint."""
    headers = {"Accept": "application/json"}
    return {
        requests.get(url, headers=headers, timeout=20).json()["greeting"]
        for url in urls(scenario)
        for _ in range(times)
    }


def specifications(scenario: Any) -> dict[str, Any]:
    """The task template of every service."""
    return {service.name: service.attrs["Spec"]["TaskTemplate"] for service in scenario.engine("node1").services.list()}


def deploy(scenario: Any, sources: Sources, *arguments: str, succeeds: bool = True) -> Run:
    run: Run = scenario.play("stack", "-e", sources.variables, *arguments, succeeds=succeeds)
    return run


def test_sources_that_were_not_edited_are_what_runs(scenario: Any, sources: Sources) -> None:
    assert re.findall(r"changed=(\d+)", deploy(scenario, sources).output) == ["0", "0"]


def test_an_edit_is_foretold(scenario: Any, sources: Sources) -> None:
    sources.greet()
    sources.edit("Dockerfile", "--interval=10s", "--interval=2s")  # known to be healthy, or not, that much sooner
    output = deploy(scenario, sources, "--check", "--diff").output
    assert f"push {REGISTRY}/{sources.reference}\n" in output
    assert "update service web\n" in output
    assert "service ingress" not in output
    assert greetings(scenario) == {"Hello World!"}


def test_an_edit_builds_publishes_and_updates_that_alone_and_loses_no_request(scenario: Any, sources: Sources) -> None:
    before = specifications(scenario)
    with lossless(urls(scenario)) as running:
        output = deploy(scenario, sources).output
    assert greetings(scenario) == {f"{sources.greeting} World!"}
    assert rebuilt(output) == [sources.reference]
    assert re.findall(r"pushing (\S+)", output) == [f"{REGISTRY}/{sources.reference}"]
    after = specifications(scenario)
    assert {name for name in after if after[name] != before[name]} == {"getstartedlab_web"}
    assert {container[:12] for container in scenario.running_tasks("node1")} <= set(running.heard)


def test_all_tasks_of_the_new_version_run_from_one_digest(scenario: Any, sources: Sources) -> None:
    image = specifications(scenario)["getstartedlab_web"]["ContainerSpec"]["Image"]
    assert re.fullmatch(rf"{REGISTRY}/{sources.reference}@sha256:[0-9a-f]{{64}}", image)
    found = {
        scenario.engine(node).api.inspect_container(container)["Image"]
        for container, node in scenario.running_tasks("node1").items()
    }
    assert len(found) == 1


def test_a_number_touches_no_image(scenario: Any, sources: Sources) -> None:
    before = set(scenario.running_tasks("node1"))
    output = deploy(scenario, sources, "-e", "web_replicas=3").output
    assert not re.search("building|pushing|pulling|loading", output)
    assert before < set(scenario.running_tasks("node1"))


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_version_is_rolled_back_and_reported_and_the_old_one_goes_on(
    scenario: Any, sources: Sources, broken: str, eventually: Callable[[Callable[[], Any], float], Any]
) -> None:
    file, old, new = BROKEN[broken]
    sources.edit(file, old, new)
    with lossless(urls(scenario)):
        run = deploy(scenario, sources, "-e", "web_replicas=3", succeeds=False)

        def rolled_back() -> bool:
            service = scenario.engine("node1").services.get("getstartedlab_web")
            return bool(service.attrs["UpdateStatus"]["State"] == "rollback_completed")

        assert eventually(rolled_back, 120)
    output = " ".join(run.output.split())
    assert "the update was rolled back, so the version before runs" in output
    assert REASON[broken] in output
    assert greetings(scenario) == {f"{sources.greeting} World!"}
    sources.edit(file, new, old)


def test_taking_a_broken_edit_back_is_deployed_without_a_new_task(scenario: Any, sources: Sources) -> None:
    before = set(scenario.running_tasks("node1"))
    output = deploy(scenario, sources, "-e", "web_replicas=3").output
    assert not re.search("building|pushing|pulling|loading", output)
    assert set(scenario.running_tasks("node1")) == before
    assert re.findall(r"changed=(\d+)", deploy(scenario, sources, "-e", "web_replicas=3").output) == ["0", "0"]

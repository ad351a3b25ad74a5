# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promises of the role access, and of the examples that use what it gives. The tests build on each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker.errors
import pytest
import requests.exceptions

NODES = ["node1", "node2"]
EXAMPLES = {
    "docker_sdk.py": [sys.executable],
    "rest_requests.py": [sys.executable],
    "rest_curl.sh": ["sh"],
}
REFUSED = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)


def test_context_leads_to_the_cluster(scenario: Any) -> None:
    (meta,) = (scenario.state / "docker").glob("contexts/meta/*/meta.json")
    found = json.loads(meta.read_text())
    assert found["Name"] == scenario.name
    (keys,) = (scenario.state / "docker").glob("contexts/tls/*/docker")
    engine = scenario.engine_with(keys, found["Endpoints"]["docker"]["Host"])
    assert sorted(node.attrs["Description"]["Hostname"] for node in engine.nodes.list()) == NODES


@pytest.fixture(scope="module")
def examples(scenario: Any) -> dict[str, subprocess.CompletedProcess[str]]:
    """What the examples print, in a shell that was pointed at the cluster; all run at the same time."""
    image = next(tag for image in scenario.engine("node1").images.list("apiary/web") for tag in image.tags)
    script = f'. "{scenario.state}/{scenario.name}/access/env.sh" && exec "$@"'

    def run(example: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", script, "sh", *EXAMPLES[example], str(scenario.project / "examples" / example), image],
            env={**os.environ, "DOCKER_HOST": ""},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    with ThreadPoolExecutor() as pool:
        return dict(zip(EXAMPLES, pool.map(run, EXAMPLES), strict=True))


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_uses_the_cluster(
    scenario: Any, examples: dict[str, subprocess.CompletedProcess[str]], example: str
) -> None:
    result = examples[example]
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert sorted(line.partition(":")[0] for line in lines if line.startswith("node ")) == ["node node1", "node node2"]
    assert "event: service create" in lines
    assert any(line.startswith("event: service update") for line in lines)
    assert lines[-1].endswith("2 tasks run")
    assert not [s.name for s in scenario.engine("node1").services.list() if s.name.startswith("example-")]


# Another person


@pytest.fixture(scope="module")
def ann(scenario: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What Ann got: the keys that were handed over to her."""
    run = scenario.play("access", "-e", "access_for=ann")
    assert "PRIVATE KEY" not in run.output
    archive = scenario.state / scenario.name / "persons" / "ann" / "ann.tar"
    assert f"Hand {archive} over to ann" in run.output
    assert archive.stat().st_mode & 0o077 == 0
    directory = tmp_path_factory.mktemp("ann")
    subprocess.run(["tar", "-xf", archive, "-C", directory], check=True)
    yield directory / "tls" / "docker"
    scenario.play("access", "-e", "access_for=ann", "-e", "access_state=absent")


@pytest.mark.parametrize("node", NODES)
def test_person_is_let_in_with_a_certificate_of_her_own(scenario: Any, ann: Path, node: str) -> None:
    assert scenario.engine_with(ann, f"tcp://{scenario.entrypoint(node)}:2376").info()["Name"] == node
    assert (ann / "cert.pem").read_bytes() != (scenario.state / scenario.name / "client" / "cert.pem").read_bytes()


def test_person_is_shut_out_everywhere_and_at_once(scenario: Any, ann: Path) -> None:
    events = scenario.engine_with(ann, f"tcp://{scenario.entrypoint('node1')}:2376").events()
    listener = threading.Thread(target=lambda: [event for event in events], daemon=True)  # noqa: C416
    listener.start()
    scenario.containers["node2"].stop()
    scenario.play("access", "-e", "access_for=ann", "-e", "access_state=absent")
    with pytest.raises(REFUSED, match="revoked"):
        scenario.engine_with(ann, f"tcp://{scenario.entrypoint('node1')}:2376").info()
    listener.join(60)
    assert not listener.is_alive()  # also the connection that was open


def test_machine_that_did_not_run_learns_of_it_when_it_starts(scenario: Any, ann: Path) -> None:
    scenario.play("machines")
    with pytest.raises(REFUSED, match="revoked"):
        scenario.engine_with(ann, f"tcp://{scenario.entrypoint('node2')}:2376").info()


@pytest.mark.parametrize("node", NODES)
def test_nobody_else_is_shut_out(scenario: Any, node: str) -> None:
    assert scenario.engine(node).info()["Name"] == node


# Back


def test_access_is_taken_back_without_a_trace(scenario: Any) -> None:
    run = scenario.play("access", "-e", "access_state=absent")
    assert "unset DOCKER_HOST" in run.output
    assert list((scenario.state / "docker").rglob("*")) == []
    assert not (scenario.state / scenario.name / "access").exists()
    scenario.play("access")  # for whoever verifies again

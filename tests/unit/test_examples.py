# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The examples run by the command lines that docs/api.md gives; what they do on a cluster, molecule/access tests."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fake_engine import FakeEngine

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = re.findall(r"^\S*(?:python )?examples/.*", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A tree as 'make setup' leaves it."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (tmp_path / ".venv" / "bin" / "python").chmod(0o755)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def run(project: Path, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it in a shell whose own python3 has no packages."""
    path = project / "bin"
    path.mkdir(exist_ok=True)
    (path / "python3").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S "$@"\n')
    (path / "python3").chmod(0o755)
    return subprocess.run(
        ["sh", "-c", command],
        cwd=project,
        env={"PATH": f"{path}:/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_each_example_has_a_command_line() -> None:
    assert {Path(command.partition("examples/")[2].split()[0]).name for command in COMMANDS} == {
        path.name for path in (ROOT / "examples").glob("*.*")
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_command_line_comes_as_far_as_its_arguments(project: Path, command: str) -> None:
    done = run(project, re.sub(r" apiary/web:.*", "", command))
    assert "IMAGE" in done.stderr
    assert "No module named" not in done.stderr


def test_sdk_asks_the_engine_that_the_environment_names(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    engine = FakeEngine(tmp_path_factory.mktemp("engine") / "docker.sock")
    engine.add_node("node1", "manager")
    engine.start()
    try:
        (command,) = (command for command in COMMANDS if "docker_sdk" in command)
        done = run(project, command, DOCKER_HOST=f"unix://{engine.socket}")
    finally:
        engine.stop()
    assert done.stdout.startswith("node node1: "), done.stderr

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The machine image appears whole or not at all; mmdebstrap is played by a script here."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

BUILD = Path(__file__).resolve().parents[2] / "roles" / "qemu_machine" / "files" / "build-image"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which mmdebstrap notes that it was called and writes its last argument."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "mmdebstrap"
    script.write_text(f"""#!/bin/bash
echo "$@" >>{tmp_path}/calls
[ ! -e {tmp_path}/slow ] || sleep 30
[ ! -e {tmp_path}/broken ] || {{ echo "E: no such package" >&2; exit 1; }}
echo root >"${{@: -1}}"
""")
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}


def build(tmp_path: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [str(BUILD), str(tmp_path / "cache" / "image"), "bookworm", "docker.io", "kmod"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def left_in_cache(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock")


def test_image_is_built_once(tmp_path: Path, environment: dict[str, str]) -> None:
    assert build(tmp_path, environment).returncode == 0
    assert build(tmp_path, environment).returncode == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 1
    assert "--include=docker.io,kmod" in calls[0]
    assert (tmp_path / "cache" / "image" / "root.ext2").read_text() == "root\n"


def test_failed_build_leaves_nothing_and_shows_why(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "broken").touch()
    result = build(tmp_path, environment)
    assert result.returncode != 0
    assert "no such package" in result.stderr
    assert left_in_cache(tmp_path) == []


def test_killed_build_is_cleared_away_by_the_next(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "slow").touch()
    command = [str(BUILD), str(tmp_path / "cache" / "image"), "bookworm", "docker.io"]
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    deadline = time.monotonic() + 30
    while not (tmp_path / "calls").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert left_in_cache(tmp_path) != ["image"]
    (tmp_path / "slow").unlink()
    assert build(tmp_path, environment).returncode == 0
    assert left_in_cache(tmp_path) == ["image"]


def test_two_builds_at_once_make_one_image(tmp_path: Path, environment: dict[str, str]) -> None:
    command = [str(BUILD), str(tmp_path / "cache" / "image"), "bookworm", "docker.io"]
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert len((tmp_path / "calls").read_text().splitlines()) == 1

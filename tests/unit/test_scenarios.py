# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How scenarios are run beside other tests, with something else in molecule's place."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests import scenarios
from tests.scenarios import Scenarios

#: notes what it is told; a scenario "slow" goes on until it is interrupted, one "bad" fails
MOLECULE = """#!/bin/sh
echo "$1 $3" >>calls
[ "$1 $3" != "test slow" ] || exec sleep 60
[ "$3" != bad ]
"""


@pytest.fixture(autouse=True)
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "molecule").write_text(MOLECULE)
    (tmp_path / "molecule").chmod(0o755)
    monkeypatch.setattr(scenarios, "ROOT", tmp_path)
    monkeypatch.setattr(scenarios, "_ENVIRONMENT", {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    return tmp_path / "calls"


def test_each_is_run_once_and_its_status_is_its_own(calls: Path) -> None:
    running = Scenarios(["one", "bad", "two"])
    running.start()
    assert [running.outcome(name).status for name in ("two", "bad", "one")] == [0, 1, 0]
    running.stop()
    assert sorted(calls.read_text().splitlines()) == ["test bad", "test one", "test two"]


def test_whoever_waits_runs_the_next(calls: Path) -> None:
    running = Scenarios(["one", "two"])  # not started: nothing goes on in the background
    assert running.outcome("two").status == 0
    assert calls.read_text() == "test one\ntest two\n"


def test_what_runs_is_ended_and_tidies_up_and_nothing_else_begins(calls: Path) -> None:
    running = Scenarios(["slow", "one"])
    running.start()
    while not calls.exists():
        time.sleep(0.01)
    running.stop()
    assert calls.read_text() == "test slow\ndestroy slow\n"


def test_one_that_takes_too_long_fails_and_tidies_up_and_the_next_is_run(
    calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenarios, "_TIMEOUT_SECONDS", 0.5)
    running = Scenarios(["slow", "one"])
    with pytest.raises(subprocess.TimeoutExpired):
        running.outcome("slow")
    assert running.outcome("one").status == 0
    assert calls.read_text() == "test slow\ndestroy slow\ntest one\n"

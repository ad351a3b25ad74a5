# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a run shows of its tasks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOOK: dict[str, Any] = {"ansible.builtin.set_fact": {"seen": True}}
TASKS: list[dict[str, Any]] = [
    {"name": "Look at something", **LOOK},
    {"name": "Include something", "ansible.builtin.include_tasks": "more.yml"},
    {"name": "Look at many", **LOOK, "loop": [1, 2]},
    {"name": "Skip something", **LOOK, "when": False},
    {"name": "Say something", "ansible.builtin.debug": {"msg": "worth knowing"}},
    {"name": "Change something", **LOOK, "changed_when": True},
    {"name": "Change one of many", **LOOK, "loop": [1, 2], "changed_when": "item == 2"},
    {"name": "Fail without harm", "ansible.builtin.fail": {}, "ignore_errors": True},
]


@pytest.fixture
def playbook(tmp_path: Path) -> Path:
    (tmp_path / "more.yml").write_text(json.dumps([{"name": "Look further", **LOOK}]))
    return tmp_path / "playbook.yml"


def command(playbook: Path, tasks: list[dict[str, Any]], *arguments: str) -> list[str]:
    play = {"name": "A phase", "hosts": "localhost", "connection": "local", "tasks": tasks}
    playbook.write_text(json.dumps([play]))
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    return [
        program,
        "-i",
        "localhost,",
        "-e",
        f"ansible_python_interpreter={sys.executable}",
        *arguments,
        str(playbook),
    ]


def environment(patience: float) -> dict[str, str]:
    settings = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "APIARY_PATIENCE": str(patience)}
    return {**os.environ, **settings, "LC_ALL": "C.UTF-8"}


def output(playbook: Path, *arguments: str, tasks: list[dict[str, Any]] = TASKS) -> str:
    run = subprocess.run(
        command(playbook, tasks, *arguments),
        cwd=ROOT, env=environment(600), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True,
    )  # fmt: skip
    return run.stdout


def test_what_changed_spoke_or_failed_is_shown_and_nothing_else(playbook: Path) -> None:
    shown = output(playbook)
    banners = [line.partition("]")[0] for line in shown.splitlines() if line.startswith(("PLAY [", "TASK ["))]
    assert banners == [
        "PLAY [A phase",
        "TASK [Say something",
        "TASK [Change something",
        "TASK [Change one of many",
        "TASK [Fail without harm",
    ]
    assert "worth knowing" in shown
    assert "changed: [localhost] => (item=2)" in shown
    assert "(item=1)" not in shown
    assert "included" not in shown
    assert re.search(r"ok=\d+ +changed=2 .* ignored=1", shown)


def test_verbose_output_has_everything(playbook: Path) -> None:
    shown = output(playbook, "-v")
    for task in ("Look at something", "Look further", "Look at many", "Include something"):
        assert f"TASK [{task}]" in shown
    assert "ok: [localhost]" in shown
    assert "included: " in shown


def test_a_task_that_takes_long_is_named_while_it_runs(playbook: Path, tmp_path: Path) -> None:
    waiting = {"name": "Wait for a file", "ansible.builtin.wait_for": {"path": str(tmp_path / "seen"), "timeout": 120}}
    process = subprocess.Popen(
        command(playbook, [TASKS[0], waiting]),
        cwd=ROOT, env=environment(0.1), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    seen = []
    for line in process.stdout or ():
        seen.append(line)
        if line.startswith("TASK [Wait for a file]"):
            (tmp_path / "seen").touch()
    assert process.wait(timeout=60) == 0, "".join(seen)
    assert sum(line.startswith("TASK [Wait for a file]") for line in seen) == 1


def test_a_warning_of_a_task_that_is_not_shown_is(playbook: Path) -> None:
    module = playbook.parent / "library" / "warned.py"
    module.parent.mkdir()
    module.write_text('#!/usr/bin/python\nprint(\'{"changed": false, "warnings": ["something is odd"]}\')\n')
    shown = output(playbook, tasks=[{"name": "Look at it", "warned": {}}])
    assert "something is odd" in shown
    assert "TASK [" not in shown

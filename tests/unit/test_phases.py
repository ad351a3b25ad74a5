# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a run prints as it goes on."""

from __future__ import annotations

import io
import sys

import pytest

from ansible_collections.apiary.swarm.plugins.callback.phases import CallbackModule


def test_progress_is_written_to_a_pipe_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe))
    CallbackModule().v2_playbook_on_start(None)
    print("  web 1/5 running, 4 starting")
    assert pipe.getvalue() == b"  web 1/5 running, 4 starting\n"


def test_output_that_is_no_file_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    CallbackModule().v2_playbook_on_start(None)

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Show of a run what its reader wants to know: what changes, what takes long, and what is wrong."""

from __future__ import annotations

import threading
from typing import Any

from ansible import constants
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as DefaultCallback

DOCUMENTATION = r"""
name: brief
type: stdout
short_description: What changes, what takes long, and what is wrong
version_added: 0.1.0
description:
  - Prints what M(ansible.builtin.default) prints, but for tasks that changed nothing and said nothing.
  - A task that takes long is named while it runs, so that one sees what is waited for.
  - With C(-v), it is M(ansible.builtin.default).
extends_documentation_fragment:
  - default_callback
  - result_format_callback
options:
  patience:
    description: For how many seconds a task may run before it is named.
    type: float
    default: 1
    env:
      - name: APIARY_PATIENCE
    ini:
      - section: callback_brief
        key: patience
author:
  - The Apiary developers
"""


class CallbackModule(DefaultCallback):
    """The default callback, for results that are worth a line."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "apiary.swarm.brief"

    def __init__(self) -> None:
        super().__init__()
        self._patience: threading.Timer | None = None

    @property
    def _brief(self) -> bool:
        return self._display.verbosity == 0

    def v2_runner_on_ok(self, result: Any) -> None:
        if self._says_nothing(result):
            self._handle_warnings_and_exception(result)
        else:
            super().v2_runner_on_ok(result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        if self._says_nothing(result):
            self._handle_warnings_and_exception(result)
        else:
            super().v2_runner_item_on_ok(result)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        if not self._brief:
            super().v2_playbook_on_include(included_file)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._end_patience()
        super().v2_playbook_on_play_start(play)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._end_patience()
        super().v2_playbook_on_stats(stats)

    def _task_start(self, task: Any, prefix: str | None = None) -> None:
        self._end_patience()
        super()._task_start(task, prefix)
        if self._brief and not isinstance(task, TaskInclude):
            self._patience = threading.Timer(self.get_option("patience"), self._name, [task])
            self._patience.daemon = True
            self._patience.start()

    def _name(self, task: Any) -> None:
        if self._last_task_banner != task._uuid:
            self._print_task_banner(task)

    def _end_patience(self) -> None:
        """Have no task named from here on: the next one has begun."""
        if self._patience:
            self._patience.cancel()
            self._patience.join()

    def _says_nothing(self, result: Any) -> bool:
        speaks = result.result.get("changed", False) or result.task.action in constants._ACTION_DEBUG
        return self._brief and not speaks

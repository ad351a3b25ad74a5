# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Show how long each phase (play) of a run took, and the cluster's report at the end."""

from __future__ import annotations

import io
import sys
import time
from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, lookup_loader, test_loader

DOCUMENTATION = r"""
name: phases
type: aggregate
short_description: Times of a run's phases, and the report on the cluster
version_added: 0.1.0
description:
  - Prints the time of each play as it ends, and all of them at the end of the run.
  - Prints, last of all, what M(apiary.swarm.cluster_report) found.
  - Has every line written as it comes, also to a pipe or a file, which Python would give minutes of them at once.
author:
  - The Apiary developers
"""


class CallbackModule(CallbackBase):
    """Phases are plays: plays of one name, one after another, count as one."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "apiary.swarm.phases"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._seconds: dict[str, float] = {}
        self._current: tuple[str, float] | None = None
        self._report = ""

    def v2_playbook_on_start(self, playbook: Any) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)
        # Workers are copies of this process: what is loaded here once, none of them has to load for each of its tasks.
        for loader in (filter_loader, test_loader):
            list(loader.all())
        lookup_loader.get("ansible.builtin.env")

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._end_phase()
        self._current = (play.get_name(), time.monotonic())

    def v2_runner_on_ok(self, result: Any) -> None:
        # ansible-core 2.19 made the attributes public
        values = getattr(result, "result", None) or result._result
        if "cluster_report" in values:
            self._report = values["cluster_report"]

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._end_phase()
        # Plays that only look things up take no time worth a word.
        shown = [f"{name} {seconds:.1f} s" for name, seconds in self._seconds.items() if seconds >= 0.05]
        self._display.display(f"{' · '.join(shown)} · total {sum(self._seconds.values()):.1f} s")
        if self._report and not any(stats.failures.values()) and not any(stats.dark.values()):
            self._display.display(f"\n{self._report}")

    def _end_phase(self) -> None:
        if self._current:
            name, started = self._current
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - started
            self._current = None

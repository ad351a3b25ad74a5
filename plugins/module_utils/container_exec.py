# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A command in a container that runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_LAST_LINES = 10


def execute(api: Any, container: str, command: Sequence[str]) -> tuple[int, str]:
    """Run *command* in a container, wait for its end, and return its exit status and the end of what it printed."""
    key = api.exec_create(container, list(command))["Id"]
    output: str = api.exec_start(key).decode(errors="replace")
    return int(api.exec_inspect(key)["ExitCode"]), "\n".join(output.strip().splitlines()[-_LAST_LINES:])

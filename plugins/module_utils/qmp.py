# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""QEMU's monitor (QMP): is a machine running, which ports does it forward, end it."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError


@dataclass(frozen=True, order=True)
class Forward:
    """A port of the host's loopback address that leads to a port of the machine."""

    protocol: str
    host_port: int
    guest_port: int

    def rule(self, entrypoint: str) -> str:
        """Return the rule as QEMU's hostfwd takes it."""
        return f"{self.protocol}:{entrypoint}:{self.host_port}-:{self.guest_port}"


class Monitor:
    """A connection to the monitor of a running machine; a context manager.

    Raises FileNotFoundError or ConnectionRefusedError where no machine runs behind *path*, ApiaryError where QEMU
    refuses a command. Source: QEMU's docs/interop/qmp-spec.
    """

    def __init__(self, path: Path, timeout_seconds: float = 10) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_seconds)
        self._path = path

    def __enter__(self) -> Monitor:
        try:
            self._socket.connect(str(self._path))
            self._stream = self._socket.makefile("rw", encoding="utf-8")
            self._stream.readline()  # the greeting
            self.execute("qmp_capabilities")
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._socket.close()

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run a QMP command and return what it answers."""
        json.dump({"execute": command, "arguments": arguments}, self._stream)
        self._stream.write("\n")
        self._stream.flush()
        while line := self._stream.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise ApiaryError(f"QEMU behind {self._path} refused {command}: {answer['error'].get('desc')}")
            if "return" in answer:
                return answer["return"]
        raise ConnectionResetError(f"QEMU behind {self._path} ended during {command}")

    def human(self, line: str) -> str:
        """Run a command of the human monitor; some, hostfwd_add among them, exist nowhere else."""
        answer: str = self.execute("human-monitor-command", **{"command-line": line})
        return answer.strip()

    def forwards(self) -> set[Forward]:
        """Return the ports that are forwarded now."""
        return parse_usernet(self.human("info usernet"))


def is_running(socket_path: Path) -> bool:
    """Tell whether a machine runs behind the monitor's socket; a left-over socket of a dead one refuses."""
    try:
        with Monitor(socket_path):
            return True
    except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
        return False


_FORWARD_LINE = re.compile(r"^\s*(TCP|UDP)\[HOST_FORWARD\]\s+\S+\s+\S+\s+(\d+)\s+\S+\s+(\d+)", re.MULTILINE)


def parse_usernet(text: str) -> set[Forward]:
    """Read the forwarded ports from the output of ``info usernet``."""
    return {Forward(kind.lower(), int(host), int(guest)) for kind, host, guest in _FORWARD_LINE.findall(text)}

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The visualizer as a process of its own, as its container runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

IMAGE = Path(__file__).resolve().parents[1] / "images" / "visualizer"


class Server:
    """It looks at the engine behind a socket; other settings as its environment has them."""

    def __init__(self, socket: Path, **settings: str) -> None:
        self.settings = {"VISUALIZER_SOCKET": str(socket), "VISUALIZER_ADDRESS": "127.0.0.1", **settings}
        self.port = "0"  # any that is free, and the same one again when it is started again
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, python: str = sys.executable) -> None:
        environment = {**os.environ, **self.settings, "VISUALIZER_PORT": self.port, "PYTHONPATH": str(IMAGE)}
        self._process = subprocess.Popen(
            [python, "-u", "-m", "visualizer"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        first = self._process.stdout.readline() if self._process.stdout else ""
        match = re.search(r"serving on http://[\d.]+:(\d+)", first)
        if not match:
            self._process.kill()
            raise RuntimeError(first + self._process.communicate()[0])
        self.port = match[1]

    def pause(self) -> None:
        """Let it say nothing, without its connections being closed."""
        if self._process:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._process:
            self._process.send_signal(signal.SIGCONT)

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        """End it, and return its status."""
        if self._process is None:
            return 0
        self._process.send_signal(with_signal)
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        status, self._process = self._process.returncode, None
        return status

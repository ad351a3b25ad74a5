# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Molecule's scenarios, run one after another beside other tests: much of what both do is waiting."""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from tests.clusters import ROOT, engine

NAMES = sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))
_BIN = Path(sys.executable).parent
_ENVIRONMENT = {**os.environ, "PATH": f"{_BIN}:{os.environ['PATH']}", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
_TIMEOUT_SECONDS = 1800


def missing(name: str) -> str:
    """Return what this computer lacks for a scenario, or nothing."""
    is_virtual = re.search(r"\bvirtual\b", (ROOT / "molecule" / name / "molecule.yml").read_text())
    return no_virtual_machines() if is_virtual else no_engine()


def no_virtual_machines() -> str:
    """Return why no virtual machines can be made here, or nothing."""
    absent = [tool for tool in ("qemu-system-x86_64", "mmdebstrap") if not shutil.which(tool)]
    return f"{' and '.join(absent)} missing: 'make dev' installs what the tests need" if absent else ""


@cache
def no_engine() -> str:
    """Return why no nodes can be made as containers here, or nothing."""
    try:
        with connect({"docker_host": engine()}, timeout_seconds=10):
            return ""
    except ApiaryError as error:
        return f"no Docker Engine to make containers on ('make test' brings one): {error}"


@dataclass(frozen=True)
class Outcome:
    """How "molecule test" ended, and where its output is."""

    status: int
    log: Path
    seconds: float


class Scenarios:
    """Runs scenarios in order, one in the background, and another one whenever somebody waits for an outcome."""

    def __init__(self, names: Iterable[str]) -> None:
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._outcomes: dict[str, Future[Outcome]] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="scenarios")
        for name in names:
            self._outcomes[name] = Future()
            self._waiting.put(name)

    def start(self) -> None:
        self._thread.start()

    def outcome(self, name: str) -> Outcome:
        """Wait for a scenario's outcome, and run others that wait for their turn meanwhile."""
        while not self._outcomes[name].done() and self._run_next():
            pass
        return self._outcomes[name].result()

    def stop(self) -> None:
        """Begin no other scenario, and have what runs tidy up; also when the tests are interrupted."""
        self._stopping = True
        for process in list(self._running.values()):
            process.send_signal(signal.SIGINT)
        self._thread.join()

    def _work(self) -> None:
        while self._run_next():
            pass

    def _run_next(self) -> bool:
        try:
            name = self._waiting.get_nowait()
        except queue.Empty:
            return False
        if self._stopping:
            return False
        log = ROOT / ".cache" / "molecule" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        try:
            status = self._molecule("test", name, log, "w")
        except BaseException as error:
            self._molecule("destroy", name, log, "a")
            self._outcomes[name].set_exception(error)
            if not isinstance(error, Exception):
                self._stopping = True
                raise
        else:
            if self._stopping:  # molecule removes its nodes only when it ends by itself
                self._molecule("destroy", name, log, "a")
            self._outcomes[name].set_result(Outcome(status, log, time.monotonic() - begin))
        return True

    def _molecule(self, command: str, name: str, log: Path, mode: str) -> int:
        with log.open(mode) as output:
            process = subprocess.Popen(
                ["molecule", command, "-s", name],
                cwd=ROOT, env=_ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
            if command == "test":
                self._running[name] = process
                if self._stopping:  # since it was last asked for
                    process.send_signal(signal.SIGINT)
            try:
                return process.wait(_TIMEOUT_SECONDS)
            except BaseException:
                with suppress(subprocess.TimeoutExpired):
                    process.send_signal(signal.SIGINT)
                    process.wait(60)
                process.kill()
                process.wait()
                raise
            finally:
                self._running.pop(name, None)

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Transcripts of docker-machine, and what it says now; calls.txt says how they are written.

They are compared with the stand-in, or with the docker-machine that DOCKER_MACHINE names: both run on the stand-in for
VirtualBox.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = ROOT / "molecule" / "resources" / "docker-machine"
REAL = os.environ.get("DOCKER_MACHINE", "")
_STAND_IN_ONLY = " (stand-in only)"


@dataclass
class Call:
    """A command, and what it was seen to say."""

    command: str
    counts: bool
    output: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    status: int = 0


def cases(name: str) -> dict[str, list[Call]]:
    """Return the cases of a file, by their names."""
    found: dict[str, list[Call]] = {}
    calls: list[Call] = []
    for line in (Path(__file__).parent / name).read_text().splitlines():
        mark, text = line[:1], line[2:]
        if line.startswith("## "):
            calls = []
            if not (REAL and line.endswith(_STAND_IN_ONLY)):
                found[line[3:].removesuffix(_STAND_IN_ONLY)] = calls
        elif mark in ("$", "%"):
            calls.append(Call(text, counts=mark == "$"))
        elif mark == ">":
            calls[-1].output.append(text)
        elif mark == "!":
            calls[-1].errors.append(text)
        elif mark == "=":
            calls[-1].status = int(text)
    return found


class Computer:
    """A directory with a docker-machine and a VirtualBox of its own."""

    def __init__(self, directory: Path, taken: str = "") -> None:
        self.directory = directory
        self.store = directory / "store"
        self.faults = directory / "faults"
        self.iso = directory / "boot2docker.iso"
        binaries = directory / "bin"
        for path in (binaries, self.faults):
            path.mkdir()
        (binaries / "docker-machine").symlink_to(REAL or STAND_IN / "docker-machine")
        (binaries / "VBoxManage").symlink_to(STAND_IN / "VBoxManage")
        self.iso.write_bytes(bytes(0x8028) + b"Boot2Docker-v19.03.12".ljust(32) + bytes(4096))
        (directory / "networks.conf").write_text("* 192.168.96.0/24\n")
        self.environment = {
            **{name: os.environ[name] for name in ("DOCKER_HOST", "XDG_CACHE_HOME", "HOME") if name in os.environ},
            "PATH": f"{binaries}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "MACHINE_BUGSNAG_API_TOKEN": "no-report",
            "MACHINE_STORAGE_PATH": str(self.store),
            "SHELL": "/bin/bash",
            "STAND_IN_FAULTS": str(self.faults),
            "STAND_IN_NETWORKS_CONF": str(directory / "networks.conf"),
            "STAND_IN_STATE": str(directory / "virtualbox"),
            "USER": "user",
        }
        self.words = {
            "store": str(self.store),
            "bin": str(binaries),
            "iso": str(self.iso),
            "taken": taken,
            "options": "-d virtualbox --virtualbox-no-vtx-check --virtualbox-disk-size 20 "
            f"--virtualbox-boot2docker-url file://{self.iso}",
        }

    def run(self, command: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a line of the shell."""
        return subprocess.run(
            ["bash", "-c", self._filled(command)],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def follow(self, calls: list[Call]) -> None:
        """Make the calls of a case, and compare."""
        for call in calls:
            done = self.run(call.command)
            if not call.counts:
                continue
            seen = f"$ {call.command}\n{done.stdout}{done.stderr}= {done.returncode}"
            assert done.returncode == call.status, seen
            for what, recorded, text in (("output", call.output, done.stdout), ("errors", call.errors, done.stderr)):
                lines = text.removesuffix("\n").split("\n") if text else []
                assert len(lines) == len(recorded), f"{what}: {seen}"
                for line, expected in zip(lines, recorded, strict=True):
                    assert self._matches(self._filled(expected), line), f"{what}: {line!r} is not {expected!r}\n{seen}"

    def clear(self) -> None:
        done = self.run("VBoxManage stand-in-clear")
        assert done.returncode == 0, done.stderr

    def _filled(self, text: str) -> str:
        for name, value in self.words.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    def _matches(self, expected: str, line: str) -> bool:
        if "{any}" not in expected:
            return line == expected
        pattern = " +".join(re.escape(word).replace(r"\{any\}", ".*") for word in expected.split())
        return bool(re.fullmatch(pattern, line.strip()))

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""docker-machine as a person uses it: what it says, what its machines say, and what is made to fail."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import Client
from ansible_collections.apiary.swarm.plugins.module_utils.docker_machine import Store

#: what the stand-in for docker-machine can be made to do, and the real one cannot
_STAND_IN_ONLY = {"certificate-expired", "dies", "hangs"}
RESOURCES = Path(__file__).resolve().parents[1] / "molecule" / "resources" / "docker-machine"


@dataclass
class DockerMachine:
    """A store of machines, on VirtualBox or the stand-in for it."""

    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def storage(self) -> Path:
        return Path(self.environment["MACHINE_STORAGE_PATH"])

    def call(self, *arguments: str, succeeds: bool = True) -> str:
        """Call docker-machine, and return what it says."""
        program = self.environment.get("DOCKER_MACHINE") or "docker-machine"
        return self.run(program, *arguments, succeeds=succeeds)

    def virtualbox(self, *arguments: str) -> str:
        """Do something in VirtualBox, behind docker-machine's back."""
        return self.run("VBoxManage", *arguments)

    def ssh(self, machine: str, command: str) -> str:
        return self.call("ssh", machine, command).strip()

    def store(self, machine: str) -> Store:
        return Store(self.storage, machine)

    def api(self, machine: str, address: str, port: int = 2376, keys: bool = True) -> Any:
        """The Docker API of a machine, asked with the client's certificate or without."""
        tls = self.store(machine).tls()
        pair = (tls["client_cert"], tls["client_key"]) if keys else None
        config = docker.tls.TLSConfig(ca_cert=tls["ca_path"], client_cert=pair, verify=True)
        return Client(f"tcp://{address}:{port}", tls=config, version="auto", timeout=30)

    @contextmanager
    def fault(self, name: str, content: str = "") -> Iterator[None]:
        """Have something fail, see the stand-in's settings.py."""
        if name in _STAND_IN_ONLY and self.environment.get("DOCKER_MACHINE"):
            pytest.skip(f"the real docker-machine has no such fault: {name}")
        path = Path(self.environment["STAND_IN_STATE"]) / "faults" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        try:
            yield
        finally:
            path.unlink()

    @contextmanager
    def counted(self, directory: Path) -> Iterator[tuple[dict[str, str], list[str]]]:
        """Yield an environment in which calls of docker-machine are counted, and the calls, once that is left."""
        log, program = directory / "calls", directory / "docker-machine"
        real = self.environment.get("DOCKER_MACHINE") or "docker-machine"
        program.write_text(f'#!/bin/sh\necho "$*" >>{log}\nexec {real} "$@"\n')
        program.chmod(0o700)
        calls: list[str] = []
        log.touch()
        yield {**self.environment, "DOCKER_MACHINE": str(program)}, calls
        calls.extend(log.read_text().splitlines())

    def run(self, *argv: str, succeeds: bool = True) -> str:
        """Run a program as a user of this store does, and return what it says."""
        result = subprocess.run(
            argv,
            cwd=RESOURCES.parents[2],
            env={**self.environment, "MACHINE_BUGSNAG_API_TOKEN": "no-report", "ANSIBLE_FORCE_COLOR": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert (result.returncode == 0) == succeeds, f"{' '.join(argv)}: {result.stdout}"
        return result.stdout

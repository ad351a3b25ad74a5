# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A cluster of real virtual machines, made by the playbooks as a user runs them.

The files are run in the order of their names: the first makes the cluster, the one before the last removes it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect

ROOT = Path(__file__).resolve().parents[2]
#: a range of its own, so that the tests leave a user's cluster alone
LOOPBACK = "127.0.98"


@dataclass
class Run:
    """What a playbook said, and how it ended."""

    status: int
    output: str

    @property
    def changed(self) -> int:
        """Number of changes over all hosts, from the recap; -1 without one."""
        counts = re.findall(r"\bok=\d+\s+changed=(\d+)", self.output)
        return sum(map(int, counts)) if counts else -1


@dataclass
class Cluster:
    """A cluster in a state directory of its own."""

    state: Path
    name: str = "e2e"
    outputs: list[str] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        return self.state / "apiary" / self.name

    @property
    def entrypoints(self) -> dict[str, str]:
        return {"myvm1": f"{LOOPBACK}.101", "myvm2": f"{LOOPBACK}.102"}

    def command(self, playbook: str, *arguments: str, inventory: str = "inventories/qemu") -> list[str]:
        settings = {
            "cluster_name": self.name,
            "qemu_machine_loopback_network": f"{LOOPBACK}.0/24",
            "project_dir": str(ROOT),
        }
        return [
            *("ansible-playbook", "-i", inventory, f"playbooks/{playbook}.yml", "-e", json.dumps(settings)),
            *arguments,
        ]

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
            "XDG_STATE_HOME": str(self.state),
        }

    def play(self, playbook: str, *arguments: str, succeeds: bool = True, inventory: str = "inventories/qemu") -> Run:
        """Run a playbook to its end."""
        result = subprocess.run(
            self.command(playbook, *arguments, inventory=inventory),
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
            check=False,
        )
        self.keep(playbook, result.stdout)
        if succeeds:
            assert result.returncode == 0, result.stdout
        else:
            assert result.returncode != 0, result.stdout
        return Run(result.returncode, result.stdout)

    def play_until(self, playbook: str, task: str) -> str:
        """Run a playbook until a task whose name contains *task* starts, and kill all its processes there."""
        process = subprocess.Popen(
            self.command(playbook),
            cwd=ROOT,
            env={**self.environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        output = ""
        try:
            for line in process.stdout or ():
                output += line
                if line.startswith("TASK [") and task in line:
                    time.sleep(2)  # the task is under way
                    break
            else:
                pytest.fail(f"the task {task!r} never started:\n{output}")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.keep(playbook, output)
        return output

    def keep(self, playbook: str, output: str) -> None:
        """Keep what a playbook printed, here and in .cache/e2e, where the cause of a failure is looked for."""
        self.outputs.append(output)
        directory = ROOT / ".cache" / "e2e"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{len(self.outputs):03}-{playbook}.log").write_text(output)

    @contextmanager
    def api(self, machine: str) -> Iterator[Any]:
        """The Docker API of a machine."""
        client = self.directory / "client"
        endpoint = {
            "docker_host": f"tcp://{self.entrypoints[machine]}:2376",
            "tls": True,
            "validate_certs": True,
            "ca_path": str(client / "ca.pem"),
            "client_cert": str(client / "cert.pem"),
            "client_key": str(client / "key.pem"),
        }
        with connect(endpoint) as api:
            yield api

    def web_containers(self) -> dict[str, str]:
        """The running web containers as the engines list them: ID to machine."""
        found = {}
        for machine in self.entrypoints:
            with self.api(machine) as api:
                for container in api.containers(filters={"label": "com.docker.swarm.service.name=getstartedlab_web"}):
                    found[container["Id"]] = machine
        return found

    def process(self, machine: str) -> int:
        """The process ID of a machine."""
        return int((self.directory / "machines" / machine / "pid").read_text())


def ask(address: str, port: int = 4000) -> dict[str, Any]:
    """Ask the web service through an address, over a new connection."""
    response = requests.get(f"http://{address}:{port}/", headers={"Accept": "application/json"}, timeout=20)
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer


def ask_often(address: str, times: int) -> Counter[str]:
    """Count which containers answered."""
    return Counter(ask(address)["container_id"] for _ in range(times))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster of this session, which the first test makes; whatever is left of it at the end is removed."""
    missing = [tool for tool in ("qemu-system-x86_64", "mmdebstrap") if not shutil.which(tool)]
    if missing:
        pytest.skip(f"{' and '.join(missing)} missing: 'make setup' installs what the tests need")
    # not pytest's own directory: its path may be too long for a socket
    with tempfile.TemporaryDirectory(prefix="apiary-") as state:
        cluster = Cluster(Path(state))
        try:
            yield cluster
        finally:
            cluster.play("destroy", "-e", "destroy_confirmed=true")

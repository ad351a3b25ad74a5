# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A cluster as the tests see it: playbooks are run as a user runs them, and engines are asked for what became of it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from ansible_collections.apiary.swarm.plugins.module_utils.containers import CLUSTER_LABEL
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import connect
from ansible_collections.apiary.swarm.plugins.module_utils.docker_machine import stores
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.qemu import processes

if TYPE_CHECKING:
    from tests.controllers import Controller

ROOT = Path(__file__).resolve().parents[1]
SECRETS = ("SWMTKN-", "SWMKEY-", "PRIVATE KEY")
#: removing needs a yes
CONFIRMED = ("-e", "destroy_confirmed=true")
_TIMEOUT_SECONDS = 1200


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

    @property
    def report(self) -> str:
        """What was said after the phases, on one line."""
        _recap, _, report = self.output.rpartition(" · total ")
        return " ".join(report.split())


@dataclass
class Cluster:
    """The cluster of an inventory, with settings of its own."""

    inventory: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: other settings given as for ansible-playbook -e
    extra_vars: tuple[str, ...] = ()
    #: where the cluster's files are; None for where a user's are
    state: Path | None = None
    #: what else is in the environment
    variables: Mapping[str, str] = field(default_factory=dict)
    #: the computer that the playbooks run on; None for this one
    controller: Controller | None = None
    outputs: list[str] = field(default_factory=list)
    _machines: dict[str, dict[str, Any]] = field(default_factory=dict)

    # Playbooks

    def command(self, playbook: str, *arguments: str, inventory: str = "") -> list[str]:
        settings = {**self.settings, "project_dir": str(ROOT)} if self.settings else {}
        given = [word for text in self.extra_vars for word in ("-e", text)]
        path = playbook if "/" in playbook else f"playbooks/{playbook}.yml"
        return [
            *("ansible-playbook", "-i", inventory or self.inventory, path),
            *(["-e", json.dumps(settings)] if settings else []),
            *(*given, *arguments),
        ]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self._own_environment}

    @property
    def _own_environment(self) -> dict[str, str]:
        return {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
            **({"XDG_STATE_HOME": str(self.state)} if self.state else {}),
            **self.variables,
        }

    def run(self, playbook: str, *arguments: str, inventory: str = "") -> Run:
        """Run a playbook to its end, whatever that is."""
        command = self.command(playbook, *arguments, inventory=inventory)
        if self.controller:
            run = Run(*self.controller.run(command, self._own_environment))
            self._keep(playbook, run.output)
            return run
        result = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
        self._keep(playbook, result.stdout)
        return Run(result.returncode, result.stdout)

    def play(self, playbook: str, *arguments: str, succeeds: bool = True, inventory: str = "") -> Run:
        """Run a playbook to the end that is expected."""
        run = self.run(playbook, *arguments, inventory=inventory)
        assert (run.status == 0) == succeeds, run.output
        return run

    def play_until(self, playbook: str, task: str) -> str:
        """Run a playbook until a task whose name contains *task* starts, and kill all its processes there."""
        output = run_until(self.command(playbook), self.environment, task, seconds=2)
        self._keep(playbook, output)
        return output

    def _keep(self, playbook: str, output: str) -> None:
        """Keep what a playbook printed, here and in .cache/tests, where the cause of a failure is looked for."""
        self.outputs.append(output)
        directory = ROOT / ".cache" / "tests" / self.name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{len(self.outputs):03}-{Path(playbook).stem}.log").write_text(output)

    # What there is

    @cached_property
    def name(self) -> str:
        """The name of the cluster, as its inventory has it."""
        if "cluster_name" in self.settings:
            return str(self.settings["cluster_name"])
        given = [word for text in self.extra_vars for word in ("-e", text)]
        command = ["ansible-inventory", "-i", self.inventory, "--list", *given]
        listed = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert listed.returncode == 0, listed.stderr
        hosts = json.loads(listed.stdout)["_meta"]["hostvars"]
        return str(next(variables["cluster_name"] for variables in hosts.values()))

    @property
    def directory(self) -> Path:
        """The directory of the cluster's files."""
        default = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return (self.state or Path(default)) / "apiary" / self.name

    @property
    def machines(self) -> dict[str, dict[str, Any]]:
        """The hosts of the inventory: how each is reached, and what is asked of it and of the stack."""
        if not self._machines:
            with tempfile.TemporaryDirectory(prefix="apiary-") as directory:
                path = Path(directory) / "machines.json"
                self.play("tests/endpoints.yml", "-e", f"endpoints_file={path}")
                self._machines.update(json.loads(path.read_text()))
        return self._machines

    @property
    def entrypoints(self) -> dict[str, str]:
        return {name: machine["entrypoint"] for name, machine in self.machines.items()}

    def named(self, role: str) -> list[str]:
        """The names of all managers, or of all workers."""
        return [name for name, machine in self.machines.items() if machine["role"] == role]

    @property
    def _any(self) -> dict[str, Any]:
        """A machine: what the inventory says of the whole cluster, it says of each."""
        return next(iter(self.machines.values()))

    @property
    def provider(self) -> str:
        return str(self._any["provider"])

    @property
    def stack(self) -> str:
        return str(self._any["stack"])

    @property
    def services(self) -> Mapping[str, Any]:
        """What the inventory's stack asks of each of its services."""
        services: Mapping[str, Any] = self._any["services"]
        return services

    @property
    def service(self) -> str:
        """The name of the service that the swarm gives the stack's web."""
        return f"{self.stack}_web"

    @property
    def replicas(self) -> int:
        """The number of tasks that the inventory asks of web."""
        return int(self.services["web"]["replicas"])

    @property
    def port(self) -> int:
        """The port that web publishes."""
        return self.port_of("web")

    def port_of(self, service: str) -> int:
        return int(next(port["published"] for port in self._any["ports"] if port["service"] == service))

    @contextmanager
    def api(self, machine: str) -> Iterator[Any]:
        """The Docker API of a machine."""
        with connect(self.machines[machine]["docker"]) as api:
            yield api

    def web_containers(self) -> dict[str, str]:
        """The running web containers as the engines list them: ID to machine."""
        return self.containers("web")

    def containers(self, service: str) -> dict[str, str]:
        """The running containers of a service of the stack as the engines list them: ID to machine."""
        label = f"com.docker.swarm.service.name={self.stack}_{service}"
        found = {}
        for machine in self.machines:
            with self.api(machine) as api:
                for container in api.containers(filters={"label": label}):
                    found[container["Id"]] = machine
        return found

    def answers(self, machine: str, times: int) -> Counter[str]:
        """Count which containers answer through a machine, each asked over a new connection."""
        return Counter(str(self.answer(machine)["container_id"]) for _ in range(times))

    def answer(self, machine: str) -> dict[str, Any]:
        """What the web service says through a machine."""
        url = f"http://{self.entrypoints[machine]}:{self.port}/"
        response = requests.get(url, headers={"Accept": "application/json"}, timeout=20)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer

    def counted(self, machine: str, seconds: float = 120) -> int:
        """The number of visits, as web counts one through a machine, once the task that is asked has found Redis."""
        deadline = time.monotonic() + seconds
        while (visits := self.answer(machine)["visits"]) is None:
            assert time.monotonic() < deadline, f"no visit was counted in {seconds} s"
            time.sleep(1)
        return int(visits)

    def process(self, machine: str) -> int:
        """The process ID of a virtual machine."""
        return int((self.directory / "machines" / machine / "pid").read_text())

    # What is left

    def parts(self) -> list[str]:
        """Everything on this computer that is the cluster's, as those say who hold it."""
        parts = [str(self.directory)] if self.directory.exists() else []
        if self.provider != "existing_machine":  # what listens at a host that exists need not be the cluster's
            parts += [f"a listener on {address}" for address in sorted(_listening() & set(self.entrypoints.values()))]
        return parts + sorted(_PARTS[self.provider](self))


def run_until(command: list[str], environment: Mapping[str, str], task: str, seconds: float) -> str:
    """Run a playbook until *seconds* after a task with *task* in its name, or a line of progress, and kill it all."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**environment, "PYTHONUNBUFFERED": "1", "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default"},
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
            if line.startswith(("TASK [", "  ")) and task in line:
                time.sleep(seconds)
                break
        else:
            pytest.fail(f"the task {task!r} never started:\n{output}")
    finally:
        # Ansible's workers have sessions of their own, and would go on.
        for pid in [process.pid, *_descendants(process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
    return output


def _descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have, but for daemons."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread or process that has ended meanwhile
            found += [int(child) for child in path.read_text().split()]
    return [one for child in found for one in [child, *_descendants(child)]]


def listens(address: str, port: int) -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as connection:
        return connection.connect_ex((address, port)) == 0


def serves(address: str, port: int) -> bool:
    """Whether a web server answers there; whoever forwards a port accepts connections for nobody, too."""
    try:
        return requests.get(f"http://{address}:{port}/", timeout=20).ok
    except requests.RequestException:
        return False


def _listening() -> set[str]:
    """The IPv4 addresses of this computer on which something listens, from the kernel."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    addresses = [row[1].partition(":")[0] for row in rows if row[3] == "0A"]
    return {socket.inet_ntoa(bytes.fromhex(address)[::-1]) for address in addresses}


def engine() -> str:
    """The engine whose containers can be nodes, as the inventory chooses it."""
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def _of_containers(cluster: Cluster) -> list[str]:
    filters = {"label": f"{CLUSTER_LABEL}={cluster.name}"}
    with connect({"docker_host": engine()}) as api:
        return [
            *(f"the container {entry['Names'][0]}" for entry in api.containers(all=True, filters=filters)),
            *(f"the network {entry['Name']}" for entry in api.networks(filters=filters)),
            *(f"the volume {entry['Name']}" for entry in api.volumes(filters=filters)["Volumes"] or []),
        ]


def _of_qemu(cluster: Cluster) -> list[str]:
    """The processes of its machines, but not those that a kernel of User Mode Linux runs a guest's programs in."""
    return [f"the process {pid}" for pid in processes(cluster.directory) if not _is_traced(pid)]


def _is_traced(pid: int) -> bool:
    try:
        return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended meanwhile
        return True


def _of_docker_machine(cluster: Cluster) -> list[str]:
    storage = cluster.environment.get("MACHINE_STORAGE_PATH") or Path.home() / ".docker" / "machine"
    own = [store for store in stores(Path(storage)) if store.cluster == cluster.name]
    return [f"the file {path}" for store in own for path in store.directory.iterdir()]


def _of_hosts(cluster: Cluster) -> list[str]:
    """What there is of the cluster on hosts that exist, and stay."""
    cluster._machines.clear()  # a connection that was closed is opened by asking again
    found = []
    for machine in cluster.machines:
        # one that has no engine yet
        with suppress(ApiaryError), cluster.api(machine) as api:
            if api.info()["Swarm"]["LocalNodeState"] != "inactive":
                found.append(f"the membership of {machine}")
            label = {"label": "com.docker.stack.namespace"}
            found += [f"the container {entry['Names'][0]}" for entry in api.containers(all=True, filters=label)]
            found += [f"the network {entry['Name']} on {machine}" for entry in api.networks(filters=label)]
    return found


#: provider → what of a cluster there is on this computer, besides its files and its listeners
_PARTS: dict[str, Callable[[Cluster], list[str]]] = {
    "container_machine": _of_containers,
    "docker_machine": _of_docker_machine,
    "existing_machine": _of_hosts,
    "qemu_machine": _of_qemu,
}

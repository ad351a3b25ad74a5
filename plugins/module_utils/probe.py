# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Asking published ports through every entrypoint until every task has been heard.

Counts of running tasks do not prove that a service answers: the routing mesh of engine 20.10 was seen to lose tasks
after a restart while all of them ran. A task is recognised by its host name, the first 12
characters of its container ID.
"""

from __future__ import annotations

import http.client
import socket
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.ingress import is_proxied, live_ports

#: a task on a tenth of an emulated CPU was seen to take 4 s for its first answer
_REQUEST_TIMEOUT_SECONDS = 20.0
#: how many connections in a row must stay open and silent before a service counts as one that does not speak HTTP
_SILENT_CONNECTIONS = 2
_PAUSE_SECONDS = 0.25
#: how long a port that does not speak HTTP must keep a silent connection open to count as answering
_OPEN_SECONDS = 0.5
_LARGEST_ANSWER_BYTES = 1 << 20
_ID_LENGTH = 12
#: port in the container → what its server is asked instead of HTTP. Redis takes a request of HTTP for an attack, and
#: writes so in its log.
_GREETINGS = {6379: b"PING\r\n"}

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """A port published through the routing mesh or a proxy, and the tasks behind it: short container ID → name."""

    service: str
    port: int
    tasks: Mapping[str, str]
    is_proxied: bool = False
    #: nodes that do not answer for others: unlike the mesh, the proxy is a task, which a drained node has not
    unserved: frozenset[str] = frozenset()
    #: what the server is asked; HTTP where it is empty
    greeting: bytes = b""


@dataclass(frozen=True)
class Entrypoint:
    name: str
    address: str


@dataclass(frozen=True)
class Answer:
    """What came back: an HTTP answer, a connection that speaks something else, or nothing and why."""

    text: str = ""
    is_http: bool = False
    is_silent: bool = False
    error: str = ""


@dataclass
class Hearing:
    """What was heard of one target through one entrypoint."""

    target: Target
    entrypoint: Entrypoint
    heard: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    anonymous: int = 0
    silent: int = 0
    is_http: bool = True
    last_error: str = ""

    @property
    def missing(self) -> list[str]:
        """The container IDs of the tasks not heard yet."""
        return [container for container in self.target.tasks if not self.heard[container]]

    @property
    def is_anonymous(self) -> bool:
        """Whether the answers do not tell the tasks apart, so that an answer is all that can be proved."""
        if not self.is_http:
            return True
        return not self.heard and self.anonymous >= max(5, 2 * len(self.target.tasks))

    @property
    def is_vague(self) -> bool:
        """Whether there are answers, and they leave open which tasks gave them; a task alone is known by any."""
        return self.is_anonymous and bool(self.missing) and len(self.target.tasks) > 1

    @property
    def is_done(self) -> bool:
        return not self.missing or self.is_anonymous

    def note(self, answer: Answer) -> None:
        self.requests += 1
        if answer.error:
            self.last_error = answer.error
            return
        self.silent = self.silent + 1 if answer.is_silent else 0
        if answer.is_silent:
            self.last_error = "a connection was accepted, and no answer came"
            if self.heard or self.silent < _SILENT_CONNECTIONS:
                return
        self.is_http = answer.is_http
        # An answer that names several tasks, such as a list of containers, says nothing of who gave it.
        named = [container for container in self.target.tasks if container in answer.text]
        if len(named) == 1:
            self.heard[named[0]] += 1
        else:
            self.anonymous += 1

    @property
    def has_spoken_http(self) -> bool:
        return self.is_http and bool(self.heard or self.anonymous)

    def as_dict(self) -> dict[str, Any]:
        return {
            "service": self.target.service,
            "port": self.target.port,
            "entrypoint": self.entrypoint.name,
            "address": self.entrypoint.address,
            "requests": self.requests,
            "heard": {container: self.heard[container] for container in self.target.tasks},
            "identified": bool(self.heard),
            "http": self.is_http,
        }

    def complaint(self, timeout_seconds: float) -> str:
        """What to tell the user of a hearing that is not done."""
        where = (
            f"port {self.target.port} of service {self.target.service} through {self.entrypoint.name} "
            f"({self.entrypoint.address})"
        )
        if not self.heard and not self.anonymous:
            tries = f"{timeout_seconds:g} seconds and {self.requests} tries"
            return f"{where}: no answer in {tries}; the last: {self.last_error}"
        missing = ", ".join(f"{self.target.tasks[container]} (container {container})" for container in self.missing)
        last = f"; the last failure: {self.last_error}" if self.last_error else ""
        return (
            f"{where}: heard {len(self.target.tasks) - len(self.missing)} of {len(self.target.tasks)} tasks in "
            f"{self.requests} requests; never heard: {missing}{last}"
        )


def targets_of(services: Mapping[str, Object], tasks: Sequence[Object], nodes: Iterable[Object]) -> list[Target]:
    """Return the TCP ports that *services* publish through every node and have running tasks behind them."""
    nodes = list(nodes)
    names = {node["ID"]: node.get("Description", {}).get("Hostname", node["ID"]) for node in nodes}
    drained = frozenset(names[node["ID"]] for node in nodes if is_drained(node))
    targets = []
    for name, service in services.items():
        running = {
            task["Status"]["ContainerStatus"]["ContainerID"][:_ID_LENGTH]: _task_name(name, task, names)
            for task in tasks
            if task["ServiceID"] == service["ID"]
            and task["DesiredState"] == task["Status"]["State"] == "running"
            and (task["Status"].get("ContainerStatus") or {}).get("ContainerID")
        }
        targets += [
            Target(
                name,
                port.published,
                running,
                is_proxied(service),
                drained if is_proxied(service) else frozenset(),
                _GREETINGS.get(port.target, b""),
            )
            for port in live_ports(name, service)
            if running and port.published and port.protocol == "tcp" and port.mode == "ingress"
        ]
    return targets


def is_drained(node: Object) -> bool:
    return bool(node.get("Spec", {}).get("Availability") == "drain")


def _task_name(service: str, task: Object, nodes: Mapping[str, str]) -> str:
    number = f".{task['Slot']}" if task.get("Slot") else ""
    return f"{service}{number} on {nodes.get(task.get('NodeID', ''), 'an unknown node')}"


def compare(hearings: Sequence[Hearing]) -> None:
    """Take a port that spoke HTTP through one entrypoint for one that does through all: anything else is no answer."""
    spoken = {(hearing.target.service, hearing.target.port) for hearing in hearings if hearing.has_spoken_http}
    for hearing in hearings:
        if not hearing.is_http and (hearing.target.service, hearing.target.port) in spoken:
            hearing.is_http, hearing.anonymous, hearing.silent = True, 0, 0
            hearing.last_error = hearing.last_error or "what came was not HTTP"


def ask_until_heard(hearing: Hearing, until: float, deadline: float) -> None:
    """Ask over new connections until the hearing is done or the monotonic clock reaches *until*.

    A request under way then is waited for, at most until *deadline*.
    """
    while not hearing.is_done and (now := time.monotonic()) < until:
        target, timeout = hearing.target, min(_REQUEST_TIMEOUT_SECONDS, deadline - now)
        answer = ask(hearing.entrypoint.address, target.port, timeout, target.greeting)
        hearing.note(answer)
        if answer.error:
            time.sleep(_PAUSE_SECONDS)


def ask(address: str, port: int, timeout_seconds: float, greeting: bytes = b"") -> Answer:
    """Send *greeting* or an HTTP request over a connection of its own; the mesh hands each to the next task."""
    if greeting:
        return _greet(address, port, timeout_seconds, greeting)
    connection = http.client.HTTPConnection(address, port, timeout=timeout_seconds)
    try:
        connection.connect()
    except OSError as error:
        return Answer(error=str(error))
    try:
        connection.request("GET", "/", headers={"Accept": "application/json", "Connection": "close"})
        response = connection.getresponse()
        body = response.read(_LARGEST_ANSWER_BYTES).decode("latin-1")
    except TimeoutError:
        return Answer(is_silent=True)  # a protocol in which the client does not speak first, or a task that is stuck
    except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
        # The peer hung up: nothing there (a port forward of QEMU accepts all the same), or no HTTP.
        return _ask_silently(address, port, timeout_seconds, str(error) or type(error).__name__)
    except http.client.HTTPException:
        return Answer(is_http=False)
    except OSError as error:
        return Answer(error=str(error))
    finally:
        connection.close()
    if response.status >= 500:
        return Answer(error=f"HTTP status {response.status} {response.reason}")
    return Answer(text=f"{response.headers}\n{body}", is_http=True)


def _greet(address: str, port: int, timeout_seconds: float, greeting: bytes) -> Answer:
    """Say *greeting* to a server that answers to it, if only that it wants a password first."""
    try:
        with socket.create_connection((address, port), timeout_seconds) as connection:
            connection.sendall(greeting)
            if connection.recv(1):
                return Answer(is_http=False)
    except OSError as error:
        return Answer(error=str(error))
    return Answer(error="the connection was closed without an answer")


def _ask_silently(address: str, port: int, timeout_seconds: float, error: str) -> Answer:
    """Tell a server that waits for its own protocol from a connection that somebody closes at once."""
    try:
        with socket.create_connection((address, port), timeout_seconds) as connection:
            connection.settimeout(_OPEN_SECONDS)
            if connection.recv(1):
                return Answer(is_http=False)
    except TimeoutError:
        return Answer(is_http=False)
    except OSError as other:
        error = str(other)
    return Answer(error=error)

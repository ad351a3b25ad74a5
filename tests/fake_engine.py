# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A manager's engine for the visualizer to look at, of a swarm that tests make up.

It is the part of the Docker API that is read, on a unix socket. Its answers are shaped as those of an engine 20.10, and
full of secrets.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

Raw = dict[str, Any]

#: what must not leave the server, wherever the engine has said it
SECRETS = {
    "environment": "swordfish-of-the-environment",
    "argument": "swordfish-of-an-argument",
    "label": "swordfish-of-a-service-label",
    "node label": "swordfish-of-a-node-label",
    "engine label": "swordfish-of-an-engine-label",
    "container label": "swordfish-of-a-container-label",
    "secret name": "swordfish-of-a-secret",
    "config name": "swordfish-of-a-config",
    "mount": "swordfish-of-a-mount",
    "certificate": "swordfish-of-a-certificate",
    "image login": "swordfish-of-a-login",
    "health check": "swordfish-of-a-health-check",
}
#: a value of the environment that an error repeats, without a name before it
_ENVIRONMENT = SECRETS["environment"]
NOT_A_MANAGER = (
    503,
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this "
    "command on a manager node or promote the current node to a manager.",
)


def timestamp(seconds_ago: float = 0) -> str:
    return datetime.fromtimestamp(time.time() - seconds_ago, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "123Z"


class FakeEngine:
    """An engine in a thread of its own; the swarm is what its methods make of it."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.nodes: dict[str, Raw] = {}
        self.services: dict[str, Raw] = {}
        self.tasks: dict[str, Raw] = {}
        self.version: Raw = {"Version": "20.10.24+dfsg1", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}
        #: status and message for everything but /version; None: the swarm
        self.refusal: tuple[int, str] | None = None
        #: what it was asked: method and path with the query
        self.requests: list[tuple[str, str]] = []
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._listeners: set[asyncio.Queue[bytes]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    # The server

    def start(self) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def stop(self) -> None:
        """End as an engine that was killed: connections break, and nobody listens."""
        if self._loop and self._thread:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(10)
            self._loop = self._thread = None

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._listeners = set()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await runner.setup()
        self.socket.unlink(missing_ok=True)
        await web.UnixSite(runner, str(self.socket)).start()
        ready.set()
        await self._stopping.wait()
        for listener in self._listeners:
            listener.put_nowait(b"")
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        version, _, what = request.path.strip("/").rpartition("/")
        if request.method != "GET":
            return web.json_response({"message": "the visualizer has changed the swarm"}, status=500)
        if what == "version" and not version:
            return web.json_response(self.version)
        if version != f"v{self.version['ApiVersion']}":
            return web.json_response({"message": f"client version {version} is not the right one"}, status=400)
        if self.refusal:
            return web.json_response({"message": self.refusal[1]}, status=self.refusal[0])
        if what == "events":
            return await self._stream(request)
        if what not in ("nodes", "services", "tasks"):
            return web.json_response({"message": "page not found"}, status=404)
        filters = json.loads(request.query.get("filters", "{}"))
        with self.lock:
            items = list(getattr(self, what).values())
            if "service" in filters:
                gone = [key for key in filters["service"] if key not in self.services]
                if gone:
                    return web.json_response({"message": f"service {gone[0]} not found"}, status=404)
                items = [item for item in items if item["ServiceID"] in filters["service"]]
            return web.Response(body=json.dumps(items).encode(), content_type="application/json")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        listener: asyncio.Queue[bytes] = asyncio.Queue()
        self._listeners.add(listener)
        try:
            while line := await listener.get():
                await response.write(line)
        finally:
            self._listeners.discard(listener)
        return response

    def event(self, kind: str, action: str, key: str, **attributes: str) -> None:
        """Tell those who listen."""
        line = json.dumps({"Type": kind, "Action": action, "Actor": {"ID": key, "Attributes": attributes}}) + "\n"
        if self._loop:
            for listener in list(self._listeners):
                self._loop.call_soon_threadsafe(listener.put_nowait, line.encode())

    # The swarm

    def _id(self, kind: str) -> str:
        return f"{kind}{next(self._numbers):06}".ljust(25, "x")

    def add_node(self, name: str, role: str = "worker", **changes: Any) -> str:
        """Add a node; changes are role, leader, state, availability, address, cpus, memory, labels."""
        key, number = self._id("n"), len(self.nodes) + 1
        address = changes.get("address", f"192.168.70.{100 + number}")
        node: Raw = {
            "ID": key,
            "Version": {"Index": 10},
            "CreatedAt": timestamp(86400),
            "UpdatedAt": timestamp(3600),
            "Spec": {
                "Labels": {"disk": "ssd", "token": SECRETS["node label"], **changes.get("labels", {})},
                "Role": role,
                "Availability": changes.get("availability", "active"),
            },
            "Description": {
                "Hostname": name,
                "Platform": {"Architecture": "x86_64", "OS": "linux"},
                "Resources": {
                    "NanoCPUs": changes.get("cpus", 2) * 10**9,
                    "MemoryBytes": changes.get("memory", 4 * 2**30),
                },
                "Engine": {
                    "EngineVersion": self.version["Version"],
                    "Labels": {"x": SECRETS["engine label"]},
                    "Plugins": [{"Type": "Network", "Name": name} for name in ("bridge", "host", "overlay")],
                },
                "TLSInfo": {"TrustRoot": SECRETS["certificate"], "CertIssuerSubject": "MBMx"},
            },
            "Status": {"State": changes.get("state", "ready"), "Addr": address},
        }
        if role == "manager":
            node["ManagerStatus"] = {"Reachability": "reachable", "Addr": f"{address}:2377"}
            if changes.get("leader"):
                node["ManagerStatus"]["Leader"] = True
        with self.lock:
            self.nodes[key] = node
        self.event("node", "create", key, name=name)
        return key

    def add_service(self, name: str, image: str, replicas: int | None = 1, **changes: Any) -> str:
        """Add a service, global with None for replicas; changes are port, stack, cpus, memory, seconds_ago."""
        key = self._id("s")
        stack = changes.get("stack", "shop")
        spec: Raw = {
            "Name": f"{stack}_{name}" if stack else name,
            "Labels": {"x": SECRETS["label"], **({"com.docker.stack.namespace": stack} if stack else {})},
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": f"{image}@sha256:{'0' * 64}",
                    "Labels": {"x": SECRETS["container label"]},
                    "Args": [f"--password={SECRETS['argument']}"],
                    "Env": [f"PLAIN={_ENVIRONMENT}"],
                    "Mounts": [{"Source": SECRETS["mount"], "Target": "/data"}],
                    "Secrets": [{"SecretID": "s", "SecretName": SECRETS["secret name"]}],
                    "Configs": [{"ConfigID": "c", "ConfigName": SECRETS["config name"]}],
                    "Healthcheck": {"Test": ["CMD", SECRETS["health check"]]},
                },
                "Resources": {
                    "Limits": {"NanoCPUs": 10**8, "MemoryBytes": 50 * 2**20},
                    "Reservations": {
                        "NanoCPUs": int(changes.get("cpus", 0.05) * 10**9),
                        "MemoryBytes": changes.get("memory", 32 * 2**20),
                    },
                },
                "ForceUpdate": 0,
            },
            "Mode": {"Global": {}} if replicas is None else {"Replicated": {"Replicas": replicas}},
        }
        ports = [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": changes["port"]}] if "port" in changes else []
        ago = changes.get("seconds_ago", 7200)
        with self.lock:
            self.services[key] = {
                "ID": key,
                "Version": {"Index": 20},
                "CreatedAt": timestamp(ago),
                "UpdatedAt": timestamp(ago),
                "Spec": spec,
                "Endpoint": {"Spec": {}, "Ports": ports},
            }
        self.event("service", "create", key, name=spec["Name"])
        return key

    def add_task(self, service: str, node: str, slot: int = 0, state: str = "running", **changes: Any) -> str:
        """Add a task; changes are error, desired, seconds_ago."""
        key, number = self._id("t"), next(self._numbers)
        ago = changes.get("seconds_ago", 0)
        ended = state in ("failed", "rejected", "shutdown", "complete")
        with self.lock:
            task: Raw = {
                "ID": key,
                "Version": {"Index": 30},
                "CreatedAt": timestamp(ago),
                "UpdatedAt": timestamp(ago),
                "Labels": {},
                "Spec": json.loads(json.dumps(self.services[service]["Spec"]["TaskTemplate"])),
                "ServiceID": service,
                "Slot": slot,
                "NodeID": node,
                "Status": {"Timestamp": timestamp(ago), "State": state, "Message": "started", "PortStatus": {}},
                "DesiredState": changes.get("desired", "shutdown" if ended else "running"),
                "NetworksAttachments": [{"Network": {"ID": "net", "Spec": {"Name": "web", "Labels": {}}}}],
            }
            if node:
                container = f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}".ljust(64, "0")
                task["Status"]["ContainerStatus"] = {"ContainerID": container, "PID": 1, "ExitCode": 0}
            if "error" in changes:
                task["Status"]["Err"] = changes["error"]
            self.tasks[key] = task
        return key

    def set_task(self, key: str, state: str, desired: str = "", error: str = "") -> None:
        """Change a task's state, which no event tells of."""
        with self.lock:
            task = self.tasks[key]
            task["Status"] = {**task["Status"], "State": state, "Timestamp": timestamp(), "Message": state}
            if error:
                task["Status"]["Err"] = error
            task["DesiredState"] = desired or task["DesiredState"]

    def replace(self, key: str, node: str = "", state: str = "running") -> str:
        """Add the task that takes the place of another, elsewhere if a node is given."""
        task = self.tasks[key]
        return self.add_task(task["ServiceID"], node or task["NodeID"], task["Slot"], state)

    def set_node(self, key: str, **changes: Any) -> None:
        """Change a node's state, availability, role or leader."""
        with self.lock:
            node = json.loads(json.dumps(self.nodes[key]))
            node["Status"]["State"] = changes.get("state", node["Status"]["State"])
            node["Spec"]["Availability"] = changes.get("availability", node["Spec"]["Availability"])
            node["Spec"]["Role"] = changes.get("role", node["Spec"]["Role"])
            if "leader" in changes:
                node["ManagerStatus"] = {**node.get("ManagerStatus", {}), "Leader": changes["leader"]}
            self.nodes[key] = node
        self.event("node", "update", key)

    def update_service(self, key: str, *, image: str = "", replicas: int = 0, env: str = "", update: str = "") -> None:
        """Change a service's specification, or the state of its update."""
        with self.lock:
            service = json.loads(json.dumps(self.services[key]))
            container = service["Spec"]["TaskTemplate"]["ContainerSpec"]
            if image:
                container["Image"] = f"{image}@sha256:{'1' * 64}"
            if replicas:
                service["Spec"]["Mode"] = {"Replicated": {"Replicas": replicas}}
            if env:
                container["Env"] = [*container["Env"], env]
            if update:
                service["UpdateStatus"] = {"State": update, "Message": f"update {update}"}
            service["UpdatedAt"] = timestamp()
            self.services[key] = service
        self.event("service", "update", key)

    def remove_service(self, key: str) -> None:
        with self.lock:
            del self.services[key]
            self.tasks = {name: task for name, task in self.tasks.items() if task["ServiceID"] != key}
        self.event("service", "remove", key)


def tutorial(engine: FakeEngine) -> dict[str, str]:
    """Fill *engine* with the swarm of the tutorial, somewhat grown; return the IDs of its parts by name."""
    ids: dict[str, str] = {}
    for number in range(1, 6):
        role = "manager" if number <= 3 else "worker"
        ids[f"node{number}"] = engine.add_node(f"node{number}", role, leader=number == 1)
    ids["web"] = engine.add_service("web", "apiary/web:1d0f032e7f7c", 5, port=4000)
    ids["redis"] = engine.add_service("redis", "apiary/redis:77c19e02ab4d", 1, port=6379, cpus=0.1, memory=64 * 2**20)
    ids["visualizer"] = engine.add_service("visualizer", "apiary/visualizer:b4e65aa00d1c", 1, port=8080)
    ids["ingress"] = engine.add_service("ingress", "apiary/ingress:c66e2e2bdc47", None, cpus=0, memory=16 * 2**20)
    for slot in range(1, 6):
        ids[f"web.{slot}"] = engine.add_task(ids["web"], ids[f"node{slot}"], slot, seconds_ago=3000 + slot)
        ids[f"ingress.{slot}"] = engine.add_task(ids["ingress"], ids[f"node{slot}"], seconds_ago=7200)
    ids["redis.1"] = engine.add_task(ids["redis"], ids["node1"], 1, seconds_ago=7100)
    ids["visualizer.1"] = engine.add_task(ids["visualizer"], ids["node1"], 1, seconds_ago=7000)
    return ids


def large(engine: FakeEngine, nodes: int = 50, tasks: int = 1000, services: int = 20) -> dict[str, list[str]]:
    """Fill *engine* with a large swarm; return the IDs of its nodes, services and tasks."""
    node_ids = [
        engine.add_node(f"node{number}", "manager" if number <= 5 else "worker", leader=number == 1, cpus=8)
        for number in range(1, nodes + 1)
    ]
    each = tasks // services
    service_ids = [engine.add_service(f"service{number}", f"apiary/part{number}:1", each) for number in range(services)]
    task_ids = [
        engine.add_task(
            service_ids[number % services], node_ids[number % nodes], 1 + number // services, seconds_ago=number
        )
        for number in range(tasks)
    ]
    return {"nodes": node_ids, "services": service_ids, "tasks": task_ids}

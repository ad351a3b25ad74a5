# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Follows the swarm, and keeps the state that browsers are shown.

Managers tell of changes to services and nodes as they happen, and of the containers of their own machine. Of tasks
elsewhere there are no events, so tasks are read every second, and those of services that just changed thrice as often.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from visualizer import timeline, view
from visualizer.engine import Engine, EngineError

CALM_SECONDS = 1.0
QUICK_SECONDS = 0.3
#: nodes and services, in case an event of theirs was missed
REST_SECONDS = 5.0
RETRY_SECONDS = 1.0
#: events come in bursts: what one of them starts waits for the others
_COALESCE_SECONDS = 0.05
#: for so long after a change more of them are expected
_MOVING_SECONDS = 10.0
#: of more services than this, all tasks are read at once
_FEW = 5
#: reading the swarm takes a third of the time at most, however large it is and however slow the machine
_SHARE = 2

_EVENTS = {
    "type": ["node", "service", "container"],
    "event": ["create", "update", "remove", "start", "die", "oom", "health_status"],
}
_SERVICE_LABEL = "com.docker.swarm.service.id"


def now_ms() -> int:
    """Return the time, as the page counts it."""
    return int(time.time() * 1000)


class Feed:
    """The newest snapshot; who waits for the next one misses those between, and not what they changed."""

    def __init__(self) -> None:
        self.snapshot: view.Snapshot = {}
        self._news = asyncio.Event()

    def publish(self, snapshot: view.Snapshot) -> None:
        """Replace the snapshot, sharing what did not change."""
        shared = {name: view.share(self.snapshot.get(name, {}), items) for name, items in snapshot.items()}
        if view.diff(self.snapshot, shared):
            self.snapshot = shared
            self._news.set()
            self._news = asyncio.Event()

    async def next(self, seen: view.Snapshot) -> view.Snapshot:
        """Return the snapshot once it is another than *seen*."""
        while self.snapshot is seen:
            await self._news.wait()
        return self.snapshot


class Watcher:
    """Reads through *engine* what there is, for ever, and publishes it in *feed*."""

    def __init__(self, engine: Engine, feed: Feed, say: Callable[[str], None] = print) -> None:
        self._engine = engine
        self._feed = feed
        self._say = say
        self._known: dict[str, view.Items] = {"nodes": {}, "services": {}, "tasks": {}}
        self._timeline = timeline.Timeline()
        self._status: dict[str, Any] = {"id": "engine", "ok": None, "problem": "", "remedy": "", "since": now_ms()}
        self._seen_before = False
        self._wake = asyncio.Event()
        self._dirty: set[str] = set()  # services whose tasks have to be read
        self._rest_is_due = False
        self._tasks_fingerprint = b""  # of all tasks when they were last read
        self._moving: dict[str, float] = {}  # service → until when its tasks are read often
        self._publish()

    async def run(self) -> None:
        """Follow the swarm; when that fails say why, and try again."""
        while True:
            try:
                await self._follow()
            except EngineError as error:
                self._lost(error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        await self._engine.connect()
        # The events first: what happens while the state is read must not be missed.
        listener = asyncio.create_task(self._listen())
        listener.add_done_callback(lambda _task: self._wake.set())
        try:
            await self._read_on(listener)
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def _listen(self) -> None:
        async for event in self._engine.events(_EVENTS):
            actor = event.get("Actor") or {}
            kind, key = event.get("Type"), actor.get("ID") or ""
            if kind == "container":
                key = (actor.get("Attributes") or {}).get(_SERVICE_LABEL) or ""
                if not key:
                    continue  # not the swarm's
            else:
                self._rest_is_due = True
            if kind in ("container", "service"):
                self._dirty.add(key)
            self._wake.set()
        raise EngineError("The engine ended its stream of events", "It may be starting anew: this goes on trying.")

    async def _read_on(self, listener: asyncio.Task[None]) -> None:
        all_due = rest_due = 0.0
        while True:
            started = time.monotonic()
            self._wake.clear()
            dirty, self._dirty = self._dirty, set()
            rest, self._rest_is_due = self._rest_is_due or started >= rest_due, False
            if rest:
                nodes, services = await self._all("nodes", view.node), await self._all("services", view.service)
            else:
                nodes, services = self._known["nodes"], self._known["services"]
            quick = {*dirty, *self._still_moving(started)} & services.keys()
            if started >= all_due or len(quick) > _FEW:
                tasks = await self._all_tasks()
                all_due = _next(CALM_SECONDS, started)
            elif quick:
                tasks = await self._tasks_of(quick)
            else:
                tasks = self._known["tasks"]
            if rest:
                rest_due = _next(REST_SECONDS, started)
            if rest or tasks is not self._known["tasks"]:
                self._learn(nodes, services, tasks, dirty)

            took = time.monotonic() - started
            pause = max(QUICK_SECONDS, _SHARE * took) if self._moving else all_due - time.monotonic()
            # An event does not wait for that.
            if pause > 0:
                await _wait(self._wake, min(pause, max(0.0, all_due - time.monotonic())))
            if listener.done():
                listener.result()
            await asyncio.sleep(max(_COALESCE_SECONDS, took if took > CALM_SECONDS else 0))

    async def _all(self, what: str, shown: Callable[[view.Item], view.Item]) -> view.Items:
        return {item["ID"]: shown(item) async for item in self._engine.items(what, {})}

    async def _all_tasks(self) -> view.Items:
        fingerprint, items = await self._engine.unless(self._tasks_fingerprint, "tasks")
        if items is None:
            return self._known["tasks"]
        tasks = {item["ID"]: view.task(item) async for item in items}
        self._tasks_fingerprint = fingerprint
        return tasks

    async def _tasks_of(self, services: set[str]) -> view.Items:
        others = {key: task for key, task in self._known["tasks"].items() if task["service"] not in services}
        try:
            found = {item["ID"]: view.task(item) async for item in self._engine.items("tasks", {"service": services})}
        except EngineError as error:
            if error.status != 404:
                raise
            self._rest_is_due = True  # one of them is being removed
            return await self._all_tasks()
        return {**others, **found}

    def _still_moving(self, now: float) -> set[str]:
        self._moving = {key: until for key, until in self._moving.items() if until > now}
        return set(self._moving)

    def _learn(self, nodes: view.Items, services: view.Items, tasks: view.Items, dirty: set[str]) -> None:
        new, now = {"nodes": nodes, "services": services, "tasks": tasks}, now_ms()
        if not self._status["ok"]:
            if self._seen_before:
                self._timeline.add(timeline.entry(now, "engine", "The manager answers again"))
            self._status = {"id": "engine", "ok": True, "problem": "", "remedy": "", "since": now}
            self._say(f"sees the swarm through {self._engine.socket}: {len(nodes)} nodes, {len(services)} services")
        if self._seen_before:
            happened = list(timeline.happenings(self._known, nodes, services, tasks, now))
        else:
            happened = timeline.earlier(nodes, services, tasks, now)
        for item in happened:
            self._timeline.add(item)
        changes = view.diff(self._known, new)
        changed = dirty | {task["service"] for task in (changes.get("tasks") or {}).values() if task}
        changed |= (changes.get("services") or {}).keys()
        if self._seen_before:
            self._moving |= dict.fromkeys(changed & services.keys(), time.monotonic() + _MOVING_SECONDS)
        self._known, self._seen_before = new, True
        self._publish()

    def _lost(self, error: EngineError) -> None:
        if self._status["ok"]:
            self._timeline.add(timeline.entry(now_ms(), "engine", error.problem, bad=True))
        since = self._status["since"] if self._status["ok"] is False else now_ms()
        status = {"id": "engine", "ok": False, "problem": error.problem, "remedy": error.remedy, "since": since}
        if status != self._status:
            self._status = status
            self._say(f"{error.problem}. {error.remedy}")
            self._publish()

    def _publish(self) -> None:
        now = now_ms()
        self._timeline.forget(now)
        composed = view.compose(self._known["nodes"], self._known["services"], self._known["tasks"], now)
        self._feed.publish({"status": {"engine": self._status}, **composed, "timeline": self._timeline.entries})


def _next(seconds: float, started: float) -> float:
    """Return when to do again what started then and is done now."""
    now = time.monotonic()
    return max(started + seconds, now + _SHARE * (now - started))


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A whole swarm through one of its managers: what there is, changes to it, and waiting until they have taken effect.

All waiting is for progress: it ends when nothing has moved for a while, not after a time that a slow machine may need.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils import placement
from ansible_collections.apiary.swarm.plugins.module_utils.convergence import is_ready
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import (
    CertificateRefused,
    Clock,
    Refused,
    change_node,
    change_service,
)
from ansible_collections.apiary.swarm.plugins.module_utils.docker_command import unlocking
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.placement import Lack, lack, name_of
from ansible_collections.apiary.swarm.plugins.module_utils.swarm import scrub
from ansible_collections.apiary.swarm.plugins.module_utils.swarm_node import (
    TIMEOUT_SECONDS,
    Connect,
    Engine,
)

Object = Mapping[str, Any]

#: argument spec of what is common to modules that work on a whole swarm
MANAGERS_SPEC: dict[str, Any] = {
    "managers": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"name": {"type": "str", "required": True}, "docker": {"type": "dict", "required": True}},
    },
    "timeout_seconds": {"type": "int", "default": 300},
}
POLL_SECONDS = 1.0
#: so long swarm may say that it finds no node for a task before it is believed
_STUCK_SECONDS = 20.0
#: so long a wait may be silent
_QUIET_SECONDS = 10.0
#: what a manager says that is about to be none, until another one leads
_DEMOTED = "not a swarm manager"


class Locked(ApiaryError):
    """A person has to unlock the swarm: to wait for it would not help."""


class Stalled(ApiaryError):
    """Nothing has moved for as long as the caller was willing to wait."""


@dataclass(frozen=True)
class Progress:
    """How far something is that is waited for."""

    done: bool
    #: grows as it comes nearer
    measure: int = 0
    #: what is still missing, in words
    told: str = ""
    #: why swarm will not go on by itself, where it has said so
    stuck: str = ""


@dataclass(frozen=True)
class View:
    """What a manager says at one moment."""

    nodes: Sequence[Object]
    services: Sequence[Object]
    tasks: Sequence[Object]

    def node(self, node_id: str) -> Object:
        return next(node for node in self.nodes if node["ID"] == node_id)

    def service(self, service_id: str) -> Object | None:
        return next((service for service in self.services if service["ID"] == service_id), None)

    def lacks(self, names: Collection[str]) -> dict[str, Lack]:
        """Return what services of these names are short of; those that lack nothing are left out."""
        found = {
            name_of(service): lack(service, self.tasks, self.nodes)
            for service in self.services
            if name_of(service) in names
        }
        return {name: short for name, short in sorted(found.items()) if short.missing}

    def tasks_on(self, node_id: str) -> list[Object]:
        """Return the tasks whose containers run on the node, as far as it can be asked."""
        if not is_ready(self.node(node_id)):
            return []
        return [task for task in self.tasks if placement.runs_on(task, node_id)]


@dataclass
class Settings:
    """How things are done, whatever they are."""

    connect: Connect
    timeout_seconds: float = 300
    check_mode: bool = False
    say: Callable[[str], None] = lambda text: None
    clock: Any = Clock


class Swarm:
    """A swarm, through one of its managers."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine = engine
        self.settings = settings

    def look(self) -> View:
        ask, api = self.engine.ask, self.engine.api
        return View(
            ask("list the nodes", api.nodes), ask("list the services", api.services), ask("list the tasks", api.tasks)
        )

    def change_node(self, node_id: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the spec of a node; start again from its newest version when somebody else wrote it in between."""
        self.engine.ask(f"update node {node_id}", change_node, self.engine.api, node_id, change)

    def change_service(self, service_id: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the spec of a service, and nothing else of it."""
        self.engine.ask("update a service", change_service, self.engine.api, service_id, change)

    def wait(self, what: str, look: Callable[[View], Progress]) -> View:
        """Look until it is done, and return the last view; Stalled when nothing moves any more."""
        clock = self.settings.clock
        best, moved_at, stuck_since, told_at, told = None, clock.now(), None, clock.now(), ""
        while True:
            try:
                view = self.look()
                progress = look(view)
            except ApiaryError as error:  # while managers choose a leader, or have too much to do
                if not error.may_pass and _DEMOTED not in str(error):
                    raise
                progress = Progress(done=False, measure=best or 0, told=str(error))
            if progress.done:
                return view
            now = clock.now()
            if best is None or progress.measure > best:
                best, moved_at = progress.measure, now
            stuck_since = (stuck_since or now) if progress.stuck else None
            if stuck_since is not None and now - stuck_since >= _STUCK_SECONDS:
                raise Stalled(f"{what} cannot end: {progress.told} ({progress.stuck})")
            if now - moved_at >= self.settings.timeout_seconds:
                raise Stalled(
                    f"{what} has made no progress for {self.settings.timeout_seconds:g} seconds: {progress.told}"
                )
            if now - told_at >= _QUIET_SECONDS and progress.told != told:
                self.settings.say(f"{what}: {progress.told}")
                told_at, told = now, progress.told
            clock.sleep(POLL_SECONDS)


@contextmanager
def swarm_of(managers: Iterable[Mapping[str, Any]], settings: Settings, avoid: str = "") -> Iterator[Swarm]:
    """Yield the swarm, through the first of *managers* that answers for one; the one called *avoid* is not asked."""
    reasons, locked = [], []
    refused = False
    with ExitStack() as stack:
        for manager in managers:
            if manager["name"] == avoid or not (manager.get("docker") or {}).get("docker_host"):
                continue
            try:
                engine = open_engine(manager["name"], manager["docker"], settings, stack)
                engine.swarm()
            except ApiaryError as error:
                reasons.append(f"{manager['name']}: {scrub(str(error))}")
                refused = refused or isinstance(error, CertificateRefused)
                if isinstance(error, Refused) and error.is_locked:
                    locked.append(manager)
                continue
            yield Swarm(engine, settings)
            return
    told = "; ".join(reasons) or "the inventory names no other manager that could be asked"
    if refused:
        raise CertificateRefused(f"no manager answers for the swarm: {told}")
    if locked:
        raise Locked(f"no manager answers for the swarm: {unlocking(locked[0]['name'], locked[0]['docker'])} [{told}]")
    raise ApiaryError(
        f"no manager answers for the swarm: {told}. Start the managers (playbooks/start.yml); without a majority of "
        "them a swarm cannot be changed"
    )


def open_engine(name: str, docker: Object, settings: Settings, stack: ExitStack) -> Engine:
    api = stack.enter_context(settings.connect(docker, timeout_seconds=TIMEOUT_SECONDS))
    return Engine(name, docker, api)


def told_lacks(lacks: Mapping[str, Lack]) -> str:
    """Return in words what services are short of."""
    words = [
        f"{name} lacks {short.missing} of its tasks" + (f" ({short.coming} on their way)" if short.coming else "")
        for name, short in lacks.items()
    ]
    return "; ".join(words)


def all_in_place(lacks: Mapping[str, Lack], remaining: int = 0, where: str = "") -> Progress:
    """Return how far services are from lacking nothing, and *remaining* tasks *where* from being gone."""
    told = [told_lacks(lacks)] if lacks else []
    told += [f"{remaining} tasks still run on {where}"] if remaining else []
    reasons = sorted({short.reason for short in lacks.values() if short.is_stuck})
    is_stuck = bool(lacks) and not remaining and all(short.is_stuck for short in lacks.values())
    return Progress(
        done=not lacks and not remaining,
        measure=-sum(short.missing for short in lacks.values()) - remaining,
        told="; ".join(told),
        stuck="; ".join(reasons) if is_stuck else "",
    )

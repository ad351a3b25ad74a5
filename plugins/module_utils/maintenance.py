# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take a node out of its swarm's work, for a while or for good, and give it back, over the Docker API.

The availability that a node is to have again is kept in the swarm, as a label of the node, so that a run that was
interrupted can be finished.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from ansible.utils.display import Display

from ansible_collections.apiary.swarm.plugins.module_utils import placement
from ansible_collections.apiary.swarm.plugins.module_utils.convergence import is_ready
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import CertificateRefused, Refused, connect
from ansible_collections.apiary.swarm.plugins.module_utils.docker_command import docker_command, unlocking
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.placement import name_of
from ansible_collections.apiary.swarm.plugins.module_utils.rebalance import Rebalance
from ansible_collections.apiary.swarm.plugins.module_utils.swarm import (
    REMEMBERED_LABEL,
    Membership,
    differ,
    host_of,
    hostname,
    node_addr,
    scrub,
)
from ansible_collections.apiary.swarm.plugins.module_utils.swarm_node import Engine
from ansible_collections.apiary.swarm.plugins.module_utils.swarm_view import (
    POLL_SECONDS,
    Locked,
    Progress,
    Settings,
    Stalled,
    Swarm,
    View,
    all_in_place,
    open_engine,
    swarm_of,
)

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Subject:
    """The node that something is done to, by what the inventory knows of it."""

    name: str
    docker: Object = field(default_factory=dict)
    address: str = ""
    #: whether *docker* follows from the name alone, so that another machine may be there
    guessed: bool = False
    #: whether the machine outlives its place in the swarm, with what is on it
    stays: bool = False


class Care:
    """What can be done to one node: drain it, give it back its work, take it out of the swarm."""

    def __init__(self, subject: Subject, managers: Sequence[Mapping[str, Any]], settings: Settings) -> None:
        self.subject = subject
        self.managers = managers
        self.settings = settings
        self.actions: list[str] = []
        self.warnings: list[str] = []
        self.manager = ""
        self.connections = ExitStack()

    def _act(self, action: str) -> None:
        self.actions.append(action)
        self.settings.say(f"would {action}" if self.settings.check_mode else action)

    # Who it is

    def _own(self) -> tuple[Engine | None, Membership | None, str]:
        """Return the node's own engine and what it says of its membership, or why it cannot be asked."""
        if not self.subject.docker.get("docker_host"):
            return None, None, "it is not known how it is reached"
        try:
            engine = open_engine(self.subject.name, self.subject.docker, self.settings, self.connections)
            own = engine.membership()
        except ApiaryError as error:
            return None, None, scrub(str(error))
        if self.subject.guessed and own.hostname != self.subject.name:
            return None, None, f"what answers at {engine.host} is {own.hostname}"
        return engine, own, ""

    def _identified(self, view: View, own: Membership | None) -> Object | None:
        """Return the node's entry: what its engine says it is, or what has its name, its ID or its address."""
        for node in view.nodes:
            if own and own.node_id == node["ID"]:
                return node
        name, address = self.subject.name, self.subject.address
        found = [node for node in view.nodes if name in (node["ID"], hostname(node))]
        found = found or [node for node in view.nodes if address and node_addr(node) == address]
        if len(found) > 1:
            found = [node for node in found if is_ready(node)] or found
        if len(found) > 1:
            told = ", ".join(f"{node['ID']} at {node_addr(node)}" for node in found)
            raise ApiaryError(f"{len(found)} nodes of the swarm are called {name}: {told}. Give the ID of one as node")
        return found[0] if found else None

    # Away for a while

    def drained(self) -> dict[str, Any]:
        """Move its tasks elsewhere, and remember how it was."""
        with self.connections, swarm_of(self.managers, self.settings, self._avoided()) as swarm:
            self.manager = swarm.engine.name
            _engine, own, _why = self._own()
            view = swarm.look()
            node = self._identified(view, own)
            if node is None:
                return self._result(None)
            managers = [other for other in view.nodes if other["Spec"].get("Role") == "manager"]
            risk = placement.quorum_risk(view.nodes, node["ID"])
            if risk and len(managers) > 2:
                raise ApiaryError(
                    f"{self.subject.name} is needed: {risk}, and without a majority the swarm takes no changes. Bring "
                    "the other managers back first (playbooks/start.yml)"
                )
            self._drain(swarm, view, node, "away for a while")
            return self._result(node["ID"])

    def _avoided(self) -> str:
        """Return the name of the manager not to work through: the node itself, unless it is the only one."""
        return self.subject.name if any(other["name"] != self.subject.name for other in self.managers) else ""

    def _drain(self, swarm: Swarm, view: View, node: Object, why: str) -> None:
        node_id, labels = node["ID"], node["Spec"].get("Labels") or {}
        is_drained = node["Spec"].get("Availability") == "drain" and REMEMBERED_LABEL in labels
        pinned = {name_of(service) for service in view.services if placement.is_pinned(service, view.nodes, node_id)}
        whole = {name_of(service) for service in view.services} - set(view.lacks([*map(name_of, view.services)]))
        here = {task["ServiceID"] for task in view.tasks_on(node_id)}
        concerned = whole | {name_of(service) for service in view.services if service["ID"] in here}
        if is_drained:  # by a run that was interrupted, so that what lacks tasks may do so for its sake
            concerned = {name_of(service) for service in view.services}
        crowded = [
            name_of(service)
            for service in view.services
            if placement.is_crowded(service, view.tasks, view.nodes, node_id)
        ]
        if not is_drained:
            self._told_pinned(pinned & concerned, why)
            spreading = Rebalance(swarm)
            if crowded:
                spreading.run(crowded)
                self.actions += spreading.actions
            self._act(f"drain {self.subject.name}")
        if self.settings.check_mode:
            return
        if not is_drained:
            swarm.change_node(node_id, _drained)
        try:
            swarm.wait(
                f"moving the tasks of {self.subject.name} elsewhere",
                lambda view: all_in_place(
                    view.lacks(concerned - pinned), len(view.tasks_on(node_id)), self.subject.name
                ),
            )
        except Stalled as stall:
            if is_drained:
                raise
            swarm.change_node(node_id, _given_back)
            raise Stalled(f"{stall}. {self.subject.name} takes tasks again as before: nothing else was done") from None

    def _told_pinned(self, pinned: Iterable[str], why: str) -> None:
        for name in sorted(pinned):
            self.warnings.append(f"{name} can run on {self.subject.name} alone: it is {why}, as its node is")

    # Back

    def restored(self) -> dict[str, Any]:
        """Wait until the node works again, give it the availability that it had, and wait for its tasks."""
        with self.connections:
            engine, own, why = self._own()
            if own is not None and own.state == "inactive":
                return self._result(None)
            if own is None and self.settings.check_mode:
                return self._result(None)
            if engine is None:
                raise ApiaryError(f"{self.subject.name} does not answer: {why}")
            if own is not None and own.state == "locked":
                raise Locked(unlocking(self.subject.name, engine.docker))
            if self.settings.check_mode and own is not None and own.state != "active":
                return self._result(None)
            swarm = self._found_swarm()
            self.manager = swarm.engine.name
            view, node = self._ready(swarm, engine)
            labels = node["Spec"].get("Labels") or {}
            if REMEMBERED_LABEL in labels:
                self._act(f"set availability {labels[REMEMBERED_LABEL]}")
                if not self.settings.check_mode:
                    self._give_back(swarm, view, node)
            elif not self.settings.check_mode:
                self._served(swarm, view)
            if self.subject.address and differ(node_addr(node), self.subject.address):
                self.warnings.append(
                    f"{self.subject.name} is known to its swarm as {node_addr(node)}, and has {self.subject.address}: "
                    "an address is given when a node joins. playbooks/remove_node.yml and then site.yml have it join "
                    "anew"
                )
            return self._result(node["ID"])

    def _give_back(self, swarm: Swarm, view: View, node: Object) -> None:
        """Give the node its availability; a paused one had tasks, which it would not get again."""
        if node["Spec"]["Labels"][REMEMBERED_LABEL] == "pause":
            swarm.change_node(node["ID"], _active)
            self._served(swarm, view)
        swarm.change_node(node["ID"], _given_back)
        self._served(swarm, view)

    def _found_swarm(self) -> Swarm:
        """Return the swarm once a manager answers for it: after a start, managers have to find each other first."""
        clock = self.settings.clock
        deadline = clock.now() + self.settings.timeout_seconds
        while True:
            try:
                return self.connections.enter_context(swarm_of(self.managers, self.settings))
            except (CertificateRefused, Locked):
                raise
            except ApiaryError:
                if self.settings.check_mode or clock.now() >= deadline:
                    raise
            clock.sleep(POLL_SECONDS)

    def _ready(self, swarm: Swarm, engine: Engine) -> tuple[View, Object]:
        """Wait until the swarm lists the node as ready, and as reachable where it is a manager."""
        found: list[Object] = []

        def look(view: View) -> Progress:
            own = engine.membership()
            node = next((node for node in view.nodes if node["ID"] == own.node_id), None)
            if node is None:
                raise ApiaryError(
                    f"{self.subject.name} is no node of the swarm of {swarm.engine.name}: its engine says that it is "
                    f"node {own.node_id or '(none)'}, {own.state}. playbooks/swarm.yml says what is to be done"
                )
            found[:] = [node]
            manager = node.get("ManagerStatus") or {}
            is_back = is_ready(node) and own.state == "active"
            is_back = is_back and (not manager or manager.get("Reachability") == "reachable")
            state = f"{node['Status'].get('State')}, {manager.get('Reachability') or 'a worker'}, {own.state}"
            return Progress(is_back, told=f"it is {state}")

        view = swarm.wait(f"waiting for {self.subject.name}", look)
        return view, found[0]

    def _served(self, swarm: Swarm, view: View) -> None:
        """Wait until every service has its tasks; what no node can take is told, as a node's return cannot mend it."""
        names = {name_of(service) for service in view.services}
        try:
            swarm.wait(
                f"waiting for the tasks after the return of {self.subject.name}",
                lambda view: all_in_place(view.lacks(names)),
            )
        except Stalled:
            lacks = swarm.look().lacks(names)
            if not all(short.is_stuck for short in lacks.values()):
                raise
            self.warnings += [f"{name} lacks tasks: {short.reason}" for name, short in lacks.items()]

    # Away for good

    def left(self, *, data_loss_confirmed: bool) -> dict[str, Any]:
        """Have it drained, demoted, out of the swarm and off its list; refuse what would lose quorum or data."""
        with self.connections:
            engine, own, why = self._own()
            try:
                with swarm_of(self.managers, self.settings, self.subject.name) as swarm:
                    self.manager = swarm.engine.name
                    return self._left(swarm, engine, own, why, data_loss_confirmed=data_loss_confirmed)
            except ApiaryError as error:
                if own is None or not own.control or not str(error).startswith("no manager answers"):
                    raise
                raise ApiaryError(
                    f"nothing was changed: {self.subject.name} is the only manager that answers, and without it there "
                    "would be no swarm. Let another manager join first (a host in the group managers of the inventory, "
                    "playbooks/site.yml), or remove the whole cluster: playbooks/destroy.yml"
                ) from error

    def _left(
        self, swarm: Swarm, engine: Engine | None, own: Membership | None, why: str, *, data_loss_confirmed: bool
    ) -> dict[str, Any]:
        view = swarm.look()
        node = self._identified(view, own)
        if engine and own and node and own.node_id not in ("", node["ID"]):
            why = f"what answers at {engine.host} is another node"
            engine, own = None, None
        volumes = self._volumes(engine)
        if node is None:
            data = self._data("", view, volumes)
            self._refused(self._data_refusal(data) if not data_loss_confirmed else [])
            if engine and own and own.state != "inactive":
                self._leave(engine, force=True)
            return self._result(None)
        self._refused(self._refusals(view, node, volumes, data_loss_confirmed=data_loss_confirmed))
        self._drain(swarm, view, node, "gone")
        if node["Spec"].get("Role") == "manager":
            self._demote(swarm, node["ID"], engine)
        if engine and own and own.state != "inactive":
            self._leave(engine)
        elif engine is None and is_ready(node):
            self.warnings.append(
                f"{self.subject.name} could not be told that it has left, as {why}: if it still runs, have its engine "
                f"leave: {self._own_command('swarm', 'leave', '--force')}"
            )
        self._act(f"remove {self.subject.name} from the list of nodes")
        if not self.settings.check_mode:
            self._strike(swarm, node["ID"])
        return self._result(node["ID"])

    def _own_command(self, *arguments: str) -> str:
        """The line with which a person does *arguments*: from here, where the way is known, or on the node itself."""
        known = bool(self.subject.docker.get("docker_host")) and not self.subject.guessed
        return docker_command(self.subject.docker, *arguments) if known else shlex.join(["docker", *arguments])

    def _volumes(self, engine: Engine | None) -> list[Object] | None:
        if engine is None:
            return None
        found: list[Object] = engine.ask("list its volumes", engine.api.volumes)["Volumes"] or []
        return found

    def _data(self, node_id: str, view: View, volumes: Iterable[Object] | None) -> list[placement.Data]:
        """Return what would be lost with the node: what no service uses, only if its machine goes too."""
        found = placement.data_on(node_id, view.services, view.tasks, volumes)
        return [data for data in found if data.service or not self.subject.stays]

    def _refusals(
        self, view: View, node: Object, volumes: Iterable[Object] | None, *, data_loss_confirmed: bool
    ) -> list[str]:
        name, node_id = self.subject.name, node["ID"]
        problems = []
        if risk := placement.quorum_risk(view.nodes, node_id):
            problems.append(
                f"{name} is a manager, and {risk}: should it break half-way, the swarm could not be changed any more. "
                "Bring the others back, or let another manager join first. If there are to be fewer managers, move it "
                "to the group workers of the inventory and run playbooks/swarm.yml, which demotes it; then remove it"
            )
        others = [other for other in view.nodes if other["ID"] != node_id and placement.takes_tasks(other)]
        here = {task["ServiceID"] for task in view.tasks_on(node_id)}
        if here and not others:
            problems.append(f"{name} has tasks, and no other node is there that takes some: see docker node ls")
        if data_loss_confirmed:
            return problems
        for service in view.services:
            if others and placement.is_pinned(service, view.nodes, node_id):
                rules = " and ".join(placement.constraints(service))
                problems.append(
                    f"the service {name_of(service)} can run on {name} alone ({rules}): let its template allow another "
                    "node, or confirm with -e remove_node_data_loss_confirmed=true that it need not run"
                )
        return problems + self._data_refusal(self._data(node_id, view, volumes))

    def _data_refusal(self, data: Sequence[placement.Data]) -> list[str]:
        if not data:
            return []
        return [
            f"{self.subject.name} has the only copy of {', '.join(map(str, data))}: save it, then confirm with "
            "-e remove_node_data_loss_confirmed=true"
        ]

    def _refused(self, problems: Sequence[str]) -> None:
        if problems:
            raise ApiaryError("nothing was changed: " + "\n".join(problems))

    def _demote(self, swarm: Swarm, node_id: str, engine: Engine | None) -> None:
        self._act(f"demote {self.subject.name} to a worker")
        if self.settings.check_mode:
            return
        swarm.change_node(node_id, lambda spec: spec.update(Role="worker"))

        def look(view: View) -> Progress:
            is_worker = not view.node(node_id).get("ManagerStatus") and not (engine and engine.membership().control)
            return Progress(is_worker, told="it still acts as a manager")

        swarm.wait(f"demoting {self.subject.name}", look)

    def _leave(self, engine: Engine, *, force: bool = False) -> None:
        self._act(f"have {self.subject.name} leave the swarm")
        if self.settings.check_mode:
            return
        try:
            engine.ask("leave the swarm", engine.api.leave_swarm, force=force)
        except Refused as refusal:
            if engine.membership().state != "inactive":
                raise ApiaryError(f"{refusal}. Run this again") from None

    def _strike(self, swarm: Swarm, node_id: str) -> None:
        """Remove the node's entry; a manager that was demoted leaves the managers' log a moment later."""

        def look(view: View) -> Progress:
            if all(node["ID"] != node_id for node in view.nodes):
                return Progress(done=True)
            try:
                swarm.engine.ask(f"remove node {node_id}", swarm.engine.api.remove_node, node_id, force=True)
            except Refused as refusal:
                passing = ("must be demoted", "is a cluster manager", "member of the raft cluster")
                if not any(reason in str(refusal) for reason in passing):
                    raise
                return Progress(done=False, told=str(refusal))
            return Progress(done=True)

        swarm.wait(f"removing {self.subject.name} from the list of nodes", look)

    def _result(self, node_id: str | None) -> dict[str, Any]:
        return {
            "changed": bool(self.actions),
            "actions": self.actions,
            "warnings": self.warnings,
            "node_id": node_id,
            "manager": self.manager,
        }


def _drained(spec: dict[str, Any]) -> None:
    labels = dict(spec.get("Labels") or {})
    labels.setdefault(REMEMBERED_LABEL, str(spec.get("Availability") or "active"))
    spec["Labels"], spec["Availability"] = labels, "drain"


def _active(spec: dict[str, Any]) -> None:
    spec["Availability"] = "active"


def _given_back(spec: dict[str, Any]) -> None:
    labels = dict(spec.get("Labels") or {})
    spec["Availability"] = labels.pop(REMEMBERED_LABEL, spec.get("Availability"))
    spec["Labels"] = labels


def settings(params: Mapping[str, Any], *, check_mode: bool) -> Settings:
    """Return the settings of an action plugin's task."""
    return Settings(
        connect,
        timeout_seconds=params["timeout_seconds"],
        check_mode=check_mode,
        say=lambda text: Display().display(f"  {text}"),
    )


@dataclass(frozen=True)
class Survey:
    """Who is there: of the hosts of the inventory, and besides."""

    #: the manager that was asked; none where no manager answers
    manager: str
    order: list[str]
    ready: list[str]
    absent: list[str]
    strangers: list[str]
    why: str = ""
    #: whether none answers because certificates are refused, which no start of a machine mends
    refused: bool = False


def survey(hosts: Mapping[str, str], managers: Sequence[Mapping[str, Any]], settings: Settings) -> Survey:
    """Return which *hosts* (name → address) are nodes, and in which order they are to be taken care of."""
    names = [manager["name"] for manager in managers]
    fallback = [name for name in hosts if name not in names] + [name for name in reversed(names) if name in hosts]
    try:
        with swarm_of(managers, settings) as swarm:
            nodes = swarm.engine.ask("list the nodes", swarm.engine.api.nodes)
            asked = swarm.engine.name
    except ApiaryError as error:
        return Survey("", fallback, [], list(hosts), [], str(error), isinstance(error, CertificateRefused))
    by_node = {node["ID"]: host for node in nodes if (host := host_of(node, hosts))}
    ordered = [by_node[node_id] for node_id in placement.caring_order(nodes) if node_id in by_node]
    return Survey(
        asked,
        [name for name in fallback if name not in ordered] + ordered,
        [by_node[node["ID"]] for node in nodes if node["ID"] in by_node and is_ready(node)],
        [name for name in hosts if name not in ordered],
        sorted(hostname(node) for node in nodes if node["ID"] not in by_node),
    )

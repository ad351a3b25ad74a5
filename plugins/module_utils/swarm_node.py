# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a node to its place in a swarm over the Docker API: read once, act on the difference.

Facts of the engine that shape this file (Docker 20.10, also true of later ones):

- ``GET /info`` costs about 0.2 s on an emulated machine, ``GET /swarm`` and ``GET /nodes`` 0.02 s each. So a node is
  asked for its info once, and a manager for its swarm, not for its info.
- A worker's info holds its node ID but no cluster ID, so membership is proven by a manager that knows the node ID.
- A manager takes up to 20 s to say that its swarm has no leader.

Join tokens live in variables of ``_join`` alone: no message is made from them, and what engines say is scrubbed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from ansible_collections.apiary.swarm.plugins.module_utils.address_pools import choose, unheeded
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import (
    FAILURES,
    OUTDATED,
    UPDATE_TRIES,
    Clock,
    Refused,
    explained,
)
from ansible_collections.apiary.swarm.plugins.module_utils.docker_command import docker_command, from_one, unlocking
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.swarm import (
    CLUSTER_LABEL,
    Membership,
    Seen,
    Wanted,
    differ,
    ghosts,
    keeps_quorum,
    may_create,
    membership,
    merged_labels,
    node_addr,
    scrub,
    spec_changes,
    told,
    with_port,
)

#: how long an engine may take to answer
TIMEOUT_SECONDS = 45

Connect = Callable[..., AbstractContextManager[Any]]
Answer = TypeVar("Answer")


class Engine:
    """An open connection to one engine. Every failure names the engine, what was tried and what came back."""

    def __init__(self, name: str, docker: Mapping[str, Any], api: Any) -> None:
        self.name = name
        self.docker = docker
        self.host = str(docker["docker_host"])
        self.api = api

    def command(self, *arguments: str) -> str:
        """The line with which a person does *arguments* with it."""
        return docker_command(self.docker, *arguments)

    def ask(self, what: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except FAILURES as error:
            told = explained(error, self.host, self.name, what)
            told.args = (scrub(str(told)),)
            raise told from None

    def membership(self) -> Membership:
        return membership(self.ask("describe itself", self.api.info))

    def swarm(self) -> dict[str, Any]:
        """The cluster, with its tokens; Refused unless this engine is a manager with a leader."""
        cluster: dict[str, Any] = self.ask("describe its swarm", self.api.inspect_swarm)
        return cluster

    def nodes(self, **filters: str) -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = self.ask("list the nodes", self.api.nodes, filters=filters)
        return nodes

    def node(self, node_id: str) -> dict[str, Any] | None:
        """The node, or None when this manager's swarm has no such node."""
        try:
            node: dict[str, Any] = self.ask(f"describe node {node_id}", self.api.inspect_node, node_id)
        except Refused as error:
            if error.status == 404:
                return None
            raise
        return node

    def update(self, node: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
        self.ask(f"update node {node['ID']}", self.api.update_node, node["ID"], node["Version"]["Index"], dict(spec))

    def remove(self, node_id: str) -> None:
        self.ask(f"remove node {node_id}", self.api.remove_node, node_id)


@dataclass
class Manager:
    """A manager that leads or knows its leader: the engine to ask about the swarm, its ID, and its address pools."""

    engine: Engine
    cluster_id: str
    pools: Sequence[str] = ()
    subnet_size: int = 0

    @classmethod
    def of(cls, engine: Engine) -> Manager:
        """Ask *engine*, which refuses unless it is one."""
        cluster = engine.swarm()
        return cls(engine, cluster["ID"], cluster.get("DefaultAddrPool") or (), cluster.get("SubnetSize") or 0)


class SwarmNode:
    """Brings about that one node has its place in the swarm. ``ensure`` is the whole of it."""

    def __init__(
        self,
        wanted: Wanted,
        connect: Connect,
        check_mode: bool = False,
        say: Callable[[str], None] = lambda text: None,
        clock: Any = Clock,
    ) -> None:
        self.wanted = wanted
        self.name = wanted.name
        self.host = wanted.host
        self.connect = connect
        self.check_mode = check_mode
        self.say = say
        self.clock = clock
        self.actions: list[str] = []
        self.warnings: list[str] = []
        #: of a swarm that is created: what its networks get their addresses from, where it is not the engine's own
        self.pools: list[str] = []
        self.subnet_size = 0
        self.connections = ExitStack()

    def ensure(self) -> dict[str, Any]:
        """Read, compare, change. Return the result of the module ``swarm_node`` with ``before`` and ``after``."""
        # Values that no engine would take are refused before anything is changed.
        merged_labels({}, self.wanted.labels, purge=True)
        with self.connections:
            try:
                own = self._open(self.name, self.wanted.docker)
                here = own.membership()
            except ApiaryError as error:
                if self.check_mode:
                    return self._foretold(f"{self.name} cannot be asked yet ({scrub(str(error))})")
                raise
            here = self._settled(own, here)
            joined = here.state == "inactive"
            if joined:
                manager = self._entered(own)
                if manager is None:
                    return self._foretold(f"{self.name} is in no swarm")
                here = self._settled(own, own.membership(), newcomer=True)
            else:
                manager = self._proven(own, here)
            return self._conformed(own, manager, here, joined)

    # Membership

    def _settled(self, own: Engine, here: Membership, newcomer: bool = False) -> Membership:
        """Return *here* once it is inactive or active; a state that only a person can end is an error."""
        name = self.name
        if here.state == "pending":
            if here.node_id and not newcomer:
                manager, _seen = self._found(wait=False)
                if manager and manager.engine.node(here.node_id) is None:
                    raise self._stranger(here, manager)
            here = self._waited(
                "until its engine has found the swarm again" if not newcomer else "until it has joined",
                lambda: None if (now := own.membership()).state == "pending" else now,
                lambda: (
                    f"Its engine says: {own.membership().error or 'nothing'}. The managers it tries to reach are "
                    f"{', '.join(here.remote_managers) or 'unknown'}: 2377/tcp must be open between the nodes. If "
                    f"these are managers of a swarm that is gone, take the node out of it: "
                    f"{own.command('swarm', 'leave', '--force')}"
                ),
            )
        if here.state in ("inactive", "active"):
            return here
        if here.state == "locked":
            raise ApiaryError(unlocking(name, self.wanted.docker))
        raise ApiaryError(
            f"{name} has lost its place in its swarm (state {here.state}): "
            f"{here.error or 'its engine does not say why'}. Repair what that names; or, to let it join anew, take "
            f"it out: {own.command('swarm', 'leave', '--force')}"
        )

    def _found(self, wait: bool = True) -> tuple[Manager | None, list[Seen]]:
        """Return the first other manager of the inventory that answers for a swarm, and what those before it are."""
        seen: list[Seen] = []

        def look() -> Manager | bool | None:
            seen.clear()
            for peer in self.wanted.peers():
                with ExitStack() as attempt:
                    try:
                        engine = self._open(peer["name"], peer["docker"], attempt)
                        manager = self._asked(engine, seen)
                    except ApiaryError as error:
                        seen.append(Seen(peer["name"], "unreachable", detail=scrub(str(error))))
                        continue
                    if manager:
                        self.connections.push(attempt.pop_all())
                        return manager
            return None if wait and any(manager.transient for manager in seen) else False

        answer = self._polled("for a manager that answers for the swarm", look)
        return (answer if isinstance(answer, Manager) else None), seen

    @staticmethod
    def _asked(engine: Engine, seen: list[Seen]) -> Manager | None:
        """Return *engine* as a manager, or note in *seen* what it is."""
        try:
            return Manager.of(engine)
        except Refused as refusal:
            state = engine.membership()
            leaderless = state.state == "active" and state.control
            detail = state.error or (str(refusal) if leaderless else "")
            seen.append(Seen(engine.name, state.state, state.control, detail, state.addr))
            return None

    def _entered(self, own: Engine) -> Manager | None:
        """Join the swarm, or create it. Return a manager of it; None in check mode, with the actions foretold."""
        wanted = self.wanted
        manager, seen = self._found()
        if manager:
            self.actions.append(f"join as {wanted.role}")
            if self.check_mode:
                return None
            self._join(own, manager)
            return manager
        if self.check_mode and all(peer.state in ("inactive", "unreachable") for peer in seen):
            if wanted.create and may_create(seen):
                self.actions.append(self._creation())
            return None
        if locked := next((peer for peer in seen if peer.state == "locked"), None):
            what = "will not create a swarm" if wanted.create else "cannot join"
            remedy = unlocking(locked.name, self._endpoint_of(locked))
            raise ApiaryError(f"{self.name} {what} while {locked.name} is locked. {remedy}")
        if not wanted.create:
            leaderless = [peer for peer in seen if peer.state == "active" and peer.control]
            raise ApiaryError(
                f"{self.name} cannot join: no manager of the inventory answers for a swarm: {told(seen)}. "
                + (
                    "A swarm without a majority of its managers takes no node in: start the other managers; if they "
                    f"are lost for good, go on from {leaderless[0].name} alone: "
                    + from_one(self._endpoint_of(leaderless[0]), leaderless[0].addr)
                    if leaderless
                    else "Run playbooks/site.yml, which starts the machines and creates the swarm on the first manager."
                )
            )
        if not may_create(seen):
            raise ApiaryError(
                f"{self.name} will not create a swarm while another manager may hold one, since two swarms would "
                f"result: {told(seen)}. Bring those managers back, or take them out of the inventory or of their swarm "
                "(docker swarm leave --force on them), and run again."
            )
        self.actions.append(self._creation())
        own.ask(
            "create the swarm",
            own.api.init_swarm,
            advertise_addr=wanted.advertise_address,
            listen_addr=with_port(wanted.listen_address or wanted.advertise_address),
            data_path_addr=wanted.data_path_address,
            default_addr_pool=self.pools or None,
            subnet_size=self.subnet_size if self.pools else None,
            # what is not in it has the engine's default
            swarm_spec={"Labels": {CLUSTER_LABEL: wanted.cluster}} if wanted.cluster else None,
        )
        return Manager.of(own)

    def _endpoint_of(self, manager: Seen) -> Mapping[str, Any]:
        return next(peer["docker"] for peer in self.wanted.peers() if peer["name"] == manager.name)

    def _creation(self) -> str:
        """Choose the address pools of a swarm that is to be created, and return that action in words."""
        wanted = self.wanted
        self.pools, self.subnet_size = choose(wanted.address_pools, wanted.address_pool_prefix, wanted.networks)
        where = f" with networks of /{self.subnet_size} from {', '.join(self.pools)}" if self.pools else ""
        return f"create the swarm{where}"

    def _join(self, own: Engine, manager: Manager) -> None:
        wanted = self.wanted
        theirs = manager.engine.membership()
        # Engines use the first address only; the one of the manager that just answered is the likeliest to work.
        addresses = list(theirs.remote_managers) or [with_port(theirs.addr)]
        tokens = manager.engine.swarm()["JoinTokens"]
        try:
            own.ask(
                f"join the swarm at {addresses[0]}",
                own.api.join_swarm,
                remote_addrs=addresses,
                join_token=tokens[wanted.role.capitalize()],
                listen_addr=with_port(wanted.listen_address or wanted.advertise_address),
                advertise_addr=wanted.advertise_address,
                data_path_addr=wanted.data_path_address,
            )
        except Refused as refusal:
            # The engine stops waiting after 20 s but goes on trying: then it is pending, and waited for.
            if "Timeout was reached" not in str(refusal):
                raise ApiaryError(
                    f"{refusal}. Between the nodes these ports must be open: 2377/tcp, 7946/tcp and udp, 4789/udp."
                ) from None

    def _proven(self, own: Engine, here: Membership) -> Manager:
        """Prove that this node, a member, is in the swarm of the inventory. Return a manager to work through."""
        if here.control:
            itself = self._waited(
                "until its swarm has a leader",
                lambda: self._leading(own),
                lambda: (
                    f"Its engine says: {own.membership().error or 'nothing'}. Without a majority of its managers a "
                    "swarm cannot change: start the other managers; if they are lost for good, go on from "
                    f"{self.name} alone: {from_one(own.docker, self.wanted.advertise_address)}"
                ),
            )
            manager, seen = self._found(wait=False)
            if manager and manager.cluster_id != itself.cluster_id:
                raise ApiaryError(
                    f"{self.name} manages the swarm {itself.cluster_id}, but {manager.engine.name} manages another "
                    f"one, {manager.cluster_id}. No node leaves a swarm silently: take the node that is wrong out of "
                    f"its swarm, where what runs there is lost, and run this again. Either "
                    f"{own.command('swarm', 'leave', '--force')} or "
                    f"{manager.engine.command('swarm', 'leave', '--force')}"
                )
            if self.wanted.role == "worker" and not manager:
                raise ApiaryError(
                    f"{self.name} cannot be demoted to a worker: no manager of the inventory would be left in its "
                    f"swarm {itself.cluster_id} ({told(seen)}). Let another manager join first."
                )
            return manager if manager and self.wanted.role == "worker" else itself
        manager, seen = self._found()
        if not manager:
            raise ApiaryError(
                f"{self.name} is a worker in a swarm (node {here.node_id}, managers "
                f"{', '.join(here.remote_managers) or 'unknown'}), and no manager of the inventory can say whether "
                f"it is the right one: {told(seen)}. Bring a manager back; or, if that swarm is gone, take the node "
                f"out of it: {own.command('swarm', 'leave')}"
            )
        return manager

    @staticmethod
    def _leading(engine: Engine) -> Manager | None:
        """The manager that *engine* is, None while its swarm has no leader."""
        try:
            return Manager.of(engine)
        except Refused:
            return None

    def _stranger(self, here: Membership, manager: Manager) -> ApiaryError:
        """The refusal of a worker that the managers of the inventory do not know."""
        return ApiaryError(
            f"{self.name} is not in the swarm {manager.cluster_id} of {manager.engine.name}, where its node ID "
            f"{here.node_id} is unknown: it is in another swarm, or was removed from this one. The ID of its own "
            f"swarm cannot be read from it; the managers it knows are {', '.join(here.remote_managers) or 'none'}. "
            f"No node leaves a swarm silently: to move it to {manager.cluster_id}, run this again after "
            f"{docker_command(self.wanted.docker, 'swarm', 'leave')}"
        )

    # The node itself

    def _conformed(self, own: Engine, manager: Manager, here: Membership, joined: bool) -> dict[str, Any]:
        """Give the node, a member now, its role, labels and availability, remove its ghosts, and return the result."""
        wanted = self.wanted
        nodes = self._listed(manager, here, patient=joined)
        node = next(node for node in nodes if node["ID"] == here.node_id)
        before = self._picture(manager, node)
        spec, changes = spec_changes(node["Spec"], wanted)
        self._guarded(manager, node, spec)
        if changes and not self.check_mode:
            spec = self._updated(manager, node)
        if not self.check_mode:
            self._in_role(own, here)
        self.actions += changes
        self._without_ghosts(manager, nodes, here, joined)
        if differ(here.addr, wanted.advertise_address):
            self.warnings.append(
                f"{self.name} is known to its swarm as {here.addr}, not as {wanted.advertise_address}: an address is "
                f"given when a node joins. To change it, run this again after {own.command('swarm', 'leave')}"
            )
        if wanted.create and not joined:
            given = wanted.address_pools, wanted.address_pool_prefix
            self.warnings += unheeded(*given, manager.pools, manager.subnet_size)
        after = self._picture(manager, {**node, "Spec": spec}) | self._choice()
        return {
            "changed": bool(self.actions),
            "actions": self.actions,
            "warnings": self.warnings,
            "node_id": here.node_id,
            "cluster_id": manager.cluster_id,
            "role": after["role"],
            "availability": after["availability"],
            "labels": after["labels"],
            "addr": here.addr,
            "before": {"membership": "none"} if joined else before,
            "after": after,
        }

    def _listed(self, manager: Manager, here: Membership, patient: bool) -> list[dict[str, Any]]:
        """Return the nodes that share this node's host name, itself among them and ready (in check mode: or not)."""

        def look() -> list[dict[str, Any]] | None:
            # The filter is a prefix on the manager's side, and keeps the answer small where there are many nodes.
            nodes = manager.engine.nodes(name=here.hostname)
            mine = next((node for node in nodes if node["ID"] == here.node_id), None)
            if mine is None:
                mine = manager.engine.node(here.node_id)
                if mine is None:
                    if patient:
                        return None
                    raise self._stranger(here, manager)
                nodes.append(mine)
            return nodes if self.check_mode or mine["Status"]["State"] == "ready" else None

        return self._waited(
            f"until {manager.engine.name} lists it as ready",
            look,
            lambda: f"Look at: {manager.engine.command('node', 'inspect', here.node_id)}",
        )

    def _guarded(self, manager: Manager, node: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
        """Refuse a demotion that would leave the other managers without a majority."""
        if node["Spec"]["Role"] == "manager" and spec["Role"] == "worker":
            managers = manager.engine.nodes(role="manager")
            if not keeps_quorum(managers, node["ID"]):
                raise ApiaryError(
                    f"{self.name} will not be demoted to a worker: of the other {len(managers) - 1} managers of swarm "
                    f"{manager.cluster_id} no majority is reachable, and the swarm could not be changed any more. "
                    "Bring them back, or let another manager join first."
                )

    def _updated(self, manager: Manager, node: Mapping[str, Any]) -> dict[str, Any]:
        """Write the node's spec; start again from its newest version when somebody else wrote it in between."""
        for tries_left in reversed(range(UPDATE_TRIES)):
            spec, _actions = spec_changes(node["Spec"], self.wanted)
            try:
                manager.engine.update(node, spec)
                break
            except Refused as refusal:
                if OUTDATED not in str(refusal) or not tries_left:
                    raise
            self.clock.sleep(0.2)
            node = manager.engine.node(node["ID"]) or node
        return spec

    def _in_role(self, own: Engine, here: Membership) -> None:
        """Wait until the engine is what its spec says: a promotion takes effect some seconds after it is written."""
        manages = self.wanted.role == "manager"
        if here.control == manages:
            return
        self._waited(
            f"until it acts as a {self.wanted.role}",
            lambda: True if (now := own.membership()).state == "active" and now.control == manages else None,
            lambda: f"Its engine says: {own.membership().error or 'nothing'}",
        )

    def _without_ghosts(
        self, manager: Manager, nodes: Sequence[Mapping[str, Any]], here: Membership, joined: bool
    ) -> None:
        doomed, doubtful = ghosts(nodes, here, joined)
        for node in doomed:
            self.actions.append(f"remove the ghost {node['ID']}")
            if not self.check_mode:
                self._exorcised(manager, node["ID"])
        for node in doubtful:
            self.warnings.append(
                f"node {node['ID']} ({node_addr(node)}) is down and has the host name of {self.name} ({here.addr}). "
                f"If it is an earlier life of the same machine: {manager.engine.command('node', 'rm', node['ID'])}"
            )

    def _exorcised(self, manager: Manager, node_id: str) -> None:
        """Remove the ghost *node_id*, once the swarm has noticed that it is down; a manager is demoted first."""
        engine = manager.engine

        def gone() -> bool | None:
            node = engine.node(node_id)
            if node is None:
                return True
            if node["Status"]["State"] != "down":
                return None
            if node["Spec"]["Role"] == "manager":
                if not keeps_quorum(engine.nodes(role="manager"), node_id):
                    raise ApiaryError(
                        f"the ghost {node_id} of {self.name} is a manager of swarm {manager.cluster_id}, and without "
                        "it no majority of managers is reachable. Bring the other managers back and run again."
                    )
                wanted = {**node["Spec"], "Role": "worker"}
                self._tolerated(lambda: engine.update(node, wanted), OUTDATED)
                return None
            # A demoted manager can be removed only after it has left the managers' log, a moment later.
            self._tolerated(lambda: engine.remove(node_id), "must be demoted", "is a cluster manager")
            return None

        self._waited(
            f"to remove its ghost {node_id}",
            gone,
            lambda: f"Remove it by hand: {engine.command('node', 'rm', '--force', node_id)}",
        )

    @staticmethod
    def _tolerated(call: Callable[[], None], *passing: str) -> None:
        """Call, and let refusals pass that end by themselves: the caller looks again."""
        try:
            call()
        except Refused as refusal:
            if not any(reason in str(refusal) for reason in passing):
                raise

    # Tools

    def _open(self, name: str, endpoint: Mapping[str, Any], stack: ExitStack | None = None) -> Engine:
        api = (stack or self.connections).enter_context(self.connect(endpoint, timeout_seconds=TIMEOUT_SECONDS))
        return Engine(name, endpoint, api)

    def _waited(self, what: str, probe: Callable[[], Answer | None], remedy: Callable[[], str]) -> Answer:
        """Return what *probe* answers; when it goes on answering None, raise an error that ends with *remedy*."""
        answer = self._polled(what, probe)
        if answer is None:
            raise ApiaryError(f"{self.name}: waited {self.wanted.wait_seconds} s {what}, in vain. {remedy()}")
        return answer

    def _polled(self, what: str, probe: Callable[[], Answer | None]) -> Answer | None:
        """Ask *probe* until it answers something but None, at most ``wait_seconds``; a longer wait is told."""
        deadline = self.clock.now() + self.wanted.wait_seconds
        pause = 0.2
        told_so = False
        while (answer := probe()) is None and self.clock.now() < deadline:
            if pause > 1 and not told_so:
                self.say(f"{self.name}: waiting {what}")
                told_so = True
            self.clock.sleep(pause)
            pause = min(pause * 1.5, 2.0)
        return answer

    def _choice(self) -> dict[str, Any]:
        """What the swarm is given when it is created, where that is not the engine's own."""
        return {"address_pools": self.pools, "address_pool_prefix": self.subnet_size} if self.pools else {}

    def _picture(self, manager: Manager, node: Mapping[str, Any]) -> dict[str, Any]:
        spec = node["Spec"]
        return {
            "membership": manager.cluster_id,
            "role": spec["Role"],
            "availability": spec["Availability"],
            "labels": dict(spec.get("Labels") or {}),
        }

    def _foretold(self, why: str) -> dict[str, Any]:
        """The result of a check run for a node that is not a member yet."""
        wanted = self.wanted
        if not self.actions:
            self.actions.append(self._creation() if wanted.create and not wanted.peers() else self._either())
        availability = "active" if wanted.availability == "keep" else wanted.availability
        labels = merged_labels({}, wanted.labels, purge=True)
        if availability != "active":
            self.actions.append(f"set availability {availability}")
        self.actions += [f"set label {name}={labels[name]}" for name in sorted(labels)]
        return {
            "changed": True,
            "actions": self.actions,
            "warnings": self.warnings,
            "msg": f"{why}. A run would: {', '.join(self.actions)}.",
            "node_id": None,
            "cluster_id": None,
            "role": wanted.role,
            "availability": availability,
            "labels": labels,
            "addr": wanted.advertise_address,
            "before": {"membership": "none"},
            "after": {
                "membership": "the swarm",
                "role": wanted.role,
                "availability": availability,
                "labels": labels,
                **self._choice(),
            },
        }

    def _either(self) -> str:
        if self.wanted.create:
            return f"{self._creation()}, or join it where one exists"
        return f"join as {self.wanted.role}"

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A sound cluster keeps every promise, and each thing that is wrong with it breaks the promise that is about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils.probe import Entrypoint, Hearing, Target
from ansible_collections.apiary.swarm.plugins.module_utils.promises import (
    PROMISES,
    Engine,
    Host,
    Seen,
    Swarm,
    limits_of,
    same_image,
    size_of,
    summary,
    told,
    verdicts,
)
from ansible_collections.apiary.swarm.plugins.module_utils.stack import Record, spec_digest

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
JOINED, PLACED, LATER = (f"2026-11-23T{hour}:00:00.123456789Z" for hour in ("09", "10", "11"))
MIB = 1 << 20

OWN = {"10.0.0.0/24": "network", "10.0.0.253": "name server"}
HOSTS = {
    "m1": Host("m1", "manager", {"docker_host": "tcp://127.0.0.101:2376"}, "10.0.0.1", "127.0.0.101", networks=OWN),
    "m2": Host("m2", "manager", {"docker_host": "tcp://127.0.0.102:2376"}, "10.0.0.2", "127.0.0.102", networks=OWN),
    "m3": Host("m3", "manager", {"docker_host": "tcp://127.0.0.103:2376"}, "10.0.0.3", "127.0.0.103", networks=OWN),
    "w1": Host(
        "w1",
        "worker",
        {"docker_host": "tcp://127.0.0.104:2376"},
        "10.0.0.4",
        "127.0.0.104",
        {"disk": "ssd"},
        networks=OWN,
    ),
}
WEB = {
    "image": "apiary/web:1",
    "deploy": {"replicas": 4, "resources": {"limits": {"cpus": "0.1", "memory": "50M"}}},
    "ports": ["4000:80"],
}


def network(name: str, subnet: str) -> dict[str, Any]:
    return {"Name": name, "IPAM": {"Config": [{"Subnet": subnet}]}, "Ingress": name == "ingress"}


@dataclass
class Cluster:
    """What is seen of a cluster, in parts that a test can change."""

    hosts: dict[str, Host] = field(default_factory=lambda: dict(HOSTS))
    engines: dict[str, dict[str, Any]] = field(default_factory=dict)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    service: dict[str, Any] = field(default_factory=dict)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    asked: dict[str, Any] = field(default_factory=lambda: {"web": deepcopy(WEB)})
    hearings: list[Hearing] = field(default_factory=list)
    record: Record | None = None
    pools: list[str] = field(default_factory=lambda: ["10.128.0.0/9"])
    networks: list[dict[str, Any]] = field(default_factory=lambda: [network("ingress", "10.128.0.0/24")])
    deaf: list[str] = field(default_factory=list)
    strict: bool = False
    swarmless: str = ""

    def seen(self) -> Seen:
        swarm = Swarm(
            "c1",
            NOW,
            list(self.nodes.values()),
            {"web": self.service},
            self.tasks,
            self.record,
            self.networks,
            self.pools,
        )
        return Seen(
            hosts=list(self.hosts.values()),
            engines={name: Engine(**engine) for name, engine in self.engines.items()},
            swarm=None if self.swarmless else swarm,
            document={"services": self.asked},
            hearings=self.hearings,
            deaf=self.deaf,
            strict=self.strict,
            why_no_swarm=self.swarmless,
        )


def sound() -> Cluster:
    """Three managers and a worker, with a task of web on each."""
    cluster = Cluster()
    cluster.service = {
        "ID": "s1",
        "UpdatedAt": PLACED,
        "Spec": {
            "Name": "shop_web",
            "Mode": {"Replicated": {"Replicas": 4}},
            "TaskTemplate": {"ContainerSpec": {"Image": "apiary/web:1"}},
        },
        "Endpoint": {"Ports": [{"PublishedPort": 4000, "Protocol": "tcp"}]},
    }
    for number, (name, host) in enumerate(HOSTS.items(), 1):
        cluster.nodes[name] = node = {
            "ID": f"n{number}",
            "CreatedAt": JOINED,
            "UpdatedAt": JOINED,
            "Spec": {"Role": host.role, "Availability": "active", "Labels": dict(host.labels)},
            "Description": {"Hostname": name},
            "Status": {"State": "ready", "Addr": host.address},
        }
        if host.role == "manager":
            node["ManagerStatus"] = {"Leader": number == 1, "Reachability": "reachable", "Addr": f"{host.address}:2377"}
        container = f"{number}" * 64
        cluster.tasks.append(
            {
                "ID": f"t{number}",
                "ServiceID": "s1",
                "NodeID": f"n{number}",
                "Slot": number,
                "CreatedAt": PLACED,
                "UpdatedAt": PLACED,
                "DesiredState": "running",
                "Status": {"State": "running", "ContainerStatus": {"ContainerID": container}},
                "Spec": {"ContainerSpec": {"Image": "apiary/web:1"}},
            }
        )
        info = {"NodeID": f"n{number}", "LocalNodeState": "active", "ControlAvailable": host.role == "manager"}
        cluster.engines[name] = {
            "info": {"Swarm": info | ({"Cluster": {"ID": "c1"}} if host.role == "manager" else {})},
            "containers": {
                container: {
                    "Image": "sha256:abc",
                    "State": {"Running": True, "Paused": False},
                    "Config": {"Image": "apiary/web:1"},
                    "HostConfig": {"NanoCpus": 100_000_000, "Memory": 50 * MIB},
                }
            },
            "listed_nodes": None,
            "stranger": "refused",
        }
    target = Target("web", 4000, {f"{number}" * 12: f"web.{number}" for number in range(1, 5)})
    for host in HOSTS.values():
        hearing = Hearing(target, Entrypoint(host.name, host.entrypoint), requests=4)
        hearing.heard.update(target.tasks)
        cluster.hearings.append(hearing)
    cluster.record = Record("d1", services={"web": spec_digest(cluster.service)})
    return cluster


def broken(cluster: Cluster) -> dict[str, list[str]]:
    """Return what is found against which promises."""
    return {verdict.name: list(verdict.findings) for verdict in verdicts(cluster.seen()) if not verdict.kept}


def remarks(cluster: Cluster) -> list[str]:
    return [remark for verdict in verdicts(cluster.seen()) for remark in verdict.remarks]


def container(cluster: Cluster, host: str) -> dict[str, Any]:
    found: dict[str, Any] = next(iter(cluster.engines[host]["containers"].values()))
    return found


def test_sound_cluster_keeps_every_promise() -> None:
    cluster = sound()
    assert broken(cluster) == {}
    assert remarks(cluster) == []


def test_each_promise_is_a_sentence() -> None:
    assert all(sentence.endswith(".") for sentence, _judge in PROMISES.values())


# What is wrong, the promise that it breaks, and what is said. A function changes a sound cluster.

Change = Callable[[Cluster], object]
BROKEN: dict[str, tuple[Change, str, str]] = {}


def wrong(promise: str, said: str) -> Callable[[Change], Change]:
    def note(change: Change) -> Change:
        BROKEN[change.__name__] = change, promise, said
        return change

    return note


@wrong("engines", "w1: no route to host")
def engine_is_silent(cluster: Cluster) -> None:
    cluster.engines["w1"] = {"error": "no route to host"}


@wrong("tls", "m2: tcp://127.0.0.102:2376 serves a client that shows no certificate")
def engine_serves_strangers(cluster: Cluster) -> None:
    cluster.engines["m2"]["stranger"] = "served"


@wrong("tls", "m2: it could not be asked without a certificate: timed out")
def stranger_is_not_answered(cluster: Cluster) -> None:
    cluster.engines["m2"]["stranger"] = "it could not be asked without a certificate: timed out"


@wrong("quorum", "m2 is unreachable: 2 of 3 managers are reachable, and the swarm cannot change with fewer than 2")
def manager_is_unreachable(cluster: Cluster) -> None:
    cluster.nodes["m2"]["ManagerStatus"]["Reachability"] = "unreachable"


@wrong("quorum", "no manager leads")
def nobody_leads(cluster: Cluster) -> None:
    cluster.nodes["m1"]["ManagerStatus"]["Leader"] = False


@wrong("quorum", "m3 manages another swarm, c2, not c1")
def manager_of_another_swarm(cluster: Cluster) -> None:
    cluster.engines["m3"]["info"]["Swarm"]["Cluster"]["ID"] = "c2"


@wrong("nodes", "w1 is a manager, not a worker")
def node_has_the_wrong_role(cluster: Cluster) -> None:
    cluster.nodes["w1"]["Spec"]["Role"] = "manager"
    cluster.nodes["w1"]["ManagerStatus"] = {"Reachability": "reachable"}


@wrong("nodes", "m3 is down, not ready (heartbeat failure)")
def node_is_down(cluster: Cluster) -> None:
    cluster.nodes["m3"]["Status"] |= {"State": "down", "Message": "heartbeat failure"}


@wrong("nodes", "m3 has the availability active, not drain")
def node_is_not_drained(cluster: Cluster) -> None:
    cluster.hosts["m3"] = replace(HOSTS["m3"], availability="drain")


@wrong("nodes", "w1 lacks disk=ssd")
def label_is_missing(cluster: Cluster) -> None:
    cluster.nodes["w1"]["Spec"]["Labels"] = {}


@wrong("nodes", "w1 has the label disk=hdd, not ssd")
def label_has_another_value(cluster: Cluster) -> None:
    cluster.nodes["w1"]["Spec"]["Labels"] = {"disk": "hdd"}


@wrong("nodes", "w1 has the address 10.9.9.9 in the swarm, not 10.0.0.4")
def node_has_another_address(cluster: Cluster) -> None:
    cluster.nodes["w1"]["Status"]["Addr"] = "10.9.9.9"


@wrong("nodes", "m1 manages the swarm at 10.0.0.1:2378, not at 10.0.0.1:2377")
def manager_is_at_another_port(cluster: Cluster) -> None:
    cluster.nodes["m1"]["ManagerStatus"]["Addr"] = "10.0.0.1:2378"


@wrong("nodes", "w1: it is in no swarm")
def host_is_in_no_swarm(cluster: Cluster) -> None:
    cluster.engines["w1"]["info"] = {"Swarm": {"LocalNodeState": "inactive"}}


@wrong("nodes", "m3: its engine is the same node as that of m2")
def two_hosts_are_one_node(cluster: Cluster) -> None:
    cluster.engines["m3"]["info"]["Swarm"]["NodeID"] = "n2"


@wrong("strangers", "m3 (n3), a manager at 10.0.0.3, ready")
def node_is_not_in_the_inventory(cluster: Cluster) -> None:
    del cluster.hosts["m3"]
    del cluster.engines["m3"]


@wrong("strangers", "w1 (n9), a worker at 10.0.0.4, down, besides the node that w1 is now")
def earlier_life_is_left(cluster: Cluster) -> None:
    ghost = deepcopy(cluster.nodes["w1"])
    cluster.nodes["ghost"] = ghost | {"ID": "n9", "Status": {"State": "down", "Addr": "10.0.0.4"}}


@wrong(
    "networks",
    "the network shop_back (10.0.0.0/24) meets 10.0.0.0/24 (network of m1, m2, m3 and 1 more), 10.0.0.253 (name server "
    "of m1, m2, m3 and 1 more): its containers reach nothing there, no name server either. Give it a subnet of its own",
)
def network_has_the_name_servers_address(cluster: Cluster) -> None:
    cluster.networks.append(network("shop_back", "10.0.0.0/24"))


@wrong("networks", "the network ingress (10.0.0.0/16) meets")
def ingress_has_the_hosts_addresses(cluster: Cluster) -> None:
    cluster.networks = [network("ingress", "10.0.0.0/16")]


@wrong("networks", "w1: cannot be told, as what addresses it uses itself is not known")
def host_that_is_silent_has_not_told_its_addresses(cluster: Cluster) -> None:
    cluster.hosts["w1"] = replace(cluster.hosts["w1"], networks={})
    cluster.engines["w1"] = {"error": "no route to host"}


@wrong("workers", "w1: its engine is node n7, which this swarm does not have")
def worker_of_another_swarm(cluster: Cluster) -> None:
    cluster.engines["w1"]["info"]["Swarm"]["NodeID"] = "n7"


@wrong("workers", "w1: its engine says error, not active")
def worker_has_lost_its_place(cluster: Cluster) -> None:
    cluster.engines["w1"]["info"]["Swarm"]["LocalNodeState"] = "error"


@wrong("workers", "w1 lists 4 nodes to whoever asks it")
def worker_lists_nodes(cluster: Cluster) -> None:
    cluster.engines["w1"]["listed_nodes"] = 4


@wrong("services", "api: is not in the swarm; playbooks/stack.yml deploys it")
def service_is_not_deployed(cluster: Cluster) -> None:
    cluster.asked["api"] = {"image": "api:1"}


@wrong("services", "web: has the image apiary/web:1, the template asks for apiary/web:2")
def template_has_a_new_image(cluster: Cluster) -> None:
    cluster.asked["web"]["image"] = "apiary/web:2"


@wrong("services", "web: has 4 replicas, the template asks for 5")
def template_has_other_replicas(cluster: Cluster) -> None:
    cluster.asked["web"]["deploy"]["replicas"] = 5


@wrong("services", "web: is replicated, the template asks for global")
def template_has_another_mode(cluster: Cluster) -> None:
    cluster.asked["web"]["deploy"] = {"mode": "global", "resources": WEB["deploy"]["resources"]}  # type: ignore[index]


@wrong("services", "web: was changed since it was deployed; playbooks/stack.yml deploys it again")
def service_was_changed_by_hand(cluster: Cluster) -> None:
    cluster.service["Spec"]["Labels"] = {"by": "hand"}


@wrong("services", "web 3/4 running, 1 starting")
def task_is_starting(cluster: Cluster) -> None:
    cluster.tasks[3]["Status"]["State"] = "starting"


@wrong("services", "web 3/4 running, 1 of the version before; its update is under way")
def update_is_under_way(cluster: Cluster) -> None:
    cluster.tasks[0]["Spec"] = {"ContainerSpec": {"Image": "apiary/web:0"}}
    cluster.service["UpdateStatus"] = {"State": "updating"}


@wrong("services", "web.4 on w1: the swarm says that it runs, its node's engine shows no such container")
def engine_has_no_such_container(cluster: Cluster) -> None:
    cluster.engines["w1"]["containers"] = {}


@wrong("services", "web.4 on w1: its container is of the image apiary/web:0, not apiary/web:1")
def container_is_of_another_image(cluster: Cluster) -> None:
    container(cluster, "w1")["Config"]["Image"] = "apiary/web:0"


@wrong("services", "web.4 on w1: its container is paused")
def container_is_paused(cluster: Cluster) -> None:
    container(cluster, "w1")["State"]["Paused"] = True


@wrong("limits", "web.4 on w1: has no limit of memory, the template asks for 50 MiB of memory")
def container_has_no_memory_limit(cluster: Cluster) -> None:
    container(cluster, "w1")["HostConfig"]["Memory"] = 0


@wrong("limits", "web.1 on m1: has 0.2 CPUs, the template asks for 0.1 CPUs")
def container_has_more_cpus(cluster: Cluster) -> None:
    container(cluster, "m1")["HostConfig"]["NanoCpus"] = 200_000_000


@wrong("limits", "web.2 on m2: has no limit of processes, the template asks for 100 processes")
def container_has_no_limit_of_processes(cluster: Cluster) -> None:
    cluster.asked["web"]["deploy"]["resources"]["limits"]["pids"] = 100


@wrong("spread", "web: 2 on m1, 1 on m2, 1 on m3, 0 on w1")
def tasks_are_spread_unevenly(cluster: Cluster) -> None:
    move(cluster, 3, "m1")


@wrong("spread", "web: 2 on m1, 1 on m2, 1 on m3, 0 on w1")
def tasks_are_spread_unevenly_and_no_excuse_counts(cluster: Cluster) -> None:
    move(cluster, 3, "m1")
    cluster.nodes["w1"]["UpdatedAt"] = LATER
    cluster.strict = True


@wrong("answers", "port 4000 of service web through w1 (127.0.0.104): heard 3 of 4 tasks in 9 requests")
def task_is_not_heard(cluster: Cluster) -> None:
    hearing = cluster.hearings[3]
    hearing.requests = 9
    del hearing.heard["4" * 12]


@wrong("answers", "port 4001 of web: the swarm does not publish it, or no task runs behind it")
def port_is_not_published(cluster: Cluster) -> None:
    cluster.asked["web"]["ports"].append("4001:81")


@wrong("answers", "w1: its inventory names no entrypoint")
def nobody_could_ask(cluster: Cluster) -> None:
    cluster.deaf = ["w1: its inventory names no entrypoint"]


def move(cluster: Cluster, task: int, host: str) -> None:
    """Have a task, and its container, on another host."""
    identifier = cluster.tasks[task]["Status"]["ContainerStatus"]["ContainerID"]
    cluster.tasks[task]["NodeID"] = cluster.nodes[host]["ID"]
    for engine in cluster.engines.values():
        if identifier in engine["containers"]:
            moved = engine["containers"].pop(identifier)
    cluster.engines[host]["containers"][identifier] = moved


@pytest.mark.parametrize(("change", "promise", "said"), BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_is_said_of_the_promise_that_it_breaks(change: Change, promise: str, said: str) -> None:
    cluster = sound()
    change(cluster)
    found = broken(cluster)
    assert any(finding.startswith(said) for finding in found.pop(promise, []))
    # Nothing else is blamed, but for what cannot be told then or is wrong too.
    also = {
        "engine_is_silent": {"tls", "workers", "services", "limits"},
        "host_that_is_silent_has_not_told_its_addresses": {"engines", "tls", "workers", "services", "limits"},
        "node_is_down": {"services"},
        "host_is_in_no_swarm": {"workers", "strangers", "services", "limits"},
        "two_hosts_are_one_node": {"strangers", "services", "limits"},
        "node_is_not_in_the_inventory": {"services", "limits"},
        "worker_of_another_swarm": {"nodes", "strangers", "services", "limits"},
        "engine_has_no_such_container": {"limits"},
    }
    assert set(found) == also.get(change.__name__, set()), found


def test_every_promise_can_be_broken() -> None:
    assert {promise for _change, promise, _said in BROKEN.values()} == set(PROMISES)


def test_without_a_manager_no_promise_of_the_swarm_is_kept() -> None:
    cluster = sound()
    cluster.swarmless = "no manager answers, since"
    found = broken(cluster)
    assert found["quorum"][0].startswith("no manager answers, since. A manager answers for its swarm while most")
    assert "tcp://127.0.0.101:2376 swarm init --force-new-cluster" in found["quorum"][0]
    assert set(found) == set(PROMISES) - {"engines", "tls"}
    assert found["limits"] == ["cannot be told, as no manager answers for a swarm"]


def test_locked_swarm_is_told_with_what_unlocks_it() -> None:
    cluster = sound()
    cluster.swarmless = "no manager answers"
    for name in ("m1", "m2", "m3"):
        cluster.engines[name]["info"] = {"Swarm": {"LocalNodeState": "locked", "ControlAvailable": False}}
    (told,) = broken(cluster)["quorum"]
    assert told.startswith("m1 holds a locked swarm (autolock)")
    assert "tcp://127.0.0.101:2376 swarm unlock" in told


# Worth knowing, and nothing is broken


def remarked() -> Iterator[Any]:
    def came_back(cluster: Cluster) -> None:
        move(cluster, 3, "m1")
        cluster.nodes["w1"]["UpdatedAt"] = LATER

    yield pytest.param(
        came_back, "w1 changed after the tasks were placed. playbooks/rebalance.yml", id="a node came back"
    )

    def updated(cluster: Cluster) -> None:
        before = deepcopy(cluster.tasks[3]) | {"ID": "t0", "DesiredState": "shutdown", "CreatedAt": JOINED}
        before["Status"]["State"] = "shutdown"
        move(cluster, 3, "m1")
        cluster.tasks.append(before)

    yield pytest.param(updated, "tasks were replaced one after another", id="a rolling update")

    def drained(cluster: Cluster) -> None:
        move(cluster, 3, "m1")
        cluster.nodes["w1"]["Spec"]["Availability"] = "drain"

    yield pytest.param(drained, "w1 has the availability drain; the inventory asks for none", id="drained by hand")

    def stopped(cluster: Cluster) -> None:
        drained(cluster)
        cluster.nodes["w1"]["Spec"]["Labels"]["apiary.maintenance.availability"] = "active"

    yield pytest.param(stopped, "w1 has the availability drain; it is stopped, or its restart", id="drained for a stop")

    def plain(cluster: Cluster) -> None:
        cluster.engines["m1"]["stranger"] = "plain"

    yield pytest.param(plain, "m1: tcp://127.0.0.101:2376 has no TLS", id="no TLS, as asked for")

    def even(cluster: Cluster) -> None:
        cluster.nodes["w1"]["Spec"]["Role"] = "manager"
        cluster.nodes["w1"]["ManagerStatus"] = {"Reachability": "reachable"}
        cluster.hosts["w1"] = replace(HOSTS["w1"], role="manager")

    yield pytest.param(even, "4 managers tolerate the loss of 1, as 3 would", id="an even number of managers")

    def twins(cluster: Cluster) -> None:
        container(cluster, "w1")["Image"] = "sha256:other"

    yield pytest.param(twins, "apiary/web:1 is not the same image on all nodes", id="one tag, two images")

    def nameless(cluster: Cluster) -> None:
        for hearing in cluster.hearings:
            hearing.heard.clear()
            hearing.anonymous = 10

    yield pytest.param(nameless, "the answers name no container", id="answers that name nobody")

    def datagrams(cluster: Cluster) -> None:
        cluster.asked["web"]["ports"].append("53:53/udp")

    yield pytest.param(datagrams, "port 53/udp of web is not asked: only TCP is", id="udp")

    def proxied(cluster: Cluster) -> None:
        hearing = cluster.hearings[0]
        hearing.target = replace(hearing.target, is_proxied=True, unserved=frozenset(["w1"]))

    yield pytest.param(proxied, "w1: a drained node has no proxy", id="drained, with a proxy")

    def extra(cluster: Cluster) -> None:
        del cluster.asked["web"]
        cluster.record = None

    yield pytest.param(extra, "web: is in the swarm as a service of the stack, and not in the template", id="extra")


@pytest.mark.parametrize(("change", "said"), list(remarked()))
def test_remark(change: Change, said: str) -> None:
    cluster = sound()
    change(cluster)
    assert any(said in remark for remark in remarks(cluster))
    assert broken(cluster) == {}


def test_tasks_that_do_not_divide_evenly_are_spread_as_evenly_as_they_can_be() -> None:
    cluster = sound()
    cluster.strict = True
    cluster.tasks.append(cluster.tasks[0] | {"ID": "t5", "Slot": 5})
    assert "spread" not in broken(cluster)


@pytest.mark.parametrize(
    "template",
    [
        {"Placement": {"Constraints": ["node.role == manager"]}},
        {"Placement": {"Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.rack"}}]}},
        {"Resources": {"Reservations": {"MemoryBytes": 1}}},
    ],
    ids=["constraints", "preferences", "reservations"],
)
def test_tasks_that_the_template_places_need_not_be_even(template: dict[str, Any]) -> None:
    cluster = sound()
    move(cluster, 3, "m1")
    cluster.service["Spec"]["TaskTemplate"] |= template
    assert "spread" not in broken(cluster)


def test_pool_that_meets_a_host_is_worth_knowing_while_no_network_does() -> None:
    cluster = sound()
    cluster.pools = ["10.0.0.0/8"]
    assert broken(cluster) == {}
    assert [text for text in remarks(cluster) if text.startswith("the swarm takes")] == [
        "the swarm takes the addresses of its networks from 10.0.0.0/8, which meets 10.0.0.0/24 (network of m1, m2, m3 "
        "and 1 more), 10.0.0.253 (name server of m1, m2, m3 and 1 more). A network that gets those reaches nothing "
        "there, no name server either. Give networks subnets of their own (ipam) in the compose file; only a new swarm "
        "has other pools: playbooks/destroy.yml, then site.yml"
    ]


def test_host_whose_provider_does_not_tell_its_addresses_is_worth_knowing() -> None:
    cluster = sound()
    cluster.hosts["w1"] = replace(cluster.hosts["w1"], networks={})
    assert broken(cluster) == {}
    assert "w1: cannot be told, as what addresses it uses itself is not known" in remarks(cluster)


def test_proxy_that_the_deploy_added_is_no_surprise() -> None:
    cluster = sound()
    seen = cluster.seen()
    assert seen.swarm
    proxy = deepcopy(cluster.service) | {"ID": "s2"}
    proxy["Spec"] |= {"Name": "shop_ingress", "Mode": {"Global": {}}}
    tasks = [
        {key: value for key, value in task.items() if key != "Slot"} | {"ID": f"p{task['ID']}", "ServiceID": "s2"}
        for task in cluster.tasks
    ]
    record = Record("d1", services={"web": spec_digest(cluster.service), "ingress": spec_digest(proxy)})
    swarm = replace(
        seen.swarm, services={"web": cluster.service, "ingress": proxy}, tasks=[*cluster.tasks, *tasks], record=record
    )
    assert [
        text for verdict in verdicts(replace(seen, swarm=swarm)) for text in (*verdict.findings, *verdict.remarks)
    ] == []


# In words, and small things


def test_text_for_people_has_every_promise_and_what_was_found() -> None:
    cluster = sound()
    container_has_no_memory_limit(cluster)
    seen = cluster.seen()
    text = told("shop", seen, verdicts(seen))
    assert text.startswith("Cluster shop: 10 of 11 promises kept\n")
    assert "limits     NO    The containers have the limits" in text
    assert "- limits: web.4 on w1: has no limit of memory" in text
    assert summary(seen) in text
    assert summary(seen) == (
        "Looked at 3 managers, 1 worker, 1 service, 4 running tasks, "
        "1 published port through 4 entrypoints (16 requests)"
    )


@pytest.mark.parametrize(
    ("text", "size"), [("50M", 50 * MIB), ("50mb", 50 * MIB), ("1.5g", 1536 * MIB), ("64MiB", 64 * MIB), ("1024", 1024)]
)
def test_size_is_read_as_docker_reads_it(text: str, size: int) -> None:
    assert size_of(text) == size


def test_limits_that_are_not_asked_for_are_not_compared() -> None:
    assert limits_of({"image": "a"}) == {}
    assert limits_of({"deploy": {"resources": {"limits": {"cpus": 0.25}}}}) == {"NanoCpus": 250_000_000}


@pytest.mark.parametrize(
    ("asked", "found", "is_same"),
    [
        ("web:1", "web:1@sha256:00", True),
        ("web", "web:latest", True),
        ("docker.io/library/redis:7", "redis:7", True),
        ("localhost:5000/web", "localhost:5000/web:latest@sha256:00", True),
        ("web:1", "web:2", False),
        ("web:1@sha256:00", "web:1@sha256:11", False),
    ],
)
def test_images_are_compared_as_the_engine_names_them(asked: str, found: str, is_same: bool) -> None:
    assert same_image(asked, found) is is_same

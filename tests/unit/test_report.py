# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report at the end of a run."""

from __future__ import annotations

from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.report import cluster_report

ENDPOINT = {
    "docker_host": "tcp://127.0.99.101:2376",
    "validate_certs": True,
    "client_cert": "/state/apiary/client/cert.pem",
}


def node(name: str, role: str, *, leader: bool = False, availability: str = "active", **status: str) -> dict[str, Any]:
    return {
        "ID": f"id-{name}",
        "Description": {"Hostname": name},
        "Spec": {"Role": role, "Availability": availability},
        "Status": {"State": "ready", "Addr": "192.168.99.101", **status},
        "ManagerStatus": {"Leader": leader} if role == "manager" else None,
    }


def test_report_names_nodes_services_urls_and_the_lines_for_a_client() -> None:
    service = {
        "ID": "s1",
        "Spec": {
            "Name": "getstartedlab_web",
            "Mode": {"Replicated": {"Replicas": 5}},
            "TaskTemplate": {"ContainerSpec": {"Image": "apiary/web:1@sha256:00"}},
        },
        "Endpoint": {"Ports": [{"Protocol": "tcp", "PublishedPort": 4000}]},
    }
    tasks = [{"ServiceID": "s1", "Status": {"State": state}} for state in ("running", "running", "starting")]
    text = cluster_report(
        "apiary",
        {"myvm1": "127.0.99.101", "myvm2": "127.0.99.102"},
        ENDPOINT,
        [node("myvm2", "worker", availability="drain"), node("myvm1", "manager", leader=True)],
        [service],
        tasks,
    )
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "myvm1 leader ready 192.168.99.101 127.0.99.101" in lines
    assert "myvm2 worker ready, drain 192.168.99.101 127.0.99.102" in lines
    assert "getstartedlab_web 2/5 apiary/web:1 http://127.0.99.101:4000 http://127.0.99.102:4000" in lines
    assert "export DOCKER_HOST=tcp://127.0.99.101:2376" in lines
    assert "export DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=/state/apiary/client" in lines


def test_what_else_there_is_to_know_is_said() -> None:
    text = cluster_report(
        "apiary", {"myvm1": ""}, ENDPOINT, [node("myvm1", "manager")], [], [], notes=["the network shop meets 10.0.2.3"]
    )
    assert "\nthe network shop meets 10.0.2.3\n" in text


def test_what_is_published_for_the_nodes_alone_is_not_shown_as_open() -> None:
    service = {
        "ID": "s1",
        "Spec": {
            "Name": "registry_registry",
            "Labels": {"apiary.inside": "true"},
            "Mode": {"Replicated": {"Replicas": 1}},
            "TaskTemplate": {"ContainerSpec": {"Image": "apiary/registry:1"}},
        },
        "Endpoint": {"Ports": [{"Protocol": "tcp", "PublishedPort": 5000}]},
    }
    text = cluster_report("apiary", {"myvm1": "127.0.99.101"}, ENDPOINT, [node("myvm1", "manager")], [service], [])
    assert "127.0.0.1:5000 on each node" in text
    assert "http://" not in text


def test_what_does_not_speak_http_is_shown_with_its_own_scheme() -> None:
    service = {
        "ID": "s1",
        "Spec": {
            "Name": "shop_redis",
            "Mode": {"Replicated": {"Replicas": 1}},
            "TaskTemplate": {"ContainerSpec": {"Image": "x"}},
        },
        "Endpoint": {"Ports": [{"Protocol": "tcp", "PublishedPort": 7000, "TargetPort": 6379}]},
    }
    text = cluster_report("apiary", {"n1": "127.0.96.101"}, ENDPOINT, [node("n1", "manager")], [service], [])
    assert "redis://127.0.96.101:7000" in text


def test_what_the_proxy_publishes_is_shown_at_the_service_behind_it() -> None:
    template = {"ContainerSpec": {"Image": "x"}}
    services = [
        {
            "ID": "s1",
            "Spec": {
                "Name": "shop_web",
                "Mode": {"Replicated": {"Replicas": 1}},
                "TaskTemplate": template,
                "Labels": {"apiary.ingress.ports": "4000:80"},
            },
            "Endpoint": {},
        },
        {
            "ID": "s2",
            "Spec": {
                "Name": "shop_ingress",
                "Mode": {"Global": {}},
                "TaskTemplate": template,
                "Labels": {"apiary.ingress.proxy": "true"},
            },
            "Endpoint": {"Ports": [{"Protocol": "tcp", "PublishedPort": 4000, "PublishMode": "host"}]},
        },
    ]
    nodes = [node("n1", "manager", leader=True), node("n2", "worker"), node("n3", "worker", availability="drain")]
    entrypoints = {"n1": "127.0.96.101", "n2": "127.0.96.102", "n3": "127.0.96.103"}
    text = cluster_report("apiary", entrypoints, ENDPOINT, nodes, services, [])
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "shop_web 0/1 x http://127.0.96.101:4000 http://127.0.96.102:4000" in lines
    assert "shop_ingress 0/2 x" in lines


def test_nodes_that_the_inventory_does_not_name_are_pointed_out_with_what_removes_them() -> None:
    nodes = [node("n1", "manager", leader=True), node("n7", "worker", State="down", Addr="192.168.99.107")]
    text = cluster_report("apiary", {"n1": "127.0.99.101", "n2": "127.0.99.102"}, ENDPOINT, nodes, [], [])
    assert "n7 (worker, down) is not in the inventory: playbooks/remove_node.yml -e node=n7 removes it" in text
    assert "n1 (" not in text


def test_host_with_another_name_in_the_swarm_is_known_by_its_address() -> None:
    nodes = [node("debian", "manager", leader=True, Addr="10.0.0.5")]
    text = cluster_report("apiary", {"db": "10.0.0.5"}, ENDPOINT, nodes, [], [], {"db": "10.0.0.5"})
    assert "not in the inventory" not in text
    assert "debian leader ready 10.0.0.5 10.0.0.5" in [" ".join(line.split()) for line in text.splitlines()]


def test_ports_are_not_shown_where_the_node_is_down_or_gone() -> None:
    service = {
        "ID": "s1",
        "Spec": {
            "Name": "shop_web",
            "Mode": {"Replicated": {"Replicas": 1}},
            "TaskTemplate": {"ContainerSpec": {"Image": "x"}},
        },
        "Endpoint": {"Ports": [{"Protocol": "tcp", "PublishedPort": 4000}]},
    }
    nodes = [node("n1", "manager", leader=True), node("n2", "worker", State="down")]
    entrypoints = {"n1": "127.0.96.101", "n2": "127.0.96.102", "n3": "127.0.96.103"}
    text = cluster_report("apiary", entrypoints, ENDPOINT, nodes, [service], [])
    assert "http://127.0.96.101:4000\n" in text
    assert "127.0.96.102:4000" not in text
    assert "127.0.96.103:4000" not in text


def test_tasks_that_are_being_replaced_are_none_of_those_that_are_wanted() -> None:
    service = {
        "ID": "s1",
        "Spec": {
            "Name": "getstartedlab_web",
            "Mode": {"Replicated": {"Replicas": 5}},
            "TaskTemplate": {"ContainerSpec": {"Image": "apiary/web:2"}},
        },
    }
    tasks = [
        {"ServiceID": "s1", "DesiredState": wanted, "Status": {"State": "running"}}
        for wanted in ["running"] * 5 + ["shutdown"] * 3
    ]
    text = cluster_report("apiary", {"myvm1": "127.0.99.101"}, ENDPOINT, [node("myvm1", "manager")], [service], tasks)
    assert "5/5, 3 stopping" in text

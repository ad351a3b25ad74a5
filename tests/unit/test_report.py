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


def node(name: str, role: str, *, leader: bool = False, availability: str = "active") -> dict[str, Any]:
    return {
        "Description": {"Hostname": name},
        "Spec": {"Role": role, "Availability": availability},
        "Status": {"State": "ready", "Addr": "192.168.99.101"},
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

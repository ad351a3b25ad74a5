# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Compose files: what is read from them, and what is refused before a machine is touched."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from ansible_collections.apiary.swarm.plugins.module_utils import compose
from ansible_collections.apiary.swarm.plugins.module_utils.compose_check import problems_of, warnings_of
from tests.project_template import VARIABLES, rendered


def document(service: str = "", rest: str = "") -> dict[str, Any]:
    """Return a good compose document with *service* added to web, and *rest* at the top level."""
    return compose.parse(f'version: "3.8"\nservices:\n  web:\n    image: web\n    {service}\n{rest}\n')


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("4000:80", [(4000, 80, "tcp", "ingress")]),
        ("80", [(None, 80, "tcp", "ingress")]),
        (80, [(None, 80, "tcp", "ingress")]),
        ("5353:53/udp", [(5353, 53, "udp", "ingress")]),
        ("3000-3001:80-81", [(3000, 80, "tcp", "ingress"), (3001, 81, "tcp", "ingress")]),
        ({"target": 80, "published": 8080, "mode": "host"}, [(8080, 80, "tcp", "host")]),
        ({"target": 80, "published": "8080", "protocol": "udp"}, [(8080, 80, "udp", "ingress")]),
        ({"target": 80}, [(None, 80, "tcp", "ingress")]),
    ],
)
def test_ports_are_read_in_both_syntaxes(entry: Any, expected: list[Any]) -> None:
    ports = compose.ports_of("web", entry)
    assert [(port.published, port.target, port.protocol, port.mode) for port in ports] == expected


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ("127.0.0.1:4000:80", "127.0.0.1"),
        ("4000:80:90", "4000:80:90"),
        ("http", "http"),
        ("70000:80", "70000"),
        ("3000-3002:80-81", "one length"),
        (True, "True"),
        ({"published": 80}, "target"),
        ({"target": "http"}, "'http'"),
        ({"target": 80, "mode": "mesh"}, "'mesh'"),
        ({"target": 80, "protocol": "icmp"}, "'icmp'"),
        ({"target": 80, "publish": 80}, "'publish'"),
    ],
)
def test_bad_ports_are_refused_by_name(entry: Any, named: str) -> None:
    with pytest.raises(compose.PortError, match=named):
        compose.ports_of("web", entry)


def test_an_unquoted_port_is_no_number_to_base_60() -> None:
    ports = compose.published_ports(document("ports: [4000:22, 22:22]"))
    assert [(port.published, port.target) for port in ports] == [(4000, 22), (22, 22)]


@pytest.mark.parametrize(
    ("text", "line", "named"),
    [
        ("services:\n  web:\n    image: x\n   ports: 1\n", 4, "block"),
        ("services:\n  web:\n    image: x\n    image: y\n", 4, "'image' stands twice"),
        ("- a\n", 0, "list"),
        ("", 0, "nothing"),
        ("services: {web: {image: 'x}}\n", 2, "end of stream"),
    ],
)
def test_what_is_no_compose_file_is_refused_with_its_line(text: str, line: int, named: str) -> None:
    with pytest.raises(compose.ComposeError, match=named) as raised:
        compose.parse(text)
    assert raised.value.line == line


@pytest.mark.parametrize(
    ("service", "rest"),
    [
        ("", ""),
        ('ports: ["4000:80"]', ""),
        ("networks: [default]", ""),
        ("networks: [a]", "networks: {a: }"),
        ("configs: [{source: c, target: /c}]", "configs: {c: {file: ./c}}"),
        ("volumes: [data:/data, /host:/inside, /anonymous]", "volumes: {data: }"),
        ("volumes: [{type: tmpfs, target: /run}]", ""),
        ("deploy: {mode: global}", ""),
        ("deploy: {replicas: 0}", ""),
        ("deploy: {resources: {limits: {cpus: '0.1', memory: 50M}}}", ""),
        ("environment: ['PRICE=$$5', 'TAG=${TAG:-latest}']", ""),
        ("", "x-mine: {a: 1}"),
        ("ports: [{target: 80, published: 80, mode: host}]", ""),
    ],
)
def test_good_documents_have_no_problems(service: str, rest: str) -> None:
    assert problems_of(document(service, rest), "stack") == []


@pytest.mark.parametrize(
    ("service", "rest", "named"),
    [
        ("deploy: {replicas: five}", "", "services.web.deploy.replicas: .* got 'five'"),
        ("deploy: {replicas: -1}", "", "got -1"),
        ("deploy: {replicas: true}", "", "got True"),
        ("deploy: {replicas: '5'}", "", "not in quotes, got '5'"),
        ("deploy: {mode: everywhere}", "", "got 'everywhere'"),
        ("deploy: {mode: global, replicas: 2}", "", "leave out replicas"),
        ("deploy: {restart_policy: {condition: always}}", "", "restart_policy.condition: one of none"),
        ("deploy: {update_config: {failure_action: panic}}", "", "failure_action"),
        ("deploy: {resources: {limits: {cpus: a lot}}}", "", "limits.cpus"),
        ("deploy: {resources: {limits: {memory: 50 apples}}}", "", "limits.memory"),
        ("deploy: [1]", "", "services.web.deploy: a mapping"),
        ("networks: [webnet]", "", "'webnet' is not declared; add it to networks"),
        ("secrets: [key]", "", "'key' is not declared; add it to secrets"),
        ("volumes: [data:/data]", "", "'data' is not declared; add it to volumes"),
        ("volumes: [./data:/data]", "", "absolute path on the node"),
        ("environment: ['TAG=${TAG}']", "", r"\$\{TAG\} would be empty"),
        ("command: echo $HOME", "", r"\$HOME would be empty"),
        ("ports: ['4000:80']\n  other: {image: x, ports: ['4000:81']}", "", "already published by services.web"),
        ("deploy: {endpoint_mode: dnsrr}\n    ports: ['4000:80']", "", "dnsrr"),
        ("", "nets: {}", "nets: unknown at the top level"),
        ("\n  b: {build: .}", "", "services.b: has build but no image"),
        ("\n  b: {image: a b}", "", "services.b.image"),
        ("\n  b: nothing", "", "services.b: a service is a mapping"),
        ("\n  b b: {image: x}", "", "a service name"),
    ],
)
def test_bad_documents_are_refused_by_name(service: str, rest: str, named: str) -> None:
    problems = problems_of(document(service, rest), "stack")
    assert len(problems) == 1
    assert re.search(named, problems[0]), problems[0]


@pytest.mark.parametrize("version", ["3.8", 2, "2.4", None])
def test_only_version_3_is_taken(version: Any) -> None:
    problems = problems_of({"version": version, "services": {"web": {"image": "x"}}}, "stack")
    assert bool(problems) == (version != "3.8")


@pytest.mark.parametrize("services", [None, {}, [], "web"])
def test_a_stack_needs_services(services: Any) -> None:
    assert any(
        "at least one service" in problem for problem in problems_of({"version": "3", "services": services}, "s")
    )


@pytest.mark.parametrize("name", ["", "my stack", "-a", "a.b", "ü"])
def test_bad_stack_names_are_refused(name: str) -> None:
    assert any(repr(name) in problem for problem in problems_of(document(), name))


def test_all_problems_are_reported_at_once() -> None:
    bad = document("deploy: {replicas: x, mode: y}\n    ports: [a]\n    networks: [b]", "c: 1")
    assert len(problems_of(bad, "a b")) == 6


def test_keys_that_the_swarm_skips_are_warned_of() -> None:
    warnings = warnings_of(document("restart: always\n    depends_on: [x]"))
    assert len(warnings) == 2


def test_summary_and_files() -> None:
    parsed = document(
        "env_file: a.env\n    deploy: {replicas: 3}\n  all: {image: b, deploy: {mode: global}}",
        "configs: {c: {file: ./c}, d: {external: true}}",
    )
    assert compose.summary(parsed) == {
        "web": {"image": "web", "mode": "replicated", "replicas": 3},
        "all": {"image": "b", "mode": "global", "replicas": None},
    }
    assert compose.referenced_files(parsed) == ["./c", "a.env"]


def test_images_are_named_otherwise_where_they_have_another_name() -> None:
    document: dict[str, Any] = {
        "services": {"web": {"image": "a/web:1"}, "twin": {"image": "a/web:1"}, "redis": {"image": "redis"}}
    }
    assert compose.name_images(document, {"a/web:1": "r:5000/a/web:1@sha256:1", "a/old:1": "r:5000/a/old:1"})
    images = [service["image"] for service in document["services"].values()]
    assert images == ["r:5000/a/web:1@sha256:1", "r:5000/a/web:1@sha256:1", "redis"]
    assert not compose.name_images(document, {"a/web:1": "x"})


# The project's template


def services_of(**variables: Any) -> dict[str, Any]:
    parsed = compose.parse(rendered(**variables))
    assert problems_of(parsed, "getstartedlab") == []
    services: dict[str, Any] = parsed["services"]
    return services


def test_the_project_s_template_is_the_tutorial_s_stack() -> None:
    services = services_of()
    assert list(services) == ["web", "visualizer", "redis"]
    web = services["web"]
    assert web["deploy"]["replicas"] == 5
    assert web["deploy"]["resources"]["limits"] == {"cpus": "0.1", "memory": "50M"}
    assert web["deploy"]["restart_policy"] == {"condition": "any"}
    to_the_letter = services_of(web_restart_condition="on-failure")["web"]
    assert to_the_letter["deploy"]["restart_policy"] == {"condition": "on-failure"}
    assert [service["ports"] for service in services.values()] == [["4000:80"], ["8080:8080"], ["6379:6379"]]
    assert all(service["networks"] == ["webnet"] for service in services.values())
    assert yaml.safe_load(rendered())["networks"] == {"webnet": {"driver": "overlay"}}


def test_the_visualizer_only_looks() -> None:
    visualizer = services_of()["visualizer"]
    assert (visualizer["user"], visualizer["read_only"], visualizer["cap_drop"]) == ("65534:2375", True, ["ALL"])
    (socket,) = visualizer["volumes"]
    assert socket == {**dict.fromkeys(["source", "target"], "/var/run/docker.sock"), "type": "bind", "read_only": True}
    assert visualizer["deploy"]["placement"]["constraints"] == ["node.role == manager"]
    assert "secrets" not in visualizer


def test_the_visualizer_that_everybody_used_gets_what_it_needs() -> None:
    visualizer = services_of(visualizer_image="dockersamples/visualizer:stable")["visualizer"]
    assert visualizer["volumes"] == ["/var/run/docker.sock:/var/run/docker.sock"]
    assert not {"user", "read_only", "cap_drop"} & set(visualizer)
    assert visualizer["ports"] == ["8080:8080"]


def test_the_visualizer_has_a_login_where_there_is_a_secret_for_it() -> None:
    secrets = [*VARIABLES["stack_secrets"], {"name": "visualizer_login", "value": "ann:x"}]
    visualizer = services_of(stack_secrets=secrets)["visualizer"]
    assert visualizer["secrets"] == ["visualizer_login"]
    assert visualizer["environment"] == {"VISUALIZER_LOGIN_FILE": "/run/secrets/visualizer_login"}


def test_redis_keeps_its_data_where_it_is_and_wants_a_password() -> None:
    services = services_of()
    redis = services["redis"]
    assert redis["volumes"] == [{"type": "bind", "source": "/var/lib/apiary/getstartedlab/redis", "target": "/data"}]
    assert redis["command"][:3] == ["/redis/start", "--appendonly", "yes"]
    constraints = redis["deploy"]["placement"]["constraints"]
    assert constraints == ["node.role == manager", "node.labels.apiary.data == true"]
    assert redis["deploy"]["update_config"]["order"] == "stop-first"
    assert services["web"]["secrets"] == redis["secrets"] == ["redis_password"]


@pytest.mark.parametrize(
    "services", [["web"], ["web", "redis"], ["visualizer"], ["web", "visualizer"], ["redis", "web", "visualizer"]]
)
def test_services_are_those_of_stack_services(services: list[str]) -> None:
    left_out = {f"{name}_image": None for name in ("web", "visualizer", "redis") if name not in services}
    found = services_of(stack_services=services, **left_out)
    assert set(found) == set(services)
    assert ("secrets" in found.get("web", {})) == ("web" in services and "redis" in services)


@pytest.mark.parametrize(
    ("variable", "value", "path"),
    [
        ("web_port", 80, "web.ports.0"),
        ("visualizer_port", 9000, "visualizer.ports.0"),
        ("visualizer_cpus", "0.3", "visualizer.deploy.resources.limits.cpus"),
        ("visualizer_memory", "99M", "visualizer.deploy.resources.limits.memory"),
        ("visualizer_constraints", ["node.hostname == node2"], "visualizer.deploy.placement.constraints.0"),
        ("redis_port", 7000, "redis.ports.0"),
        ("redis_cpus", "0.3", "redis.deploy.resources.limits.cpus"),
        ("redis_memory", "99M", "redis.deploy.resources.limits.memory"),
        ("redis_appendonly", "no", "redis.command.2"),
        ("redis_maxmemory", "99mb", "redis.command.4"),
        ("redis_maxmemory_policy", "allkeys-lru", "redis.command.6"),
        ("stack_data_dir", "/srv", "redis.volumes.0.source"),
    ],
)
def test_each_property_is_a_variable(variable: str, value: Any, path: str) -> None:
    found: Any = services_of(**{variable: value})
    for key in path.split("."):
        found = found[int(key) if key.isdigit() else key]
    assert str(value[0] if isinstance(value, list) else value) in str(found)


def test_what_a_service_uses_counts_as_part_of_it() -> None:
    def services(version: str) -> dict[str, Any]:
        text = rendered().replace("redis_password:\n    external: true", f"redis_password:\n    name: {version}")
        return compose.with_definitions(compose.parse(text))

    before, after = services("one"), services("two")
    assert before == services("one")
    assert {name for name in before if before[name] != after[name]} == {"web", "redis"}

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ports without the routing mesh: what becomes of a compose file, and what the swarm then says of them."""

from __future__ import annotations

import re
import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils import compose, ingress
from ansible_collections.apiary.swarm.plugins.module_utils.compose import Port
from ansible_collections.apiary.swarm.plugins.module_utils.compose_check import problems_of
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from tests.project_template import rendered

PROJECT = Path(__file__).parents[2]
WEB = {"image": "web", "ports": ["4000:80"]}


def document(version: str = "3.8", rest: dict[str, Any] | None = None, **services: Any) -> dict[str, Any]:
    return {"version": version, "services": services, **(rest or {})}


def transformed(version: str = "3.8", rest: dict[str, Any] | None = None, **services: Any) -> dict[str, Any]:
    return ingress.transform(document(version, rest, **services), "shop", "haproxy:2.8")


def configuration(result: dict[str, Any]) -> str:
    text: str = result["services"]["ingress"]["environment"]["HAPROXY_CFG"]
    return text


@pytest.mark.parametrize(
    ("mode", "lacks", "chosen"),
    [
        ("auto", [], "mesh"),
        ("auto", ["vxlan"], "mesh"),
        ("auto", ["br_netfilter", "ip_vs"], "proxy"),
        ("mesh", [], "mesh"),
        ("mesh", ["vxlan"], "mesh"),
        ("proxy", [], "proxy"),
        ("proxy", ["ip_vs"], "proxy"),
    ],
)
def test_the_proxy_is_for_kernels_without_ipvs(mode: str, lacks: list[str], chosen: str) -> None:
    assert ingress.choose(mode, lacks) == chosen


def test_a_mesh_that_cannot_answer_is_refused() -> None:
    with pytest.raises(ApiaryError) as error:
        ingress.choose("mesh", ["ip_vs"])
    assert [word for word in ("stack_ingress is mesh", "ip_vs", "auto or proxy") if word not in str(error.value)] == []


@pytest.mark.parametrize(
    ("ports", "kept", "published"),
    [
        (["4000:80"], None, [(4000, 80)]),
        (["3000-3001:80-81", "4000:80"], None, [(3000, 80), (3001, 81), (4000, 80)]),
        ([{"target": 80, "published": 4000}], None, [(4000, 80)]),
        (["80:80"], None, [(80, 80)]),
        (
            ["4000:80", {"target": 9, "published": 99, "mode": "host", "protocol": "udp"}],
            [{"target": 9, "published": 99, "mode": "host", "protocol": "udp"}],
            [(4000, 80)],
        ),
    ],
)
def test_the_proxy_publishes_what_the_mesh_would(ports: list[Any], kept: Any, published: list[tuple[int, int]]) -> None:
    result = transformed(web={"image": "web", "ports": ports})
    web, proxy = result["services"]["web"], result["services"]["ingress"]
    assert web.get("ports") == kept
    assert [(port["published"], port["mode"]) for port in proxy["ports"]] == [(outer, "host") for outer, _ in published]
    for port, (_, target) in zip(proxy["ports"], published, strict=True):
        assert port["target"] > 1024  # no privilege needed
        name = f"web-{port['published']}"
        sections = re.split(r"^(?=\w)", configuration(result), flags=re.MULTILINE)
        (frontend,) = (section for section in sections if f"bind :{port['target']}\n" in section)
        assert re.findall(r"_backend (\S+)", frontend) == [f"{name}-unchecked", name]
        for backend in (f"backend {name}\n", f"backend {name}-unchecked\n"):
            (section,) = (section for section in sections if section.startswith(backend))
            assert f" tasks.shop_web:{target} " in section
    assert problems_of(result, "shop") == []


def test_every_listener_has_a_name_and_a_port_of_its_own() -> None:
    result = transformed(a={"image": "a", "ports": ["1:80", "2:80"]}, b={"image": "b", "ports": ["3:80"]})
    assert re.findall(r"frontend (\S+)", configuration(result)) == ["a-1", "a-2", "b-3"]
    targets = [port["target"] for port in result["services"]["ingress"]["ports"]]
    assert len(set(targets)) == 3


@pytest.mark.parametrize(
    ("deploy", "mode"),
    [
        (None, "dnsrr"),
        ({"replicas": 3}, "dnsrr"),
        ({"endpoint_mode": "dnsrr"}, "dnsrr"),
        ({"endpoint_mode": "vip"}, "vip"),
    ],
)
def test_services_find_each_other_without_virtual_ips(deploy: Any, mode: str) -> None:
    redis = {"image": "redis"} | ({"deploy": deploy} if deploy else {})
    assert transformed(web=WEB, redis=redis)["services"]["redis"]["deploy"]["endpoint_mode"] == mode


def test_a_service_behind_the_proxy_keeps_no_virtual_ip() -> None:
    web = transformed(web={**WEB, "deploy": {"endpoint_mode": "vip", "replicas": 2}})["services"]["web"]
    assert web["deploy"]["endpoint_mode"] == "dnsrr"
    assert web["deploy"]["replicas"] == 2


def test_without_published_ports_there_is_no_proxy_and_no_image_needed() -> None:
    result = ingress.transform(document(redis={"image": "redis"}), "shop", "")
    assert list(result["services"]) == ["redis"]


def test_the_document_that_was_given_stays_as_it_is() -> None:
    given = document(web={**WEB, "deploy": {"labels": ["a=b"]}})
    ingress.transform(given, "shop", "haproxy:2.8")
    assert given == document(web={**WEB, "deploy": {"labels": ["a=b"]}})


@pytest.mark.parametrize("labels", [{"a": "b"}, ["a=b"]])
def test_labels_in_either_notation_are_kept(labels: Any) -> None:
    web = transformed(web={**WEB, "deploy": {"labels": labels}})["services"]["web"]
    assert web["deploy"]["labels"] == {"a": "b", "apiary.ingress.ports": "4000:80"}


@pytest.mark.parametrize(
    ("services", "rest", "expected"),
    [
        ({"web": WEB}, {}, ["default"]),
        (
            {"web": {**WEB, "networks": ["front", "back"]}},
            {"networks": {"front": None, "back": None}},
            ["front", "back"],
        ),
        ({"web": {**WEB, "networks": {"front": {"aliases": ["w"]}}}}, {"networks": {"front": {}}}, ["front"]),
        (
            {"web": {**WEB, "networks": ["front"]}, "db": {"image": "db", "networks": ["back"]}},
            {"networks": {"front": {}, "back": {}}},
            ["front"],
        ),
        (
            {"web": {**WEB, "networks": ["front"]}, "api": {"image": "api", "ports": ["5000:80"]}},
            {"networks": {"front": {}}},
            ["front", "default"],
        ),
        # A published port needs a network that leads out.
        ({"web": {**WEB, "networks": ["back"]}}, {"networks": {"back": {"internal": True}}}, ["back", "default"]),
    ],
)
def test_the_proxy_is_on_the_networks_of_what_it_serves(
    services: dict[str, Any], rest: dict[str, Any], expected: list[str]
) -> None:
    result = transformed(rest=rest, **services)
    assert result["services"]["ingress"]["networks"] == expected
    assert problems_of(result, "shop") == []


@pytest.mark.parametrize(
    ("services", "image", "words"),
    [
        ({"web": {"image": "web", "ports": ["53:53/udp"]}}, "p", ["services.web.ports", "53:53/udp", "mode: host"]),
        ({"web": {"image": "web", "ports": ["80"]}}, "p", ["services.web.ports", "PUBLISHED:80"]),
        ({"web": WEB, "ingress": {"image": "x"}}, "p", ["services.ingress", "another one"]),
        ({"web": WEB}, "", ["stack_ingress_image is empty", "haproxy:2.8", "images/ingress"]),
        (
            {"a": {"image": "a", "ports": ["80"]}, "b": {"image": "b", "ports": ["5:5/udp"]}},
            "",
            ["services.a.ports", "services.b.ports", "stack_ingress"],
        ),
    ],
)
def test_what_a_proxy_cannot_do_is_refused_all_at_once(services: dict[str, Any], image: str, words: list[str]) -> None:
    with pytest.raises(ApiaryError) as error:
        ingress.transform(document(**services), "shop", image)
    assert [word for word in words if word not in str(error.value)] == []


@pytest.mark.parametrize(
    ("version", "expected"), [("3", "3.6"), ("3.2", "3.6"), ("3.6", "3.6"), ("3.8", "3.8"), ("3.10", "3.10")]
)
def test_the_file_s_version_knows_what_the_proxy_needs(version: str, expected: str) -> None:
    assert transformed(version, web=WEB)["version"] == expected


def test_scaling_is_no_change_of_the_proxy() -> None:
    few, many = (transformed(web={**WEB, "deploy": {"replicas": number}}) for number in (2, 50))
    assert few["services"]["ingress"] == many["services"]["ingress"]


def test_no_variable_of_the_proxy_is_expanded_by_docker() -> None:
    text = ingress.to_text(transformed(web=WEB))
    assert problems_of(compose.parse(text), "shop") == []
    assert '"$$HAPROXY_CFG"' in text
    assert "$" not in text.replace("$$", "")


@pytest.mark.parametrize(
    ("ports", "descriptors", "share"),
    [
        (1, 1 << 20, 4000),
        (4, 1 << 20, 1000),
        (3, 20000, 1333),
        (4, 4096, 403),  # what some engines give
        (30, 4096, 50),
        (1, 1024, 379),
    ],
)
def test_each_port_has_a_share_that_the_others_cannot_take(
    ports: int, descriptors: int, share: int, tmp_path: Path
) -> None:
    proxy = transformed(web={"image": "web", "ports": [f"{4000 + number}:80" for number in range(ports)]})["services"][
        "ingress"
    ]
    haproxy = tmp_path / "haproxy"
    haproxy.write_text('#!/bin/sh\necho "$SHARE $CONNECTIONS"\n')
    haproxy.chmod(0o755)
    shell, option, command = proxy["entrypoint"]
    command = command.replace("$$", "$").replace("/tmp", str(tmp_path))  # noqa: S108 - in the container
    if descriptors <= resource.getrlimit(resource.RLIMIT_NOFILE)[1]:
        command = f"ulimit -n {descriptors}\n{command}"
    else:
        command = command.replace("$(ulimit -H -n)", str(descriptors))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HAPROXY_CFG": proxy["environment"]["HAPROXY_CFG"]}
    ran = subprocess.run([shell, option, command], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [str(share), str(share * ports)], ran.stderr
    # the share is that of each frontend, and all of them together are what there may be at all
    text = (tmp_path / "haproxy.cfg").read_text().replace("$$", "$")
    assert re.findall(r'^(\w+)\n  (?:mode tcp\n  )?maxconn "(.*)"$', text, re.MULTILINE) == [
        ("global", "${CONNECTIONS}"),
        ("defaults", "${SHARE}"),
    ]


class Marked(str):
    """A text as Ansible hands it on."""


@pytest.mark.parametrize(
    "value",
    [
        "web",
        "4000:22",
        "1:30:00",
        "yes",
        "y",
        "on",
        "1e3",
        "0x10",
        "010",
        "null",
        "~",
        "",
        "3.8",
        "a: b",
        "# no comment",
        "*star",
        "ünï",
        "line\nline\n",
        "  line\n\tline",
        Marked("web:1"),
        Marked("no"),
    ],
)
def test_texts_stay_texts(value: str) -> None:
    text = ingress.to_text({"key": value, "list": [value]})
    assert compose.parse(text) == {"key": value, "list": [value]}
    # Docker's client knows other words for numbers and truth than the reader above, so what may be one is in quotes.
    if re.fullmatch(r"[\d~.:ex]*|y|yes|no|on|null", value):
        assert text.startswith((f'key: "{value}"', f"key: '{value}'"))


@pytest.mark.parametrize("value", [4000, 0.5, True, None, [1, 2], {"a": {"b": []}}])
def test_other_values_stay_what_they_are(value: Any) -> None:
    assert compose.parse(ingress.to_text({"x": value})) == {"x": value}


def test_the_project_s_template_survives_the_way_through_yaml() -> None:
    given = compose.parse(rendered())
    result = compose.parse(ingress.to_text(ingress.transform(given, "shop", "haproxy:2.8")))
    assert set(result["services"]) == {*given["services"], "ingress"}
    assert result["services"]["web"]["image"] == given["services"]["web"]["image"]
    assert result["services"]["redis"]["command"] == given["services"]["redis"]["command"]


def live(labels: dict[str, str] | None = None, **port: Any) -> dict[str, Any]:
    ports = [{"Protocol": "tcp", "TargetPort": 80, "PublishMode": "ingress", **port}] if port else []
    return {"Spec": {"Name": "shop_web", "Labels": labels or {}}, "Endpoint": {"Ports": ports}}


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        (live(PublishedPort=4000), [Port("web", 4000, 80)]),
        (live(PublishedPort=4000, PublishMode="host"), [Port("web", 4000, 80, mode="host")]),
        (live(PublishedPort=53, Protocol="udp"), [Port("web", 53, 80, "udp")]),
        (live(PublishedPort=0), []),
        (live(), []),
        ({"Spec": {"Name": "x"}}, []),
        (live({"apiary.ingress.ports": "4000:80,4443:443"}), [Port("web", 4000, 80), Port("web", 4443, 443)]),
        (live({"apiary.ingress.proxy": "true"}, PublishedPort=4000, PublishMode="host"), []),
    ],
)
def test_a_port_belongs_to_the_service_behind_the_proxy(service: dict[str, Any], expected: list[Port]) -> None:
    assert ingress.live_ports("web", service) == expected


def test_a_document_publishes_the_same_before_and_after() -> None:
    given = document(
        web={"image": "web", "ports": ["4000:80", {"target": 9, "published": 99, "mode": "host"}]},
        api={"image": "api", "ports": ["5000-5001:80-81"]},
    )
    result = ingress.transform(given, "shop", "haproxy:2.8")

    def ports(document: dict[str, Any]) -> set[Port]:
        return set(ingress.wanted_ports(document))

    assert ports(result) == ports(given) == set(compose.published_ports(given))


def test_the_label_is_what_the_swarm_says_of_the_port() -> None:
    labels = transformed(web={"image": "web", "ports": ["3000-3001:80-81"]})["services"]["web"]["deploy"]["labels"]
    assert ingress.live_ports("web", live(labels)) == [Port("web", 3000, 80), Port("web", 3001, 81)]


def test_the_packages_of_the_proxy_s_image_are_those_it_needs() -> None:
    packages = re.sub(r"#.*", "", (PROJECT / "images/ingress/base/packages").read_text()).split()
    assert {"haproxy", "busybox-static"} <= set(packages)

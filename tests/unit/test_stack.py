# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Deploying a stack: what calls for it, what is recorded, how the client is called, how failures read."""

from __future__ import annotations

import base64
import copy
import json
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils import stack
from ansible_collections.apiary.swarm.plugins.module_utils.docker_command import connection_arguments
from ansible_collections.apiary.swarm.plugins.module_utils.image_registry import Registry
from ansible_collections.apiary.swarm.plugins.module_utils.stack_client import (
    ClientError,
    Deployment,
    login_environment,
    login_files,
)
from ansible_collections.apiary.swarm.plugins.module_utils.task_errors import describe, log_lines

WEB = {"image": "web:1"}


def live(name: str = "web", replicas: int = 5, update: str = "", owner: str = "shop", **port: Any) -> dict[str, Any]:
    """Return a service as the engine lists it."""
    return {
        "ID": f"id-{name}",
        "Version": {"Index": 3},
        "Spec": {"Name": f"{owner}_{name}", "Labels": {stack.NAMESPACE_LABEL: owner}, "Replicas": replicas},
        "Endpoint": {"Ports": [port]} if port else {},
        **({"UpdateStatus": {"State": update}} if update else {}),
    }


def record(**services: dict[str, Any]) -> stack.Record:
    """Return the record of a deploy that left *services*."""
    return stack.record_of("document", "compose", services, services)


@pytest.mark.parametrize(
    ("recorded", "services", "document", "wanted", "expected"),
    [
        (record(web=live()), {"web": live()}, "document", {"web": WEB}, []),
        (None, {}, "document", {"web": WEB}, ["create service web"]),
        (None, {"web": live()}, "document", {"web": WEB}, ["update service web: it was not deployed by Apiary"]),
        (record(web=live()), {}, "document", {"web": WEB}, ["create service web"]),
        (
            record(web=live()),
            {"web": live(replicas=7)},
            "document",
            {"web": WEB},
            ["update service web: it was changed"],
        ),
        (record(web=live()), {"web": live()}, "other", {"web": {"image": "web:2"}}, ["update service web"]),
        (record(web=live()), {"web": live()}, "other", {"web": WEB}, ["deploy the changed definition"]),
        (record(web=live()), {"web": live(update="paused")}, "document", {"web": WEB}, ["resume service web"]),
        (record(web=live()), {"web": live(update="completed")}, "document", {"web": WEB}, []),
        (record(web=live()), {"web": live(), "old": live("old")}, "document", {"web": WEB}, ["remove service old"]),
    ],
)
def test_plan(
    recorded: stack.Record | None, services: dict[str, Any], document: str, wanted: dict[str, Any], expected: list[str]
) -> None:
    actions = stack.plan(recorded, services, document, wanted, {"web": WEB}, prune=True)
    assert len(actions) == len(expected)
    assert all(action.startswith(start) for action, start in zip(actions, expected, strict=True))


def test_without_prune_other_services_stay() -> None:
    services = {"web": live(), "old": live("old")}
    assert stack.plan(record(web=live()), services, "document", {"web": WEB}, {}, prune=False) == []


def test_a_service_that_was_rolled_back_during_the_deploy_is_deployed_again() -> None:
    services = {"web": live(update="rollback_completed")}
    assert stack.plan(record(**services), services, "document", {"web": WEB}, {}, prune=True)


def test_a_record_survives_the_swarm() -> None:
    written = record(web=live())
    data = base64.b64encode(written.data).decode()
    old = {"CreatedAt": "2026-01-01T00:00:00Z", "Spec": {"Data": base64.b64encode(b"{}").decode()}}
    assert stack.newest_record([old, {"CreatedAt": "2026-01-02T00:00:00Z", "Spec": {"Data": data}}]) == written
    assert stack.newest_record([old]) is None


def test_a_record_fits_into_a_config() -> None:
    written = stack.Record("d", "x" * 600_000, {"web": "1"})
    assert len(written.data) < 500_000
    assert len(written.name("a" * 63)) == 64
    assert written.name("shop").startswith("apiary-stack-shop-")


def test_services_are_found_by_label_not_by_prefix() -> None:
    services = stack.services_of([live(), live("x", owner="shop_web"), {"Spec": {"Name": "shop_y"}}], "shop")
    assert list(services) == ["web"]


def test_outcome_names_what_really_changed() -> None:
    before = {"same": live("same"), "scaled": live("scaled"), "gone": live("gone")}
    after = {"same": live("same"), "scaled": live("scaled", replicas=7), "new": live("new")}
    states = {name: entry["state"] for name, entry in stack.outcome_of(before, after, after).items()}
    assert states == {"same": "unchanged", "scaled": "updated", "gone": "removed", "new": "created"}


@pytest.mark.parametrize(
    ("owner", "mode", "wanted_mode", "protocol", "conflict"),
    [
        ("other", "ingress", "ingress", "tcp", True),
        ("other", "host", "ingress", "tcp", True),
        ("other", "host", "host", "tcp", False),
        ("other", "ingress", "ingress", "udp", False),
        ("shop", "ingress", "ingress", "tcp", False),
    ],
)
def test_a_port_of_another_stack_is_a_conflict(
    owner: str, mode: str, wanted_mode: str, protocol: str, conflict: bool
) -> None:
    services = [live("api", owner=owner, PublishedPort=80, Protocol="tcp", PublishMode=mode)]
    wanted = [{"service": "web", "published": 80, "protocol": protocol, "mode": wanted_mode}]
    conflicts = stack.port_conflicts(services, "shop", wanted)
    assert bool(conflicts) == conflict
    assert all("other_api" in line and "80/tcp" in line for line in conflicts)


@pytest.mark.parametrize(("prune", "removed"), [(True, ["ingress", "old"]), (False, ["ingress"])])
def test_a_proxy_that_is_not_needed_goes_in_any_case(prune: bool, removed: list[str]) -> None:
    services = {name: live(name) for name in ("web", "old", "ingress")}
    services["ingress"]["Spec"]["Labels"]["apiary.ingress.proxy"] = "true"
    assert stack.unwanted(services, {"web": WEB}, prune=prune) == removed


def test_a_port_that_a_proxy_publishes_for_another_stack_is_a_conflict() -> None:
    other = live("api", owner="other")
    other["Spec"]["Labels"]["apiary.ingress.ports"] = "80:8080"
    wanted = [{"service": "web", "published": 80, "protocol": "tcp", "mode": "host"}]
    (line,) = stack.port_conflicts([other], "shop", wanted)
    assert "other_api" in line


TLS = {"ca_path": "/ca", "client_cert": "/cert", "client_key": "/key"}
TLS_FLAGS = ["--tlscacert", "/ca", "--tlscert", "/cert", "--tlskey", "/key"]


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ({"docker_host": "unix:///run/docker.sock"}, ["--host", "unix:///run/docker.sock"]),
        ({"docker_host": "ssh://me@host", "tls": False}, ["--host", "ssh://me@host"]),
        ({"docker_host": "tcp://h:2375"}, ["--host", "tcp://h:2375"]),
        (
            {"docker_host": "https://h:1", "validate_certs": True, **TLS},
            ["--host", "tcp://h:1", "--tlsverify", *TLS_FLAGS],
        ),
        ({"docker_host": "tcp://h:1", "tls": True, **TLS}, ["--host", "tcp://h:1", "--tls", *TLS_FLAGS]),
    ],
)
def test_the_client_is_pointed_at_the_endpoint_by_flags(endpoint: dict[str, Any], expected: list[str]) -> None:
    assert connection_arguments(endpoint) == expected


@pytest.mark.parametrize(("version", "has_detach"), [("20.10.24+dfsg1", False), ("28.2.2", True), ("", False)])
def test_detach_is_asked_for_only_where_the_client_knows_it(version: str, has_detach: bool) -> None:
    arguments = Deployment("shop", "", Path(), registry_auth=True).arguments("-", version)
    assert ("--detach=true" in arguments) == has_detach
    assert arguments[-1] == "shop"
    assert {"--prune", "--with-registry-auth", "never"} <= set(arguments)


LOGIN = Registry("registry.example.com/team", "ann", 'sword"fish $HOME')


@pytest.mark.parametrize(
    ("verb", "server", "status", "answer"),
    [
        ("get", "registry.example.com", 0, {"Username": "ann", "Secret": 'sword"fish $HOME'}),
        ("get", "https://index.docker.io/v1/", 1, None),
        ("store", "registry.example.com", 1, None),
        ("list", "", 1, None),
    ],
)
def test_the_client_asks_our_helper_for_the_one_login_that_it_may_have(
    tmp_path: Path, verb: str, server: str, status: int, answer: dict[str, str] | None
) -> None:
    for name, (content, mode) in login_files().items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(mode)
    assert json.loads((tmp_path / "config.json").read_text()) == {"credsStore": "apiary"}
    told = subprocess.run(
        [tmp_path / "docker-credential-apiary", verb],
        input=server,  # without a line's end, as the client says it
        env={"PATH": "/usr/bin:/bin", **login_environment(LOGIN)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == status
    if answer:
        assert answer.items() <= json.loads(told.stdout).items()
    else:
        assert told.stdout == "credentials not found in native keychain\n"


def test_a_login_is_in_no_file_and_on_no_command_line() -> None:
    deployment = Deployment("shop", "", Path(), login=LOGIN)
    written = [*deployment.arguments("-", "28.2"), *(content for content, _mode in login_files().values())]
    assert [text for text in written if "sword" in text] == []
    assert "--with-registry-auth" in written


@pytest.mark.parametrize(
    ("output", "clash"),
    [
        ("client version 1.54 is too new. Maximum supported API version is 1.40", True),
        ("client version 1.24 is too old. Minimum supported API version is 1.44", True),
        ("network shop_webnet not found", False),
    ],
)
def test_a_version_clash_is_told_from_other_failures(output: str, clash: bool) -> None:
    assert ClientError("", output).is_version_clash is clash


def frame(text: bytes, stream: int = 1) -> bytes:
    return struct.pack(">BxxxL", stream, len(text)) + text


@pytest.mark.parametrize(
    ("framed", "expected"),
    [
        (frame(b"one\n") + frame(b"two\n", 2), ["one", "two"]),
        (b"a terminal's text\r\nsecond\r\n", ["a terminal's text", "second"]),
        (b"", []),
        (b"short", ["short"]),
    ],
)
def test_logs_are_read_framed_and_bare(framed: bytes, expected: list[str]) -> None:
    assert log_lines(framed) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (
            {"State": "failed", "Err": "task: non-zero exit (3)", "ContainerStatus": {"ExitCode": 3}},
            ["web.2 on myvm1 failed: task: non-zero exit (3)", "its last log lines:", "  why"],
        ),
        (
            {"State": "complete", "Message": "finished", "ContainerStatus": {"ExitCode": 0}},
            [
                "web.2 on myvm1 complete: finished (exit code 0)",
                "remedy: it ended by itself, or was stopped as its health check fails: see command and healthcheck",
                "its last log lines:",
                "  why",
            ],
        ),
    ],
)
def test_a_failed_task_in_words(status: dict[str, Any], expected: list[str]) -> None:
    task = {"Slot": 2, "NodeID": "n1", "Status": status}
    assert describe("web", task, {"n1": "myvm1"}, frame(b"why\n")) == expected


def test_a_remedy_is_given_where_one_is_known() -> None:
    task = {"NodeID": "n1", "Status": {"State": "rejected", "Err": "No such image: web:9"}}
    assert any(line.startswith("remedy: bring the image") for line in describe("web", task, {}, b""))


@pytest.mark.parametrize(
    ("error", "is_starting"),
    [
        ("dockerexec: unhealthy container", True),
        ("task: non-zero exit (143): dockerexec: unhealthy container", False),
    ],
)
def test_a_task_that_was_killed_while_starting_is_told_from_one_that_had_run(error: str, is_starting: bool) -> None:
    second = 1_000_000_000
    task = {
        "NodeID": "n1",
        "Spec": {
            "ContainerSpec": {"Healthcheck": {"StartPeriod": 120 * second, "Interval": 10 * second}},
            "Resources": {"Limits": {"NanoCPUs": second // 10}},
        },
        "Status": {"State": "failed", "Err": error},
    }
    said = "\n".join(describe("web", task, {}, b""))
    assert ("stopped while it was starting" in said) == is_starting
    assert ("(start_period 120 s, interval 10 s, cpus 0.1)" in said) == is_starting
    assert all(number in said for number in ("health_start_period", "web_cpus", "health_interval")) == is_starting
    assert ("remedy: its health check fails" in said) != is_starting


def test_a_forced_update_is_no_drift_and_a_scaling_by_hand_is() -> None:
    service = live()
    service["Spec"]["TaskTemplate"] = {"ForceUpdate": 0, "ContainerSpec": {"Image": "web:1"}}
    forced, scaled = (copy.deepcopy(service) for _ in range(2))
    forced["Spec"]["TaskTemplate"]["ForceUpdate"] = 1
    scaled["Spec"]["Replicas"] = 6
    assert stack.spec_digest(forced) == stack.spec_digest(service)
    assert stack.spec_digest(scaled) != stack.spec_digest(service)

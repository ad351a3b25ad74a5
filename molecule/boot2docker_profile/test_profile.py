# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promises of the role boot2docker_profile: what changes in the profile, and what the engine then serves to whom."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from tests.docker_machines import DockerMachine

PROFILE = "/var/lib/boot2docker/profile"
#: what docker-machine writes between the two lines that are changed stays as it is
KEPT = (
    "EXTRA_ARGS='",
    "--label provider=virtualbox",
    "DOCKER_STORAGE=overlay2",
    "SERVERKEY=/var/lib/boot2docker/server-key.pem",
)


@pytest.fixture(scope="session")
def tool() -> DockerMachine:
    return DockerMachine()


@pytest.fixture(scope="session")
def address(tool: DockerMachine) -> str:
    return tool.call("ip", "myvm1").strip()


def converge(scenario: Any, *settings: str, succeeds: bool = True) -> str:
    arguments = [word for setting in settings for word in ("-e", setting)]
    play = scenario.play("molecule/boot2docker_profile/converge.yml", *arguments, succeeds=succeeds)
    return str(play.output)


def profile(tool: DockerMachine) -> list[str]:
    return tool.ssh("myvm1", f"cat {PROFILE}").splitlines()


def serves_plain_http(address: str, port: int) -> bool:
    try:
        return requests.get(f"http://{address}:{port}/_ping", timeout=10).text == "OK"
    except requests.ConnectionError:
        return False


@pytest.mark.parametrize("port", [4040, 2376])
def test_by_default_both_ports_want_a_certificate(tool: DockerMachine, address: str, port: int) -> None:
    assert tool.api("myvm1", address, port).ping()
    assert not serves_plain_http(address, port)


def test_what_docker_machine_wrote_stays_and_is_kept_beside(tool: DockerMachine) -> None:
    lines = profile(tool)
    assert set(KEPT) <= set(lines)
    before = tool.ssh("myvm1", f"cat {PROFILE}.before-apiary").splitlines()
    changed = [(old, new) for old, new in zip(before, lines, strict=True) if old != new]
    assert {old.partition("=")[0] for old, _new in changed} <= {"DOCKER_HOST", "DOCKER_TLS"}


def test_engine_is_not_restarted_where_nothing_changes(scenario: Any, tool: DockerMachine) -> None:
    before = tool.ssh("myvm1", "cat /var/run/docker.pid")
    converge(scenario)
    assert tool.ssh("myvm1", "cat /var/run/docker.pid") == before


def test_engine_that_died_is_started(scenario: Any, tool: DockerMachine, address: str) -> None:
    tool.ssh("myvm1", "sudo /etc/init.d/docker stop")
    converge(scenario)
    assert tool.api("myvm1", address).ping()


def test_without_tls_the_api_is_plain_on_both_ports_of_the_address_alone(
    scenario: Any, tool: DockerMachine, address: str
) -> None:
    output = converge(scenario, "boot2docker_profile_tls=false")
    assert "its API has no TLS" in output
    lines = profile(tool)
    hosts = f"-H tcp://{address}:4040 -H unix:///var/run/docker.sock -H tcp://{address}:2376"
    assert f"DOCKER_HOST='{hosts}'" in lines
    assert "DOCKER_TLS=no" in lines
    assert serves_plain_http(address, 4040)
    assert serves_plain_http(address, 2376)
    listening = tool.ssh("myvm1", "netstat -tln").splitlines()
    api = {row.split()[3] for row in listening if ":4040 " in row or ":2376 " in row}
    assert api == {f"{address}:4040", f"{address}:2376"}


def test_to_the_letter_it_listens_everywhere(scenario: Any, tool: DockerMachine, address: str) -> None:
    converge(scenario, "boot2docker_profile_tls=false", "boot2docker_profile_listen=0.0.0.0")
    tutorial = "DOCKER_HOST='-H tcp://0.0.0.0:4040 -H unix:///var/run/docker.sock -H tcp://0.0.0.0:2376'"
    assert tutorial in profile(tool)
    assert serves_plain_http(address, 4040)


def test_docker_machine_starts_it_again_without_tls(tool: DockerMachine, address: str) -> None:
    tool.call("restart", "myvm1")  # which waits for 2376
    assert serves_plain_http(tool.call("ip", "myvm1").strip(), 4040)


def test_switched_on_again_it_refuses_plain_http(scenario: Any, tool: DockerMachine) -> None:
    converge(scenario)
    address = tool.call("ip", "myvm1").strip()
    for port in (4040, 2376):
        assert not serves_plain_http(address, port)
        assert tool.api("myvm1", address, port).ping()
    assert "DOCKER_TLS=auto" in profile(tool)


def test_old_profile_comes_back_where_the_engine_does_not_come_up(scenario: Any, tool: DockerMachine) -> None:
    before = profile(tool)
    output = converge(
        scenario, "boot2docker_profile_listen=192.0.2.1", "boot2docker_profile_timeout_seconds=8", succeeds=False
    )
    assert "The old profile is in place again" in output
    assert "cannot assign requested address" in output  # the end of the engine's log
    assert profile(tool) == before
    assert tool.api("myvm1", tool.call("ip", "myvm1").strip()).ping()


def test_user_that_has_no_key_is_told(scenario: Any) -> None:
    output = converge(scenario, "boot2docker_profile_ssh_user=nobody", succeeds=False)
    assert "does not know the key" in output

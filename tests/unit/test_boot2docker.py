# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""boot2docker_profile: what changes in the profile, what is done for it, and what if the engine stays down."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from ansible_collections.apiary.swarm.plugins.action import boot2docker_profile as action_module
from ansible_collections.apiary.swarm.plugins.module_utils import boot2docker
from ansible_collections.apiary.swarm.plugins.module_utils.boot2docker import Guest, Sight
from ansible_collections.apiary.swarm.plugins.module_utils.docker_machine import Answer
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.modules.boot2docker_profile import ARGUMENT_SPEC

ADDRESS = "192.168.59.31"
PORTS = [4040, 2376]
#: as docker-machine 0.16.2 writes it
WRITTEN = """
EXTRA_ARGS='
--label provider=virtualbox

'
CACERT=/var/lib/boot2docker/ca.pem
DOCKER_HOST='-H tcp://0.0.0.0:2376'
DOCKER_STORAGE=overlay2
DOCKER_TLS=auto
SERVERKEY=/var/lib/boot2docker/server-key.pem
SERVERCERT=/var/lib/boot2docker/server.pem

export "HTTP_PROXY=http://10.0.2.2:3128"
"""
TUTORIAL = "DOCKER_HOST='-H tcp://0.0.0.0:4040 -H unix:///var/run/docker.sock -H tcp://0.0.0.0:2376'"
OURS = f"DOCKER_HOST='-H tcp://{ADDRESS}:4040 -H unix:///var/run/docker.sock -H tcp://{ADDRESS}:2376'"


def changed_lines(before: str, after: str) -> list[str]:
    assert len(before.splitlines()) == len(after.splitlines())
    return [new for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new]


def test_tutorials_two_lines_come_out_to_the_letter() -> None:
    patched = boot2docker.patched_profile(WRITTEN, "0.0.0.0", PORTS, tls=False)  # noqa: S104  the tutorial's
    assert changed_lines(WRITTEN, patched) == [TUTORIAL, "DOCKER_TLS=no"]


def test_with_tls_only_the_addresses_change() -> None:
    assert changed_lines(WRITTEN, boot2docker.patched_profile(WRITTEN, ADDRESS, PORTS, tls=True)) == [OURS]


@pytest.mark.parametrize("profile", [WRITTEN, "", "DOCKER_TLS=yes", "export DOCKER_TLS='auto'\n"])
@pytest.mark.parametrize("tls", [True, False])
def test_patching_again_changes_nothing(profile: str, tls: bool) -> None:
    patched = boot2docker.patched_profile(profile, ADDRESS, PORTS, tls=tls)
    assert boot2docker.patched_profile(patched, ADDRESS, PORTS, tls=tls) == patched


def test_off_and_on_again_is_as_before() -> None:
    before = boot2docker.patched_profile(WRITTEN, ADDRESS, PORTS, tls=True)
    off = boot2docker.patched_profile(before, ADDRESS, PORTS, tls=False)
    assert boot2docker.patched_profile(off, ADDRESS, PORTS, tls=True) == before


@pytest.mark.parametrize(
    "profile",
    [
        WRITTEN,
        "",
        "# mine\n",
        "export DOCKER_TLS=no",
        "DOCKER_HOST='-H tcp://1.2.3.4:1\n-H tcp://1.2.3.4:2'\n",
        'DOCKER_HOST="-H fd://"\nDOCKER_TLS="no"\nDOCKER_TLS=auto\n',
        "# DOCKER_TLS=no\nMY_DOCKER_TLS=no\n",
    ],
)
@pytest.mark.parametrize("tls", [True, False])
def test_shell_reads_what_is_meant(profile: str, tls: bool) -> None:
    patched = boot2docker.patched_profile(profile, ADDRESS, PORTS, tls=tls)
    script = f'{patched}\nprintf \'%s\\n\' "$DOCKER_TLS" "$DOCKER_HOST"'
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert (said[0] != "no") == tls
    assert said[1:] == [OURS.partition("=")[2].strip("'")]


def sight(profile: str = WRITTEN, engine: str = "", **said: Any) -> Sight:
    return Sight(profile=profile, engine=tuple(engine.split()), interfaces={}, **said)


RUNS = f"dockerd -H unix:// -H tcp://{ADDRESS}:4040 -H unix:///var/run/docker.sock -H tcp://{ADDRESS}:2376"


@pytest.mark.parametrize(
    ("tls", "patched", "engine", "expected"),
    [
        (True, True, f"{RUNS} --tlsverify --tlscacert=x", []),
        (False, False, RUNS, []),
        (True, None, f"{RUNS} --tlsverify", ["patch the profile", "restart the engine"]),
        (True, False, RUNS, ["patch the profile", "restart the engine"]),
        (True, True, RUNS, ["restart the engine"]),  # patched, and then interrupted
        (False, False, f"{RUNS} --tlsverify", ["restart the engine"]),
        (True, True, f"dockerd -H unix:// -H tcp://{ADDRESS}:2376 --tlsverify", ["restart the engine"]),
        (True, True, "", ["start the engine"]),
    ],
)
def test_what_is_to_be_done_follows_from_the_profile_and_from_what_runs(
    tls: bool, patched: bool | None, engine: str, expected: list[str]
) -> None:
    profile = WRITTEN if patched is None else boot2docker.patched_profile(WRITTEN, ADDRESS, PORTS, tls=patched)
    actions = boot2docker.deviations(sight(profile, engine), ADDRESS, PORTS, tls=tls)
    assert [action.partition(":")[0] for action in actions] == expected


def test_every_byte_of_what_a_guest_says_comes_over() -> None:
    said = {
        "profile": "a b\n\n'c'\n",
        "interfaces": "2: eth0    inet 10.0.2.15/24 x\n3: eth1    inet 192.168.59.31/24 x\n",
        "engine": "dockerd\n-H\ntcp://192.168.59.31:2376\n--tlsverify\n",
        "version": "Docker version 19.03.12, build 48a66213fe",
        "lacks": "ip_vs\n",
        "group": "101\n",
    }
    text = "".join(f"{word} {base64.b64encode(value.encode()).decode()}\n" for word, value in said.items())
    seen = Sight.parse(text)
    assert (seen.profile, seen.bootsync, seen.version, seen.lacks) == ("a b\n\n'c'\n", "", "19.03.12", ("ip_vs",))
    assert seen.group == 101
    assert seen.interfaces == {"10.0.2.15": "eth0", "192.168.59.31": "eth1"}
    assert seen.listens == {"tcp://192.168.59.31:2376"}
    assert seen.verifies


# SSH


def guest(tmp_path: Path, answer: Answer | BaseException, calls: list[Any] | None = None) -> Guest:
    def run(argv: Sequence[str], environment: Mapping[str, str], seconds: float, script: str) -> Answer:
        if calls is not None:
            calls.append((list(argv), script))
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return Guest("m1", ADDRESS, tmp_path, run=run)


def test_a_guest_without_a_socket_has_no_group_that_may_use_it() -> None:
    assert Sight.parse("group ").group == 0


def test_scripts_go_over_stdin_and_the_users_ssh_settings_are_left_out(tmp_path: Path) -> None:
    calls: list[Any] = []
    guest(tmp_path, Answer(0), calls).sh("do it", "secret stuff")
    ((argv, script),) = calls
    assert script == "secret stuff"
    assert "secret" not in " ".join(argv)
    assert argv[:3] == ["ssh", "-F", "/dev/null"]
    assert argv[-3:] == [f"docker@{ADDRESS}", "sh", "-s"]
    assert {"StrictHostKeyChecking=accept-new", "ConnectionAttempts=6"} <= set(argv)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(255, "", "Permissions 0644 for 'id_rsa' are too open."), "chmod 600"),
        (Answer(255, "", "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!"), "known_hosts"),
        (Answer(255, "", "docker@x: Permission denied (publickey)."), "does not know the key"),
        (Answer(255, "", "ssh: connect to host x port 22: No route to host"), "host-only network up"),
        (Answer(1, "", "sudo: not found"), r"could not do it \(exit status 1\): sudo: not found"),
        (TimeoutError(), "did not do it within 90 s"),
        (FileNotFoundError(), "openssh-client"),
    ],
)
def test_failure_over_ssh_is_told_with_its_remedy(tmp_path: Path, answer: Any, expected: str) -> None:
    with pytest.raises(ApiaryError, match=expected):
        guest(tmp_path, answer).sh("do it", "x")


# The whole of it


class FakeGuest:
    """A guest whose engine listens as its profile says, unless it is broken."""

    def __init__(self) -> None:
        self.profile, self.backup, self.restarts, self.broken = WRITTEN, "", 0, False
        self.waited: list[list[int]] = []
        self.engine = "dockerd -H unix:// -H tcp://0.0.0.0:2376 --tlsverify"

    def __call__(self, *arguments: Any) -> FakeGuest:
        return self

    def look(self) -> Sight:
        return sight(self.profile, self.engine, lacks=("ip_vs",), group=101, version="19.03.12")

    def replace_profile(self, text: str) -> None:
        self.backup, self.profile = self.profile, text
        self.restart_engine()

    def restart_engine(self) -> None:
        self.restarts += 1
        hosts = next(line for line in self.profile.splitlines() if line.startswith("DOCKER_HOST="))
        tls = "" if "DOCKER_TLS=no" in self.profile else "--tlsverify"
        self.engine = f"dockerd {hosts.partition('=')[2].strip(chr(39))} {tls}"

    def write(self, what: str, path: str, text: str) -> None:
        assert path == boot2docker.PROFILE
        self.profile = text

    def log_end(self) -> str:
        return "failed to start daemon: address already in use"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeGuest:
    made = FakeGuest()
    monkeypatch.setattr(action_module.ActionModule, "make_guest", made)

    def opens(_address: str, ports: list[int], _seconds: float) -> str:
        made.waited.append(ports)
        return ""

    monkeypatch.setattr(action_module, "_closed", opens)
    monkeypatch.setattr(action_module, "_trouble", lambda *_: "did not open port 4040" if made.broken else "")
    return made


def converge(check: bool = False, **given: Any) -> dict[str, Any]:
    made = action_module.ActionModule.__new__(action_module.ActionModule)
    made._task = MagicMock(check_mode=check, diff=True)
    asked = {"name": "m1", "address": ADDRESS, "directory": "/store/machines/m1"} | given
    return made.outcome({name: option.get("default") for name, option in ARGUMENT_SPEC.items()} | asked, {})


def test_profile_is_patched_once_and_kept(machine: FakeGuest) -> None:
    assert converge(check=True)["changed"]
    assert (machine.profile, machine.restarts) == (WRITTEN, 0)
    first = converge()
    assert first["changed"]
    assert first["diff"]["before"] == WRITTEN
    assert machine.backup == WRITTEN
    assert first["endpoint"]["docker_host"] == f"tcp://{ADDRESS}:2376"
    assert first["kernel_lacks"] == ["ip_vs"]
    assert first["docker_group_id"] == 101
    assert not converge()["changed"]
    assert machine.restarts == 1


def test_without_tls_the_endpoint_is_the_tutorials(machine: FakeGuest) -> None:
    assert converge(tls=False)["endpoint"] == {"docker_host": f"tcp://{ADDRESS}:4040"}
    assert converge(tls=False)["changed"] is False
    assert converge(tls=True)["endpoint"]["validate_certs"] is True


def test_old_profile_comes_back_where_the_engine_does_not_come_up(machine: FakeGuest) -> None:
    machine.broken = True
    with pytest.raises(ApiaryError, match=r"(?s)did not open port 4040.*old profile is in place.*already in use"):
        converge()
    assert machine.profile == WRITTEN
    assert machine.restarts == 2
    assert machine.waited == [[2376]]  # and is waited for


def test_looking_changes_nothing(machine: FakeGuest) -> None:
    assert converge(state="observed")["changed"] is False
    assert machine.restarts == 0


def test_port_that_docker_machine_waits_for_must_stay(machine: FakeGuest) -> None:
    with pytest.raises(ApiaryError, match="docker-machine waits for that port"):
        converge(ports=[4040])

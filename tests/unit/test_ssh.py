# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The way to a host over SSH: what ssh is called with, what its refusals mean, and the relay for what only root may."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from unittest.mock import MagicMock

import docker.errors
import pytest
import requests

from ansible_collections.apiary.swarm.plugins.module_utils import docker_api, ssh_relay
from ansible_collections.apiary.swarm.plugins.module_utils.docker_machine import Answer
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.ssh import Escalation, Host, Target, explain, refusal

TARGET = Target("host1", "192.0.2.7", 2222, "ann", "/home/ann/.ssh/fleet", ["-J", "gate"])
CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Offending ED25519 key in /home/ann/.ssh/known_hosts:3
Host key for [192.0.2.7]:2222 has changed and you have requested strict checking.
Host key verification failed.
"""

#: what ssh says → what is told
EXPLAINED = {
    CHANGED: "forget the old key: ssh-keygen -f /home/ann/.ssh/known_hosts -R '[192.0.2.7]:2222'",
    "Host key verification failed.": "say yes: ssh -p 2222 -i /home/ann/.ssh/fleet -J gate ann@192.0.2.7",
    "ann@192.0.2.7: Permission denied (publickey).": "does not let ann in with the key /home/ann/.ssh/fleet",
    "Permissions 0644 for '/k' are too open.\nbad permissions": "chmod 600 /home/ann/.ssh/fleet",
    "Warning: Identity file /k not accessible: No such file or directory.": "ansible_ssh_private_key_file is",
    "ssh: Could not resolve hostname host1: Name or service not known": "ansible_host is '192.0.2.7', which has no",
    "ssh: connect to host 192.0.2.7 port 2222: Connection refused": "correct ansible_host or ansible_port",
    "ssh: connect to host 192.0.2.7 port 2222: Connection timed out": "does not answer: is it running",
    "kex_exchange_identification: Connection closed by remote host": "cannot be reached; this shows more: ssh -p 2222",
}


@pytest.mark.parametrize(("said", "expected"), EXPLAINED.items())
def test_refusal_of_ssh_is_told_with_its_remedy(said: str, expected: str) -> None:
    told = explain(TARGET, said)
    assert told.startswith("host1 (ann@192.0.2.7, port 2222): ")
    assert expected in told
    assert said.strip().splitlines()[-1].strip() in told


@pytest.mark.parametrize(
    ("said", "wrong", "given", "expected"),
    [
        ("the password is wrong", True, True, "the sudo password of ann is wrong: correct ansible_become_password"),
        ("sudo: a password is required", False, False, "run with --ask-become-pass, or set ansible_become_password"),
        ("ann is not in the sudoers file.", False, True, "sudo does not let ann become root"),
        ("Sorry, user ann is not allowed to execute '/bin/sh'", True, True, "sudo does not let ann become root"),
        ("env: 'sudo': No such file or directory", False, False, "there is no sudo"),
    ],
)
def test_refusal_of_sudo_is_told_with_its_remedy(said: str, wrong: bool, given: bool, expected: str) -> None:
    assert expected in refusal(TARGET, said, wrong=wrong, given=given)


# What ssh is called with


class Ssh:
    """ssh, which notes how it is called."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.calls: list[Sequence[str]] = []
        self.scripts: list[str] = []

    def __call__(self, argv: Sequence[str], environment: Mapping[str, str], seconds: float, stdin: str) -> Answer:
        self.calls.append(argv)
        self.scripts.append(stdin)
        return self.answers.pop(0) if self.answers else Answer(0, "", "")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="apiary-") as path:
        yield Path(path)


def host(directory: Path, ssh: Ssh, *argv: str) -> Host:
    words = ["ssh", "-C", "-o", "ControlMaster=auto", *argv]
    return Host(TARGET, words, directory, lambda line: Escalation(f"sudo sh -c '{line}'"), run=ssh)


def values(argv: Sequence[str], option: str) -> list[str]:
    return [word.partition("=")[2] for word in argv if word.startswith(f"{option}=")]


def test_ours_come_before_the_inventorys_and_what_it_may_change_after(directory: Path) -> None:
    ssh = Ssh()
    host(directory, ssh, "-o", "StrictHostKeyChecking=accept-new").sh("look", "true")
    (argv,) = ssh.calls
    # The first value of an option is the one that ssh takes.
    assert values(argv, "ControlPath")[0] == str(next(iter(values(argv, "ControlPath"))))
    assert argv.index("BatchMode=yes") > argv.index("StrictHostKeyChecking=accept-new")
    assert values(argv, "ControlPersist")[0] == "900"
    assert argv[-2] == "192.0.2.7"
    assert ssh.scripts == ["true"]


def test_what_a_person_wants_for_logins_is_kept_out(directory: Path) -> None:
    (directory / "config").write_text("Host *\n RemoteCommand tmux\n RequestTTY force\n PermitLocalCommand yes\n")
    ssh = Ssh(Answer(0, "", ""))
    host(directory, ssh, "-F", str(directory / "config")).sh("look", "true")
    program, *words = ssh.calls[0]
    shown = subprocess.run([program, "-G", *words], capture_output=True, text=True, check=False).stdout
    settings = dict(line.split(" ", 1) for line in shown.splitlines() if " " in line)
    assert settings.get("remotecommand", "none") == "none"
    assert (settings["requesttty"], settings["permitlocalcommand"]) == ("false", "no")


def test_another_way_to_the_host_is_another_connection(directory: Path) -> None:
    assert host(directory, Ssh()).control != host(directory, Ssh(), "-o", "User=bob").control


def test_connection_that_had_died_is_opened_anew(directory: Path) -> None:
    ssh = Ssh(Answer(255, "", "mux_client: broken pipe"), Answer(0, "fine", ""))
    one = host(directory, ssh)
    one.control.touch()
    assert one.sh("look", "true") == "fine"


def test_host_that_was_never_reached_is_asked_once(directory: Path) -> None:
    ssh = Ssh(Answer(255, "", "Connection refused"))
    with pytest.raises(ApiaryError, match="has no SSH server on that port"):
        host(directory, ssh).sh("look", "true")
    assert len(ssh.calls) == 1


def test_path_that_is_too_long_for_a_socket_is_told() -> None:
    one = Host(TARGET, ["ssh"], Path("/") / ("d" * 90), lambda line: Escalation(line))
    assert "existing_machine_socket_dir is /ddd" in one.problem()


def test_socket_is_forwarded_by_ssh_where_the_user_may_use_the_engines(directory: Path) -> None:
    ssh = Ssh()
    host(directory, ssh).forward("/var/run/docker.sock", as_root=False)
    assert f"{directory}/host1.sock:/var/run/docker.sock" in ssh.calls[0]


# Becoming root, with a shell in the place of sudo

RIGHT = "correct horse"
#: asks for a password as sudo does, with three tries
ASKING = """
for try in 1 2 3; do
  printf 'PASSWORD?' >&2
  IFS= read -r given
  [ "$given" = "{password}" ] && {{ echo BEGUN; exec cat; }}
  echo 'Sorry, try again.' >&2
done
exit 1
"""


def command(password: str = RIGHT, script: str = "") -> ssh_relay.Command:
    argv = ["sh", "-c", script or ASKING.format(password=RIGHT)]
    return ssh_relay.Command(argv, "PASSWORD?", "BEGUN", password)


def test_password_is_given_when_asked_for_and_the_rest_is_the_works() -> None:
    process = command().start()
    out, _ = process.communicate(b"to the work\n", timeout=10)
    assert out == b"to the work\n"


def test_password_is_not_sent_where_none_is_asked_for() -> None:
    process = command(script="echo BEGUN; exec cat").start()
    out, _ = process.communicate(b"to the work\n", timeout=10)
    assert out == b"to the work\n"


def test_wrong_password_is_refused_after_one_try() -> None:
    with pytest.raises(ssh_relay.RefusedError, match="the password is wrong") as refused:
        command("battery staple").start()
    assert refused.value.wrong


def test_refusal_without_a_question_is_told() -> None:
    with pytest.raises(ssh_relay.RefusedError, match="ann is not in the sudoers file"):
        command(script="echo 'ann is not in the sudoers file.' >&2; exit 1").start()


def test_password_is_in_no_word_of_the_command() -> None:
    assert "battery" not in repr(command("battery staple"))


# The relay


@pytest.fixture
def relay(directory: Path) -> Iterator[Path]:
    """A relay's socket; behind it, a program that echoes in capitals until its input ends, and then says so."""
    script = "echo BEGUN; tr a-z A-Z; echo the end"
    yield from started(directory, command(script=script), idle_seconds=60)


def started(directory: Path, one: ssh_relay.Command, idle_seconds: float) -> Iterator[Path]:
    path = directory / "host1.sock"
    order = {
        "command": {"argv": one.argv, "prompt": one.prompt, "success": one.success, "password": one.password},
        "socket": str(path),
        "mark": str(directory / "mark"),
        "idle_seconds": idle_seconds,
    }
    done = subprocess.run(
        [sys.executable, ssh_relay.__file__],
        input=json.dumps(order).encode(),
        capture_output=True,
        timeout=20,
        check=True,
    )
    assert done.stdout == b"ready\n"
    yield path
    path.unlink(missing_ok=True)  # which ends it
    assert gone(directory / "mark")


def gone(path: Path) -> bool:
    deadline = time.monotonic() + 30
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not path.exists()


def talk(path: Path, text: bytes) -> bytes:
    """Say *text* through a relay, and return all that comes back; nothing where it hangs up."""

    def say() -> None:
        with suppress(OSError):
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)

    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(path))
        speaker = threading.Thread(target=say)
        speaker.start()
        answer = b""
        with suppress(ConnectionResetError):
            while data := connection.recv(1 << 16):
                answer += data
        speaker.join()
    return answer


def test_relay_carries_both_ways_also_after_one_side_has_ended(relay: Path) -> None:
    assert talk(relay, b"hello\n") == b"HELLO\nthe end\n"


def test_relay_carries_much(relay: Path) -> None:
    assert talk(relay, b"x" * 5_000_000) == b"X" * 5_000_000 + b"the end\n"


def test_relay_is_its_owners_alone(relay: Path) -> None:
    assert relay.stat().st_mode & 0o077 == 0


def test_relay_ends_when_nobody_uses_it(directory: Path) -> None:
    relay = started(directory, command(script="echo BEGUN; cat"), idle_seconds=0.5)
    next(relay)
    assert gone(directory / "mark")
    assert not (directory / "host1.sock").exists()


def test_relay_ends_when_the_password_is_wrong(directory: Path) -> None:
    relay = started(directory, command("battery staple"), idle_seconds=60)
    assert b"the password is wrong" in talk(next(relay), b"hello\n")
    assert gone(directory / "mark")


@pytest.mark.parametrize("size_bytes", [0, 5_000_000])
def test_client_of_an_engine_that_is_not_reached_is_told_what_ssh_said(directory: Path, size_bytes: int) -> None:
    script = "echo 'kex_exchange_identification: Connection closed by remote host' >&2; exit 255"
    relay = started(directory, command(script=script), idle_seconds=60)
    client = docker.APIClient(base_url=f"unix://{next(relay)}", version="1.41", timeout=20)
    with pytest.raises(docker.errors.APIError, match="kex_exchange_identification") as refused:
        client.put_archive("c", "/", b"x" * size_bytes)
    assert refused.value.status_code == 502
    client.close()


@pytest.mark.parametrize(
    ("status", "told"), [(502, "the connection to the engine at .* failed: closed"), (500, "refused a request: closed")]
)
def test_what_ssh_said_later_is_not_taken_for_a_refusal(
    monkeypatch: pytest.MonkeyPatch, status: int, told: str
) -> None:
    monkeypatch.setattr(docker_api, "Client", MagicMock())
    response = requests.Response()
    response.status_code = status
    with pytest.raises(ApiaryError, match=told), docker_api.connect({"docker_host": "unix:///relay.sock"}):
        raise docker.errors.APIError("", response, "closed by remote host")


def test_relay_shows_its_password_to_nobody(relay: Path) -> None:
    pid = int((relay.parent / "mark").read_text())
    for name in ("cmdline", "environ"):
        assert RIGHT.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()

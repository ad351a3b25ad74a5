# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A boot2docker guest: its root is RAM, it has no Python, and what it keeps lies under /var/lib/boot2docker.

It is asked and changed over SSH, with scripts for its sh. What the files are to be is worked out here, as text.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.apiary.swarm.plugins.module_utils.docker_machine import Answer, run_bounded
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError

HOME = "/var/lib/boot2docker"
PROFILE = f"{HOME}/profile"
BACKUP = f"{HOME}/profile.before-apiary"
BOOTSYNC = f"{HOME}/bootsync.sh"
LOG = f"{HOME}/log/docker.log"
_BEGIN, _END = "# apiary: the fixed address of this machine", "# apiary: end of the fixed address"
#: a directory in here is there after a restart; and its name needs no quotes
KEPT = re.compile(r"(/var/lib/boot2docker|/mnt/sda1)(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
_LOG_LINES = 20
_LOOK_SECONDS = 90

#: what each line says: a word, and base64, so that every byte comes over as it is
_LOOK = f"""
say() {{ echo "$1 $(base64 | tr -d '\\n')"; }}
sudo cat {PROFILE} 2>/dev/null | say profile
sudo cat {BOOTSYNC} 2>/dev/null | say bootsync
ip -o -4 addr show | say interfaces
pid=$(cat /var/run/docker.pid 2>/dev/null)
{{ [ -n "$pid" ] && tr '\\0' '\\n' < "/proc/$pid/cmdline"; }} 2>/dev/null | say engine
docker --version 2>/dev/null | say version
for directory in $directories; do sudo [ -d "$directory" ] || echo "$directory"; done | say missing
ls -ln /var/run/docker.sock 2>/dev/null | awk '{{ print $4 }}' | say group
{{ [ -e /proc/net/ip_vs ] || sudo modprobe -D ip_vs >/dev/null 2>&1 || echo ip_vs; }} | say lacks
"""

_REMEDIES = (
    (
        r"too open|UNPROTECTED PRIVATE KEY",
        "others may read the key: chmod 600 {key} (in WSL, under /mnt, that takes 'options = \"metadata\"' in "
        "/etc/wsl.conf)",
    ),
    (
        r"REMOTE HOST IDENTIFICATION|Host key verification",
        "another machine has this address: if it is right, remove {known}",
    ),
    (r"Permission denied", "the machine does not know the key {key}: 'docker-machine ssh {name}' should say the same"),
    (r"", "is it running, and is the host-only network up? 'docker-machine status {name}', 'docker-machine ip {name}'"),
)

Run = Callable[[Sequence[str], Mapping[str, str], float, str], Answer]


@dataclass(frozen=True)
class Guest:
    """How a guest is reached over SSH."""

    name: str
    address: str
    #: the machine's directory, with its key
    directory: Path
    user: str = "docker"
    port: int = 22
    run: Run = run_bounded

    def sh(self, what: str, script: str, seconds: float = _LOOK_SECONDS) -> str:
        """Run *script* in the guest to *what*, such as "read its profile", and return what it prints."""
        key, known = self.directory / "id_rsa", self.directory / "known_hosts"
        options = {
            "BatchMode": "yes",
            # A machine that was made anew has the address of the old one, and this computer may go on with that one's
            # MAC for most of a minute.
            "ConnectionAttempts": "6",
            "ConnectTimeout": "10",
            "HostKeyAlias": self.name,
            "IdentitiesOnly": "yes",
            "LogLevel": "ERROR",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": str(known),
        }
        flags = [word for option, value in options.items() for word in ("-o", f"{option}={value}")]
        argv = [
            "ssh",
            "-F",
            os.devnull,
            *flags,
            "-i",
            str(key),
            "-p",
            str(self.port),
            f"{self.user}@{self.address}",
            "sh",
            "-s",
        ]
        where = f"{self.name} ({self.user}@{self.address})"
        try:
            answer = self.run(argv, os.environ, seconds, script)
        except TimeoutError:
            raise ApiaryError(f"{where} did not {what} within {seconds:g} s: look at the machine's console") from None
        except FileNotFoundError:
            raise ApiaryError(
                "this computer has no ssh: install the OpenSSH client (on Debian: apt-get install openssh-client)"
            ) from None
        if answer.status == 255:
            remedy = next(advice for pattern, advice in _REMEDIES if re.search(pattern, answer.text))
            raise ApiaryError(
                f"cannot reach {where} over SSH to {what}: {answer.text}\n"
                + remedy.format(key=key, known=known, name=self.name)
            )
        if answer.status != 0:
            raise ApiaryError(f"{where} could not {what} (exit status {answer.status}): {answer.text}")
        return answer.out

    def look(self, directories: Iterable[str] = ()) -> Sight:
        """Read all that is of interest, at once; also which of *directories* are not there."""
        wanted = shlex.quote(" ".join(directories))
        return Sight.parse(self.sh("tell its state", f"directories={wanted}\n{_LOOK}"))

    def swarm_address(self) -> str:
        """The address that its swarm knows it by; empty where it is in none. Told even where the engine is down."""
        written = "/var/lib/docker/swarm/docker-state.json"
        asked = (
            "docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.NodeAddr}}' 2>/dev/null"
            f" || sudo cat {written} 2>/dev/null || true"
        )
        said = self.sh("tell its swarm", asked).strip()
        if found := re.search(r'"LocalAddr":\s*"([^"]*)"', said):
            return found[1]
        state, _, address = said.partition(" ")
        return address if state in ("active", "pending", "locked", "error") else ""

    def make(self, directories: Iterable[str]) -> None:
        """Make directories for what a stack binds."""
        self.sh("make directories", f"sudo mkdir -p {' '.join(map(shlex.quote, directories))}")

    def write(self, what: str, path: str, text: str, mode: str = "0644") -> None:
        """Put *text* to *path*, whole or not at all."""
        self.sh(what, _writing(path, text, mode))

    def replace_profile(self, text: str) -> None:
        """Put a new profile in place of the one that is there, which is kept, and restart the engine."""
        self.sh(
            "take a new profile",
            f"set -e\n[ ! -e {PROFILE} ] || sudo cp -p {PROFILE} {BACKUP}\n{_writing(PROFILE, text)}{_RESTART}",
            seconds=120,
        )

    def restart_engine(self) -> None:
        self.sh("restart its engine", _RESTART, seconds=120)

    def log_end(self) -> str:
        """The end of the engine's log."""
        return self.sh("show its engine's log", f"sudo tail -n {_LOG_LINES} {LOG} 2>/dev/null || true").rstrip()


#: stop waits 30 s for the engine to end; what it says is of use only where start then fails
_RESTART = """\
sudo /etc/init.d/docker stop >/dev/null 2>&1 || { sleep 5; sudo /etc/init.d/docker stop >/dev/null 2>&1; } || true
sudo /etc/init.d/docker start >/dev/null
"""


def _writing(path: str, text: str, mode: str = "0644") -> str:
    encoded = base64.b64encode(text.encode()).decode()
    return (
        f"sudo sh -c 'umask 077; base64 -d > {path}.new' <<'END' || exit 1\n{encoded}\nEND\n"
        f"sudo chmod {mode} {path}.new && sudo mv {path}.new {path} || exit 1\n"
    )


@dataclass(frozen=True)
class Sight:
    """What a guest says of itself."""

    profile: str = ""
    bootsync: str = ""
    #: name of the interface by address
    interfaces: Mapping[str, str] = None  # type: ignore[assignment]  # set by parse
    #: the words that its engine was started with; none where it does not run
    engine: tuple[str, ...] = ()
    version: str = ""
    lacks: tuple[str, ...] = ()
    #: number of the group that may use the engine's socket; 0 where only root may, or there is none
    group: int = 0
    #: directories that are not there
    missing: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Sight:
        said = {}
        for line in text.splitlines():
            word, _, encoded = line.partition(" ")
            said[word] = base64.b64decode(encoded).decode(errors="replace")
        rows = re.findall(r"^\d+:\s+(\S+)\s+inet\s+([0-9.]+)/", said.get("interfaces", ""), re.MULTILINE)
        version = re.search(r"\bversion v?([^\s,]+)", said.get("version", ""))
        return cls(
            profile=said.get("profile", ""),
            bootsync=said.get("bootsync", ""),
            interfaces={address: name for name, address in rows},
            engine=tuple(said.get("engine", "").split("\n")) if said.get("engine") else (),
            version=version[1] if version else "",
            lacks=tuple(said.get("lacks", "").split()),
            group=int(said.get("group", "").strip() or 0),
            missing=tuple(said.get("missing", "").split()),
        )

    @property
    def listens(self) -> frozenset[str]:
        """The TCP addresses that the engine was started with, as given: tcp://192.168.59.31:2376."""
        return frozenset(word for word in self.engine if word.startswith("tcp://"))

    @property
    def ports(self) -> list[int]:
        """The ports on which the engine listens."""
        return sorted({int(word.rpartition(":")[2]) for word in self.listens})

    @property
    def verifies(self) -> bool:
        return "--tlsverify" in self.engine


# The profile


def listening(listen: str, ports: Iterable[int]) -> list[str]:
    """Return the TCP addresses of the API."""
    return [f"tcp://{listen}:{port}" for port in ports]


def patched_profile(profile: str, listen: str, ports: Sequence[int], *, tls: bool) -> str:
    """Return *profile* with DOCKER_TLS and DOCKER_HOST as wanted, and all else as it is.

    The form of DOCKER_HOST is the tutorial's: the socket is between the ports.
    """
    first, *others = listening(listen, ports)
    words = (first, "unix:///var/run/docker.sock", *others) if others else (first,)
    hosts = " ".join(f"-H {word}" for word in words)
    # docker-machine writes auto; all but no means TLS
    kept = re.search(r"^(?:export\s+)?DOCKER_TLS=(['\"]?)(\w*)\1\s*$", profile, re.MULTILINE)
    on = kept[2] if kept and kept[2] != "no" else "auto"
    patched = _assigned(profile, "DOCKER_TLS", on if tls else "no")
    return _assigned(patched, "DOCKER_HOST", f"'{hosts}'")


def _assigned(profile: str, name: str, value: str) -> str:
    """Return *profile* with each assignment of *name*, also one of several lines, replaced; or with one added."""
    pattern = re.compile(rf"^((?:export\s+)?{name}=)(?:'[^']*'|\"[^\"]*\"|[^\s'\"]*)[ \t]*$", re.MULTILINE)
    if pattern.search(profile):
        return pattern.sub(lambda found: found[1] + value, profile)
    gap = "" if not profile or profile.endswith("\n") else "\n"
    return f"{profile}{gap}{name}={value}\n"


def open_profile(profile: str) -> str:
    """Return *profile* as docker-machine leaves it: TLS, on every address, whatever addresses the machine will have."""
    return patched_profile(profile, "0.0.0.0", [2376], tls=True)  # noqa: S104  with client certificates


def deviations(sight: Sight, listen: str, ports: Sequence[int], *, tls: bool) -> list[str]:
    """Return what is to be done so that the engine listens as wanted; nothing if it does."""
    actions = []
    if patched_profile(sight.profile, listen, ports, tls=tls) != sight.profile:
        actions.append(f"patch the profile: TLS {'on' if tls else 'off'}, API on {listen}:{', '.join(map(str, ports))}")
    if actions or not sight.engine or sight.verifies != tls or not sight.listens >= set(listening(listen, ports)):
        actions.append("restart the engine" if sight.engine else "start the engine")
    return actions


# The fixed address


def pinned_bootsync(bootsync: str, interface: str, address: str, prefix: int) -> str:
    """Return *bootsync* with our part in it, which fixes the address at each start, and the user's parts as they are.

    It runs before the engine starts. DHCP has been asked by then, and would go on changing the address.
    """
    ours = f"""{_BEGIN}
for try in 1 2 3 4 5; do [ -s /var/run/udhcpc.{interface}.pid ] && break; sleep 1; done
[ ! -s /var/run/udhcpc.{interface}.pid ] || kill "$(cat /var/run/udhcpc.{interface}.pid)"
ip -4 addr flush dev {interface}
ip addr add {address}/{prefix} broadcast + dev {interface}
ip link set {interface} up
{_END}
"""
    own = re.compile(rf"^{re.escape(_BEGIN)}$.*?^{re.escape(_END)}\n?", re.MULTILINE | re.DOTALL)
    if own.search(bootsync):
        return own.sub(lambda _found: ours, bootsync, count=1)
    if not bootsync:
        return f"#!/bin/sh\n{ours}"
    # First: what the user's part does, it does with the address that stays.
    shebang, newline, rest = bootsync.partition("\n") if bootsync.startswith("#!") else ("#!/bin/sh", "\n", bootsync)
    return f"{shebang}{newline or chr(10)}{ours}{rest}"

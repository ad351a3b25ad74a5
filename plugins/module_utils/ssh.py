# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host over SSH: scripts for its sh, as its user or as root, and a socket of this computer that leads to its engine.

All goes through one connection, which stays open for a while (ControlPersist), so that each further command takes some
hundredths of a second. The socket is forwarded over it by ssh itself (-L) where the user may use the engine's; where
only root may, by ssh_relay.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.apiary.swarm.plugins.module_utils import ssh_relay
from ansible_collections.apiary.swarm.plugins.module_utils.docker_machine import Answer, run_bounded
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.files import private_directory
from ansible_collections.apiary.swarm.plugins.module_utils.names import check_machine
from ansible_collections.apiary.swarm.plugins.module_utils.preflight import SOCKET_PATH_LIMIT

#: for what is done at once; installing takes longer
COMMAND_SECONDS = 60
_READY_SECONDS = 10
#: ssh makes a control socket under another name first, with a dot and 16 characters more
_CONTROL_SUFFIX = 17
#: what ssh takes from its command line before all else: the first value of an option counts
_ALWAYS = {
    "Compression": "no",
    "StreamLocalBindMask": "0177",
    "StreamLocalBindUnlink": "yes",
    # what a person's own configuration may want for logins
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "PermitLocalCommand": "no",
}
#: what it takes unless the inventory or ssh's own configuration say otherwise
_OTHERWISE = {"BatchMode": "yes", "ServerAliveInterval": "15", "ServerAliveCountMax": "3"}

#: reads a script to its end before it runs it, whatever shell the user has
_WHOLE = "exec sh -c 'script=$(cat); exec sh -c \"$script\" </dev/null'"

Run = Callable[[Sequence[str], Mapping[str, str], float, str], Answer]


@dataclass(frozen=True)
class Escalation:
    """How a user becomes root: a shell's command line around another, as Ansible's become plugin has it."""

    line: str
    prompt: str = ""
    success: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class Target:
    """Where a host is, for messages: what the inventory says of it."""

    name: str
    host: str
    port: int | None = None
    user: str | None = None
    key: str | None = None
    #: what else ssh is given, by ansible_ssh_common_args and its like
    arguments: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_machine(self.name)

    @property
    def where(self) -> str:
        address = f"{self.user}@{self.host}" if self.user else self.host
        return f"{self.name} ({address}{f', port {self.port}' if self.port else ''})"

    @property
    def by_hand(self) -> str:
        """The command line with which a person gets there."""
        port = ["-p", str(self.port)] if self.port else []
        key = ["-i", self.key] if self.key else []
        address = f"{self.user}@{self.host}" if self.user else self.host
        return shlex.join(["ssh", *port, *key, *self.arguments, address])

    @property
    def known_as(self) -> str:
        """The host's name in a file of known keys."""
        return f"[{self.host}]:{self.port}" if self.port and self.port != 22 else self.host


#: what ssh says, and what there is to be done about it
_EXPLANATIONS: tuple[tuple[str, Callable[[Target, str], str]], ...] = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        lambda target, said: (
            "shows another host key than the one that is known: somebody else may have its address. If it was made "
            f"anew, forget the old key: {_forgetting(target, said)}"
        ),
    ),
    (
        "Host key verification failed",
        lambda target, said: (
            "has a host key that is not known here. Compare its fingerprint with what the host's owner says, and say "
            f"yes: {target.by_hand}"
        ),
    ),
    (
        "UNPROTECTED PRIVATE KEY FILE|bad permissions",
        lambda target, said: f"refuses a key that others may read: chmod 600 {shlex.quote(target.key or '')}",
    ),
    (
        "Identity file .* not accessible|no such identity",
        lambda target, said: f"ansible_ssh_private_key_file is {target.key!r}, and there is no such file: correct it",
    ),
    (
        "Permission denied|Too many authentication failures",
        lambda target, said: (
            f"does not let {target.user or 'the user'} in with {f'the key {target.key}' if target.key else 'any key'} "
            "(ansible_user, ansible_ssh_private_key_file). Give the host the key (ssh-copy-id); where the key has a "
            "passphrase, add it to an agent first (ssh-add)"
        ),
    ),
    (
        "Could not resolve hostname",
        lambda target, said: f"ansible_host is {target.host!r}, which has no address: correct it in the inventory",
    ),
    (
        "Connection refused",
        lambda target, said: (
            "has no SSH server on that port: correct ansible_host or ansible_port, or start the server (sshd) there"
        ),
    ),
    (
        "timed out|No route to host|Network is unreachable",
        lambda target, said: (
            "does not answer: is it running, is ansible_host right, and does every firewall on the way let SSH through?"
        ),
    ),
    ("", lambda target, said: f"cannot be reached; this shows more: {target.by_hand}"),
)


def explain(target: Target, said: str) -> str:
    """Return what a failed connection means, with what ssh said and what to do."""
    advice = next(explanation for pattern, explanation in _EXPLANATIONS if re.search(pattern, said, re.IGNORECASE))
    lines = [line.strip() for line in said.splitlines() if line.strip(" @\r")]
    last = next((line for line in reversed(lines) if not line.startswith("Control socket")), "")
    return f"{target.where}: {advice(target, said)}" + (f" [ssh: {last}]" if last else "")


def _forgetting(target: Target, said: str) -> str:
    found = re.search(r"Offending \S+ key in (\S+?):\d+", said)
    return shlex.join(["ssh-keygen", *(["-f", found[1]] if found else []), "-R", target.known_as])


class Host:
    """A host that is asked and changed."""

    def __init__(
        self,
        target: Target,
        argv: Sequence[str],
        directory: Path,
        escalation: Callable[[str], Escalation],
        idle_seconds: int = 900,
        run: Run = run_bounded,
    ) -> None:
        """*argv* is ssh with all that the inventory says, *directory* where sockets may lie."""
        self.target = target
        self.directory = directory
        self.escalation = escalation
        self.idle_seconds = idle_seconds
        self._run = run
        self.is_root = False
        ssh, *given = argv
        # Another user, key or way to the host is another connection.
        suffix = hashlib.sha256("\0".join(argv).encode()).hexdigest()[:8]
        self.control = directory / f"{target.name}-{suffix}"
        self._before = [ssh, *_options({**_ALWAYS, "ControlPath": str(self.control)})]
        self._after = [*given, *_options(_OTHERWISE), target.host]

    @property
    def socket(self) -> Path:
        """The socket of this computer that leads to the engine's."""
        return socket_of(self.directory, self.target.name)

    @property
    def mark(self) -> Path:
        """There while a relay serves the socket for this very user and way."""
        return self.control.with_name(f"{self.control.name}.relay")

    def problem(self) -> str:
        """Say why its sockets cannot be made; nothing where they can."""
        longest = max(len(os.fsencode(self.control)) + _CONTROL_SUFFIX, len(os.fsencode(self.socket)))
        if longest <= SOCKET_PATH_LIMIT:
            return ""
        return (
            f"existing_machine_socket_dir is {self.directory}, which is too long for the path of a socket of "
            f"{self.target.name} ({longest} bytes, {SOCKET_PATH_LIMIT} are allowed): choose a shorter one, such "
            "as ~/.apiary"
        )

    # The connection

    def sh(self, what: str, script: str, seconds: float = COMMAND_SECONDS, forwarding: str = "") -> str:
        """Run *script* as the host's user to *what*, and return what it prints; opens the connection if need be.

        With *forwarding*, the engine's socket, our socket leads there from then on.
        """
        # What the script calls must not read the rest of it.
        private_directory(self.directory)
        forward = ["-L", f"{self.socket}:{forwarding}"] if forwarding else []
        keep = {"ControlMaster": "auto", "ControlPersist": str(self.idle_seconds)}
        argv = [*self._before, *_options(keep), *forward, *self._after, _WHOLE]
        was_open = self.control.exists()
        answer = self._bounded(what, argv, seconds, script)
        if answer.status == 255 and was_open:  # the one that was there had died: this computer slept, or has moved
            answer = self._bounded(what, argv, seconds, script)
        if answer.status == 255:
            raise ApiaryError(explain(self.target, answer.err))
        if answer.status != 0:
            raise ApiaryError(f"{self.target.where} could not {what} (exit status {answer.status}): {answer.text}")
        return answer.out

    def _bounded(self, what: str, argv: Sequence[str], seconds: float, script: str) -> Answer:
        try:
            return self._run(argv, os.environ, seconds, script)
        except TimeoutError:
            self.close()
            raise ApiaryError(f"{self.target.where} did not {what} within {seconds:g} s") from None
        except FileNotFoundError:
            raise ApiaryError(
                "this computer has no ssh: install the OpenSSH client (on Debian: apt-get install openssh-client)"
            ) from None

    def forward(self, engine: str, *, as_root: bool) -> None:
        """Have our socket lead to the engine's, as the host's user or as root; what does so already is left alone."""
        if as_root and not self.is_root:
            if not self._is_relayed():
                self._start_relay(f"exec docker -H unix://{shlex.quote(engine)} system dial-stdio")
        elif self.mark.exists() or not self.leads():
            self.mark.unlink(missing_ok=True)
            self.sh("forward its engine's socket", "true", forwarding=engine)

    def _is_relayed(self) -> bool:
        """Say whether our relay runs: a connection to see that would be one to the host, with all that sudo does."""
        try:
            os.kill(int(self.mark.read_text()), 0)
        except (OSError, ValueError):
            return False
        return self.socket.exists()

    def leads(self) -> bool:
        """Say whether something takes connections at our socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_READY_SECONDS)
            try:
                connection.connect(str(self.socket))
            except OSError:
                return False
        return self.control.exists()

    def _start_relay(self, line: str) -> None:
        order = {
            "command": dataclasses.asdict(self._as_root(line)),
            "socket": str(self.socket),
            "mark": str(self.mark),
            "idle_seconds": self.idle_seconds,
        }
        started = subprocess.run(
            [sys.executable, "-S", "-E", ssh_relay.__file__, self.target.name],
            input=json.dumps(order).encode(),
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if started.stdout != b"ready\n":
            raise ApiaryError(
                f"{self.target.where}: the relay to its engine could not be started: "
                f"{started.stderr.decode(errors='replace').strip()}"
            )

    def close(self) -> None:
        """End the connection, and what goes through it; the sockets are gone then."""
        self.mark.unlink(missing_ok=True)
        argv = [*self._before, "-O", "exit", *self._after]
        with contextlib.suppress(TimeoutError, OSError):
            self._run(argv, os.environ, _READY_SECONDS, "")
        for path in (self.socket, self.control):
            path.unlink(missing_ok=True)

    # As root

    def root(self, what: str, script: str, seconds: float = COMMAND_SECONDS) -> str:
        """Run *script* as root to *what*, and return what it prints."""
        if self.is_root:
            return self.sh(what, script, seconds)
        command = self._as_root(_WHOLE)
        process = self._begun(command)
        try:
            out, err = process.communicate(script.encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            ssh_relay.end(process)
            raise ApiaryError(f"{self.target.where} did not {what} within {seconds:g} s") from None
        if process.returncode != 0:
            text = "\n".join(filter(None, [out.decode(errors="replace"), err.decode(errors="replace")])).strip()
            raise ApiaryError(f"{self.target.where} could not {what} (exit status {process.returncode}): {text}")
        return out.decode(errors="replace")

    def _as_root(self, line: str) -> ssh_relay.Command:
        escalation = self.escalation(line)
        argv = [*self._before, "-o", "ControlMaster=no", *self._after, f"exec env LC_ALL=C {escalation.line}"]
        return ssh_relay.Command(argv, escalation.prompt, escalation.success, escalation.password)

    def _begun(self, command: ssh_relay.Command) -> subprocess.Popen[bytes]:
        try:
            return command.start()
        except ssh_relay.RefusedError as error:
            raise ApiaryError(
                refusal(self.target, str(error), wrong=error.wrong, given=bool(command.password))
            ) from None


def refusal(target: Target, said: str, *, wrong: bool, given: bool) -> str:
    """Return what it means that sudo did not do it."""
    user = target.user or "the user"
    if re.search(r"not in the sudoers|not allowed|may not run", said):
        advice = f"sudo does not let {user} become root: add the user to the group sudo (wheel), or set ansible_user"
    elif re.search(r"not found|No such file", said):
        advice = "there is no sudo: install it, or log in as root (ansible_user: root)"
    elif wrong and given:
        advice = (
            f"the sudo password of {user} is wrong: correct ansible_become_password, or what --ask-become-pass is told"
        )
    elif re.search(r"password|terminal|askpass", said):
        advice = (
            f"sudo wants a password of {user}: run with --ask-become-pass, or set ansible_become_password (in a vault) "
            "or ANSIBLE_BECOME_PASS in the environment"
        )
    else:
        advice = f"{user} cannot become root; this shows more: {target.by_hand} sudo id"
    return f"{target.where}: {advice} [sudo: {said}]"


def socket_of(directory: Path | str, name: str) -> Path:
    """Return the socket of this computer that leads to the engine of the host *name*."""
    return Path(directory) / f"{name}.sock"


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until *condition* holds, for *seconds* at most; say whether it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _options(options: Mapping[str, str]) -> list[str]:
    return [word for option, value in options.items() for word in ("-o", f"{option}={value}")]

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A socket on this computer that leads to one on a host, for a user who may use that one by sudo only.

Each connection is a command of its own over SSH, so that sudo is asked each time as its rules say. Run as a program, it
reads what to do as JSON from its standard input, prints "ready", and goes on in the background. It ends when nobody has
used it for a while, when its socket is gone or another's, and when sudo refuses. The password is in its memory alone.

Nothing but the standard library is imported: it is run by its path.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: how often it looks whether it is still wanted
_LOOK_SECONDS = 1.0
_ESCALATION_SECONDS = 60.0
_ANSWER_SECONDS = 10.0
_CHUNK_BYTES = 1 << 16


class RefusedError(Exception):
    """What sudo, or SSH, said instead of running the command; ``wrong`` when the password was not the right one."""

    def __init__(self, text: str, *, wrong: bool = False) -> None:
        super().__init__(text)
        self.wrong = wrong


@dataclass(frozen=True)
class Command:
    """A command for a host: it may ask for a password with ``prompt``, and prints ``success`` before its work."""

    argv: Sequence[str]
    prompt: str = ""
    success: str = ""
    password: str = field(default="", repr=False)

    def start(self) -> subprocess.Popen[bytes]:
        """Run it, and return once its work has begun: what is written and read from then on is the work's."""
        pipe = subprocess.PIPE
        process = subprocess.Popen(self.argv, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        try:
            self._escalate(process)
        except BaseException:
            end(process)
            raise
        return process

    def _escalate(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin and process.stdout and process.stderr  # noqa: S101  they are pipes
        out, err, asked = b"", b"", 0
        deadline = time.monotonic() + _ESCALATION_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            selector.register(process.stderr, selectors.EVENT_READ)
            while self.success.encode() not in out or not out.endswith(b"\n"):
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise RefusedError(_text(err) or f"nothing was heard for {_ESCALATION_SECONDS:g} s")
                for key, _events in ready:
                    # One by one: what follows the line belongs to the work.
                    data = os.read(key.fd, 1 if key.fileobj is process.stdout else _CHUNK_BYTES)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is process.stdout:
                        out += data
                    else:
                        err += data
                if self.prompt and err.count(self.prompt.encode()) > asked:
                    asked += 1
                    if asked > 1:
                        raise RefusedError("the password is wrong", wrong=True)
                    os.write(process.stdin.fileno(), self.password.encode() + b"\n")
                if not selector.get_map():
                    raise RefusedError(_text(err.replace(self.prompt.encode(), b"")) or _text(out), wrong=asked > 0)


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()


def _text(output: bytes) -> str:
    return " ".join(output.decode(errors="replace").split())


class Relay:
    """The socket, and the connections that are open."""

    def __init__(self, command: Command, path: Path, mark: Path, idle_seconds: float) -> None:
        self.command = command
        self.path = path
        self.mark = mark
        self.idle_seconds = idle_seconds
        self.listener = socket.socket(socket.AF_UNIX)
        # The old one leads somewhere until the new one does.
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)
        self.listener.bind(str(new))
        self.listener.listen(128)
        new.replace(path)
        self.inode = path.stat().st_ino
        mark.write_text(f"{os.getpid()}\n")
        self.open = 0
        self.used = time.monotonic()
        self.refused = False
        self.lock = threading.Lock()

    def serve(self) -> None:
        """Serve until it is not wanted any more."""
        self.mark.write_text(f"{os.getpid()}\n")
        self.listener.settimeout(_LOOK_SECONDS)
        while self._is_wanted():
            with contextlib.suppress(TimeoutError):
                connection, _address = self.listener.accept()
                with self.lock:
                    self.open += 1
                threading.Thread(target=self._relay, args=(connection,), daemon=True).start()
        if self._is_ours():
            self.path.unlink(missing_ok=True)
        self.mark.unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        try:
            return self.path.stat().st_ino == self.inode
        except OSError:
            return False

    def _is_wanted(self) -> bool:
        with self.lock:
            idle = not self.open and time.monotonic() - self.used > self.idle_seconds
        return self._is_ours() and not idle and not self.refused

    def _relay(self, connection: socket.socket) -> None:
        try:
            with connection:
                try:
                    process = self.command.start()
                except RefusedError as error:
                    _answer(connection, str(error))
                    self.refused = self.refused or error.wrong
                else:
                    _carry(connection, process)
        finally:
            with self.lock:
                self.open -= 1
                self.used = time.monotonic()


def _answer(connection: socket.socket, text: str) -> None:
    """Answer in the place of an engine that was not reached, as an engine answers: with what was said instead."""
    body = json.dumps({"message": text}).encode()
    head = f"HTTP/1.1 502 Bad Gateway\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    connection.settimeout(_ANSWER_SECONDS)
    with contextlib.suppress(OSError):
        connection.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)
        connection.shutdown(socket.SHUT_WR)
        # With some of the request unread when it is closed, the other side would lose the answer.
        while connection.recv(_CHUNK_BYTES):
            pass


def _carry(connection: socket.socket, process: subprocess.Popen[bytes]) -> None:
    """Carry what either side says to the other, until the host's side has ended."""
    assert process.stdin and process.stdout and process.stderr  # noqa: S101  they are pipes
    source, sink, errors = process.stdout, process.stdin, process.stderr

    def to_host() -> None:
        with contextlib.suppress(OSError):
            while data := connection.recv(_CHUNK_BYTES):
                view = memoryview(data)
                while view:
                    view = view[os.write(sink.fileno(), view) :]
        with contextlib.suppress(OSError):
            sink.close()

    def drain() -> None:
        while os.read(errors.fileno(), _CHUNK_BYTES):
            pass

    threads = [threading.Thread(target=work, daemon=True) for work in (to_host, drain)]
    try:
        for thread in threads:
            thread.start()
        with contextlib.suppress(OSError):
            while data := os.read(source.fileno(), _CHUNK_BYTES):
                connection.sendall(data)
    finally:
        process.kill()
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:  # which have to be out of what is closed now
            thread.join()
        end(process)


def main() -> int:
    """Do what the standard input says, in the background once the socket is there."""
    order: dict[str, Any] = json.load(sys.stdin)
    os.umask(0o077)
    command = Command(**order["command"])
    relay = Relay(command, Path(order["socket"]), Path(order["mark"]), order["idle_seconds"])
    if os.fork():
        # What waits for this process goes on; not sooner, as a connection may come at once.
        os.write(sys.stdout.fileno(), b"ready\n")
        os._exit(0)
    os.setsid()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    relay.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())

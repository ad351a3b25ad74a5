# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A visit counter in Redis that never keeps a visitor waiting for a Redis that is not there.

It says two words of Redis' protocol, AUTH and INCR: to import the client library would take ten times as long as to
start Python, of a tenth of a CPU.
"""

from __future__ import annotations

import time
from _socket import AF_INET, SOCK_STREAM, socket
from _thread import allocate_lock, start_new_thread

PORT = 6379
TIMEOUT_SECONDS = 0.5
RETRY_SECONDS = 5.0


class RedisError(Exception):
    """What Redis answered, where it does not do as it was told."""


class Visits:
    """Counts in the Redis at *host*, which may come and go; its password is in *password_file*, if there is one.

    Looking up a name that does not exist can take many seconds, so a thread does it, and never for a request.
    """

    def __init__(self, host: str, password_file: str = "") -> None:
        self.host = host
        self.password_file = password_file
        self._redis: Redis | None = None
        self._asking = allocate_lock()
        self._lock = allocate_lock()
        self._connecting = False
        self._next_attempt = 0.0  # on the monotonic clock

    def count(self) -> int | None:
        """Count one visit and return the new number, or None while there is no Redis."""
        with self._asking:
            if self._redis is not None:
                try:
                    return int(self._redis.ask("INCR", "visits"))
                except (OSError, RedisError, ValueError) as error:  # the visitor gets an answer, and the log says why
                    print(f"Redis at {self.host}: {error}")
                    self._redis.close()
                    self._redis = None
        self.start_connecting()
        return None

    def start_connecting(self) -> None:
        """Look for Redis in the background, unless a thread does so or the last attempt was a moment ago."""
        with self._lock:
            if self._connecting or time.monotonic() < self._next_attempt:
                return
            self._connecting = True
        start_new_thread(self._connect, ())

    def _connect(self) -> None:
        try:
            redis = Redis(self.host)
            if password := password_in(self.password_file):
                redis.ask("AUTH", password)
            self._redis = redis
        except RedisError as error:
            print(f"Redis at {self.host}: {error}")
        except OSError:
            pass  # no such name, or nobody answers there: try again later
        finally:
            with self._lock:
                self._next_attempt = time.monotonic() + RETRY_SECONDS
                self._connecting = False


class Redis:
    """One connection to Redis."""

    def __init__(self, host: str) -> None:
        self._socket = socket(AF_INET, SOCK_STREAM)
        self._socket.settimeout(TIMEOUT_SECONDS)
        self._socket.connect((host, PORT))

    def ask(self, *words: str) -> str:
        """Send a command and return the answer, which is one line."""
        parts = [word.encode() for word in words]
        self._socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        answer = b""
        while not answer.endswith(b"\r\n"):
            received = self._socket.recv(4096)
            if not received:
                raise ConnectionResetError("closed the connection")
            answer += received
        line = answer.decode("utf-8", "replace").rstrip()
        if line.startswith("-"):
            raise RedisError(line[1:])
        return line[1:]

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()


def password_in(path: str) -> str | None:
    """Return the password in the file *path*, or None where there is no such file: a Redis without one."""
    try:
        if not path:
            return None
        with open(path, encoding="utf-8") as file:
            return file.read().rstrip("\r\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        print(f"the password's file cannot be read: {error}")
        raise

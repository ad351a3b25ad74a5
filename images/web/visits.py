# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A visit counter in Redis that never keeps a visitor waiting for a Redis that is not there."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path
from typing import Any

PORT = 6379
TIMEOUT_SECONDS = 0.5
RETRY_SECONDS = 5.0


class Visits:
    """Counts in the Redis at *host*, which may come and go; its password is in *password_file*, if there is one.

    Looking up a name that does not exist can take many seconds, and importing the Redis client takes a second of a
    tenth of a CPU. So a thread does both: names are never looked up for a request, and the client is imported once
    there is a Redis.
    """

    def __init__(self, host: str, password_file: str = "") -> None:
        self.host = host
        self.password_file = password_file
        self._client: Any = None
        self._lock = threading.Lock()
        self._connecting: threading.Thread | None = None
        self._next_attempt = 0.0  # on the monotonic clock

    def count(self) -> int | None:
        """Count one visit and return the new number, or None while there is no Redis."""
        client = self._client
        if client is not None:
            try:
                return int(client.incr("visits"))
            except Exception as error:  # whatever it is, the visitor gets an answer, and this is where it can be read
                print(f"Redis at {self.host}: {error}")
                self._client = None
        self.start_connecting()
        return None

    def start_connecting(self) -> None:
        """Look for Redis in the background, unless a thread does so or the last attempt was a moment ago."""
        with self._lock:
            if self._connecting is not None or time.monotonic() < self._next_attempt:
                return
            self._connecting = threading.Thread(target=self._connect, name="redis", daemon=True)
            self._connecting.start()

    def _connect(self) -> None:
        try:
            with contextlib.suppress(OSError):  # no such name, or nobody answers there: try again later
                with socket.create_connection((self.host, PORT), TIMEOUT_SECONDS) as probe:
                    address = probe.getpeername()[0]
                self._client = new_client(address, password_in(self.password_file))
        finally:
            with self._lock:
                self._next_attempt = time.monotonic() + RETRY_SECONDS
                self._connecting = None


def password_in(path: str) -> str | None:
    """Return the password in the file *path*, or None where there is no such file: a Redis without one."""
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n") if path else None
    except FileNotFoundError:
        return None
    except OSError as error:
        print(f"the password's file cannot be read: {error}")
        raise


def new_client(address: str, password: str | None) -> Any:
    """Return a Redis client that asks *address* and gives up soon."""
    import redis

    return redis.Redis(
        host=address,
        port=PORT,
        password=password,
        socket_connect_timeout=TIMEOUT_SECONDS,
        socket_timeout=TIMEOUT_SECONDS,
        retry_on_timeout=False,
    )

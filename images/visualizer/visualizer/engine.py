# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The manager's engine, asked through its unix socket.

Whoever may use that socket rules the machine, so it is asked with GET requests alone, and only for what the page shows:
_GetRequest lets nothing else out.
"""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from visualizer.redact import redacted

OLDEST = (1, 40)  # engine 19.03
#: asked for where the engine's range has it; nothing that is used here is different in later ones
WANTED = (1, 41)
#: seconds until an engine that says nothing counts as away
PATIENCE = 10.0

_ALLOWED = re.compile(r"/version|/v1\.\d+/(nodes|services|tasks|events)")
_SEPARATORS = re.compile(r"[\[\],\s]*")


class EngineError(Exception):
    """Why the swarm cannot be seen, and what to do about it."""

    def __init__(self, problem: str, remedy: str, status: int = 0) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
        self.status = status


class ForbiddenRequest(Exception):
    """A request that this program must never send."""


class _GetRequest(aiohttp.ClientRequest):
    """The one way to the socket, whatever method of the session is called."""

    def __init__(self, method: str, url: Any, **kwargs: Any) -> None:
        if method != "GET" or not _ALLOWED.fullmatch(url.path) or kwargs.get("data") is not None:
            raise ForbiddenRequest(f"{method} {url.path}")
        super().__init__(method, url, **kwargs)


class Engine:
    """Reads from the engine behind a socket."""

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self._version = ""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(socket),
            request_class=_GetRequest,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE, sock_read=PATIENCE),
        )

    async def close(self) -> None:
        """Let go of the socket."""
        await self._session.close()

    async def connect(self) -> None:
        """Agree on a version of the API."""
        answer: dict[str, Any] = {}
        async for item in _objects(self._read("/version", {}, PATIENCE)):
            answer = item
        newest, oldest = _numbers(answer.get("ApiVersion")), _numbers(answer.get("MinAPIVersion"))
        if newest < OLDEST:
            raise EngineError(
                f"The engine is version {answer.get('Version')}, with API {answer.get('ApiVersion')}: too old",
                "Use Docker Engine 19.03 (API 1.40) or newer.",
            )
        self._version = "v{}.{}".format(*min(max(WANTED, oldest), newest))

    def items(self, path: str, filters: Mapping[str, Iterable[str]]) -> AsyncIterator[dict[str, Any]]:
        """Yield the objects of a list as they arrive: only one is in memory as it came."""
        return _objects(self._read(f"/{self._version}/{path}", filters, PATIENCE))

    async def unless(self, known: bytes, path: str) -> tuple[bytes, AsyncIterator[dict[str, Any]] | None]:
        """Return a list's fingerprint, and, unless that is *known*, its objects: to read them is what takes time."""
        pieces, fingerprint = [], hashlib.blake2b()
        async for piece in self._read(f"/{self._version}/{path}", {}, PATIENCE):
            pieces.append(piece)
            fingerprint.update(piece)
        if fingerprint.digest() == known:
            return known, None
        return fingerprint.digest(), _objects(_given(pieces))

    def events(self, filters: Mapping[str, Iterable[str]]) -> AsyncIterator[dict[str, Any]]:
        """Yield the engine's events as they happen; it may be silent for as long as nothing does."""
        return _objects(self._read(f"/{self._version}/events", filters, None))

    async def _read(
        self, path: str, filters: Mapping[str, Iterable[str]], patience: float | None
    ) -> AsyncIterator[bytes]:
        params = {"filters": json.dumps({key: list(values) for key, values in filters.items()})} if filters else {}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE, sock_read=patience)
        try:
            # the host's name is of no account to a unix socket
            async with self._session.get(f"http://engine{path}", params=params, timeout=timeout) as response:
                if response.status != 200:
                    raise _refused(response.status, await response.text())
                async for piece in response.content.iter_any():
                    yield piece
        except aiohttp.ClientConnectorError as error:
            raise _unreachable(self.socket, error.os_error) from None
        except TimeoutError:
            raise EngineError(
                f"The engine has said nothing for {PATIENCE:.0f} s",
                "Is its machine overloaded, or is the quorum of managers lost? Ask with docker node ls on a manager.",
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise EngineError(
                f"The connection to the engine broke ({error or type(error).__name__})",
                "It may be starting anew: this goes on trying.",
            ) from None


async def _given(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)  # on a slow machine a long list is not all that there is to do


async def _objects(pieces: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """Yield the objects of a JSON list, or of a stream of them, that comes in pieces."""
    buffer, decoder = "", json.JSONDecoder()
    utf8 = codecs.getincrementaldecoder("utf-8")("replace")
    async for piece in pieces:
        buffer += utf8.decode(piece)
        position = 0
        while True:
            position = _SEPARATORS.match(buffer, position).end()  # type: ignore[union-attr] # always matches
            try:
                item, position = decoder.raw_decode(buffer, position)
            except ValueError:  # its rest has not arrived yet
                break
            if isinstance(item, dict):
                yield item
        buffer = buffer[position:]


def _numbers(version: object) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)\.(\d+)", str(version))
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _refused(status: int, body: str) -> EngineError:
    try:
        said = str(json.loads(body)["message"])
    except (ValueError, LookupError, TypeError):
        said = body
    said = redacted(said.strip())[:300]
    if "not a swarm manager" in said:
        return EngineError(
            "This engine is not a manager of a swarm, and only managers know the swarm",
            "Run the visualizer on a manager: placement constraint node.role == manager.",
            status,
        )
    if "does not have a leader" in said or "quorum" in said:
        remedy = "Start managers until more than half of them run: docker node ls on a manager says which are down."
        return EngineError("The swarm has no leader", remedy, status)
    return EngineError(f"The engine answered {status}: {said}", "Its log says more. This goes on trying.", status)


def _unreachable(socket: str, error: OSError) -> EngineError:
    if isinstance(error, PermissionError):
        try:
            group = str(Path(socket).stat().st_gid)
        except OSError:
            group = "GROUP"
        remedy = f'Run the service with the socket\'s group: user: "65534:{group}".'
        return EngineError(f"The socket {socket} may not be used by this user", remedy)
    if isinstance(error, FileNotFoundError):
        remedy = "Mount the engine's socket there, read-only, or name another path in VISUALIZER_SOCKET."
        return EngineError(f"There is no socket {socket}", remedy)
    return EngineError(
        f"No engine answers at {socket} ({error.strerror or error})", "Is it running? This goes on trying."
    )

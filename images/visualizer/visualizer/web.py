# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The page, and the stream of changes that keeps it up to date."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from base64 import b64decode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from visualizer import view
from visualizer.watch import Feed, now_ms

PAGE = Path(__file__).resolve().parents[1] / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "visualizer",
    "X-Content-Type-Options": "nosniff",
}
#: so often the stream says that it is alive, and the page takes three of them missing for the server's end
BEAT_SECONDS = 3.0
#: a browser that takes nothing for so long is let go, to ask again
_STUCK_SECONDS = 30.0
MOST_BROWSERS = 200
#: who guesses passwords shall not guess many
_WRONG_LOGIN_SECONDS = 0.5

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(feed: Feed, login: bytes | None, stopping: asyncio.Event) -> web.Application:
    """Return the server's application; its streams end when *stopping* is set."""
    app = web.Application(middlewares=[_guard(login)] if login else [])
    app.on_response_prepare.append(_add_headers)
    app.router.add_get("/health", _health)
    app.router.add_get("/events", _events(feed, stopping))
    for path in sorted(PAGE.iterdir()):
        handler = _file(path.read_bytes(), _TYPES[path.suffix])
        app.router.add_get("/" if path.name == "index.html" else f"/{path.name}", handler)
    return app


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


def _guard(login: bytes) -> Any:
    expected = _fingerprint(login)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        try:
            given = b64decode(encoded, validate=True) if scheme.lower() == "basic" else b""
        except ValueError:
            given = b""
        # Of fingerprints, so that neither the length nor the place of the first wrong character takes another time.
        if hmac.compare_digest(_fingerprint(given), expected) or request.path == "/health":
            return await handler(request)
        if encoded:
            await asyncio.sleep(_WRONG_LOGIN_SECONDS)
        challenge = {"WWW-Authenticate": 'Basic realm="swarm", charset="UTF-8"'}
        return web.Response(status=401, headers=challenge, text="User and password, please.\n")

    return guard


def _fingerprint(login: bytes) -> bytes:
    return hashlib.sha256(login).digest()


async def _health(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _file(body: bytes, content_type: str) -> Handler:
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    # Asked for at every visit, and sent again only when it is another: an update shows at once.
    headers = {"ETag": etag, "Cache-Control": "no-cache"}

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)

    return handler


def _events(feed: Feed, stopping: asyncio.Event) -> Handler:
    browsers = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal browsers
        if browsers >= MOST_BROWSERS:
            text = f"{MOST_BROWSERS} browsers are looking already.\n"
            return web.Response(status=503, headers={"Retry-After": "10"}, text=text)
        browsers += 1
        try:
            return await _stream(request, feed, stopping)
        finally:
            browsers -= 1

    return handler


async def _stream(request: web.Request, feed: Feed, stopping: asyncio.Event) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    await response.prepare(request)
    seen: view.Snapshot = {}
    ended = asyncio.ensure_future(stopping.wait())
    try:
        while not stopping.is_set():
            current = feed.snapshot
            # Of what came and went while this browser was slow it hears nothing.
            if current is not seen:
                kind, data = ("change", view.diff(seen, current)) if seen else ("state", current)
                await _send(response, kind, {"now": now_ms(), **data})
                seen = current
            news = asyncio.ensure_future(feed.next(seen))
            done, _ = await asyncio.wait({news, ended}, timeout=BEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
            if not done:
                await _send(response, "beat", {"now": now_ms()})
    except (ConnectionError, TimeoutError):
        pass  # the browser has gone
    finally:
        ended.cancel()
    return response


async def _send(response: web.StreamResponse, kind: str, data: Any) -> None:
    text = f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
    await asyncio.wait_for(response.write(text.encode()), _STUCK_SECONDS)

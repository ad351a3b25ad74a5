# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Serve the application on port 80, with nothing that takes long to import: a task has a tenth of a CPU.

To import a web framework and its server takes fifteen times as long as Python itself does to start; where the CPU is
emulated as well, that is minutes of a tenth of it. Even `os`, `socket`, `signal` and `threading` would double it again,
as they make enumerations and classes of what the modules of C below them have: so those are used. Each connection gets
one answer and is closed, so a browser that asks again comes to the next replica.
"""

from __future__ import annotations

import posix
import sys
import time
from _signal import SIG_IGN, SIGTERM, pause, signal
from _socket import AF_INET, SHUT_WR, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, socket
from _thread import get_ident, start_new_thread

#: for so long after SIGTERM new requests are still answered: whoever routes them may not have heard yet
LAME_DUCK_SECONDS = 2.0
#: connections that are served at once; browsers open some of them in advance and send nothing
THREADS = 16
#: for so long a connection may take to ask, and then to take the answer
PATIENCE_SECONDS = 10.0
MOST_HEADER_BYTES = 16384

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 500: "Internal Server Error"}
#: the threads that have a request in hand
busy: set[int] = set()


def setting(name: str, default: str) -> str:
    """Return a variable of the environment, as `os.environ.get` does."""
    return posix.environ.get(name.encode(), default.encode()).decode()


class Request:
    """What a visitor asks for; the names of headers are in lower case."""

    def __init__(self, method: str, path: str, headers: dict[str, str]) -> None:
        self.method = method
        self.path = path
        self.headers = headers

    def prefers(self, content_type: str, to: str) -> bool:
        """Say whether the visitor would rather have *content_type* than another."""
        accept = self.headers.get("accept", "")
        return _rank(accept, content_type) > _rank(accept, to)


def _rank(accept: str, content_type: str) -> tuple[float, int]:
    """Return how welcome a type is by the header Accept, and how exactly that names it."""
    kind = content_type.partition("/")[0]
    best = (0.0, 0)
    for entry in accept.split(","):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        if name in ("*/*", f"{kind}/*", content_type):
            weights = [parameter[2:] for parameter in parameters if parameter.startswith("q=")]
            try:
                weight = float(weights[0]) if weights else 1.0
            except ValueError:
                weight = 0.0
            best = max(best, (weight, ("*/*", f"{kind}/*", content_type).index(name)))
    return best


class Response:
    """What the visitor gets."""

    def __init__(
        self, text: str, content_type: str = "text/html", status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self.text = text
        self.content_type = content_type
        self.status = status
        self.headers = headers or {}


def main() -> None:
    """Import the application, listen, serve until SIGTERM."""
    # which the kernel keeps from a container's first process unless that handles it
    signal(SIGTERM, lambda *_: sys.exit(0))
    from app import ROUTES, visits

    visits.start_connecting()
    # All addresses of a container are its own: who reaches it is for the stack to say.
    start(ROUTES, "0.0.0.0", 80)  # noqa: S104 - see above
    print("serving on port 80")
    try:
        while True:
            pause()
    finally:
        signal(SIGTERM, SIG_IGN)
        finish()


def start(routes: dict, address: str, port: int) -> socket:  # type: ignore[type-arg]
    """Listen, and answer from now on; *routes* says by path which function makes a Response of a Request."""
    listener = socket(AF_INET, SOCK_STREAM)
    listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(128)
    for _ in range(THREADS):
        start_new_thread(_serve, (listener, routes))
    return listener


def finish() -> None:
    """Go on serving for a while, and return once nothing is in progress; Docker kills what takes too long."""
    time.sleep(LAME_DUCK_SECONDS)
    while busy:
        time.sleep(0.02)


def _serve(listener: socket, routes: dict) -> None:  # type: ignore[type-arg]
    while True:
        try:
            connection = socket(fileno=listener._accept()[0])  # type: ignore[attr-defined]
        except OSError as error:  # such as too many open files
            print(f"accept: {error}")
            time.sleep(0.1)
            continue
        try:
            connection.settimeout(PATIENCE_SECONDS)
            _converse(connection, routes)
        except OSError:
            pass  # the visitor has gone, or says nothing
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
        finally:
            busy.discard(get_ident())
            connection.close()


def _converse(connection: socket, routes: dict) -> None:  # type: ignore[type-arg]
    """Read one request, send one answer."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    head = b""
    while b"\r\n\r\n" not in head:
        received = connection.recv(4096)
        if not received or time.monotonic() > deadline or len(head) > MOST_HEADER_BYTES:
            return
        busy.add(get_ident())
        head += received
    request = _parse(head)
    body, header = _answer(request, routes)
    connection.sendall(header if request and request.method == "HEAD" else header + body)
    busy.discard(get_ident())
    # What is sent may be lost if a connection is closed on which something is unread, such as the body of a POST.
    connection.shutdown(SHUT_WR)
    while connection.recv(4096) and time.monotonic() < deadline:
        pass


def _parse(head: bytes) -> Request | None:
    first, *lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    try:
        method, target, version = first.split(" ")
    except ValueError:
        return None
    fields = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    return Request(method, target.partition("?")[0], headers) if version.startswith("HTTP/1.") else None


def _answer(request: Request | None, routes: dict) -> tuple[bytes, bytes]:  # type: ignore[type-arg]
    """Return the body and the header of the answer."""
    if request is None:
        response = Response("That is not HTTP.\n", "text/plain", 400)
    elif request.path not in routes:
        response = Response("There is no such page.\n", "text/plain", 404)
    elif request.method not in ("GET", "HEAD"):
        response = Response("One can only look here.\n", "text/plain", 405, {"Allow": "GET, HEAD"})
    else:
        try:
            response = routes[request.path](request)
        except Exception as error:  # a mistake in the application is for its log, and the next visitor is served
            print(f"{request.path}: {type(error).__name__}: {error}")
            response = Response("Something went wrong here; the log says what.\n", "text/plain", 500)
    body = response.text.encode()
    charset = "; charset=utf-8" if response.content_type.startswith("text/") else ""
    fields = {
        "Content-Type": response.content_type + charset,
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
        "Server": "web",
        **response.headers,
    }
    lines = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, '')}", *map(": ".join, fields.items())]
    return body, ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

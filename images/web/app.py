# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The tutorial's application: a greeting, the container that answered, and the number of visits kept in Redis.

What is imported here is imported at each start, with a tenth of a CPU: import what takes long where it is used.
"""

from __future__ import annotations

from _socket import gethostname  # as socket has it

from server import Request, Response, setting
from visits import Visits

GREETING = "Hello {name}!"
NO_REDIS = "cannot connect to Redis, counter disabled"

DIRECTORY = __file__.rpartition("/")[0]
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;", "{": "&#123;"})

visits = Visits(setting("REDIS_HOST", "redis"), setting("REDIS_PASSWORD_FILE", ""))


def index(request: Request) -> Response:
    """Greet, as HTML or, for clients that ask for it, as JSON."""
    count = visits.count()
    greeting = GREETING.format(name=setting("NAME", "World"))
    container_id = gethostname()
    # every visit counts, and the next one may come from another container
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    if request.prefers("application/json", to="text/html"):
        import json

        answer = {
            "greeting": greeting,
            "container_id": container_id,
            "visits": count,
            "visits_note": NO_REDIS if count is None else None,
        }
        return Response(json.dumps(answer, sort_keys=True) + "\n", "application/json", headers=headers)
    shown = NO_REDIS if count is None else count
    page = render("index.html", greeting=greeting, container_id=container_id, visits=shown)
    return Response(page, headers=headers)


def health(_request: Request) -> Response:
    """Say that the server serves; Redis is not asked, since `/` works without it."""
    return Response("ok\n", "text/plain")


def render(name: str, **values: object) -> str:
    """Return the page *name* with the values, in which nothing is taken for HTML, in the place of their names."""
    with open(f"{DIRECTORY}/templates/{name}", encoding="utf-8") as file:
        page = file.read()
    for key, value in values.items():
        page = page.replace("{{ " + key + " }}", str(value).translate(_ESCAPES))
    return page


ROUTES = {"/": index, "/health": health}

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The tutorial's application: a greeting, the container that answered, and the number of visits kept in Redis."""

from __future__ import annotations

import os
import socket

from flask import Flask, Response, jsonify, render_template, request
from visits import Visits

GREETING = "Hello {name}!"
NO_REDIS = "cannot connect to Redis, counter disabled"

app = Flask(__name__)
visits = Visits(os.environ.get("REDIS_HOST", "redis"), os.environ.get("REDIS_PASSWORD_FILE", ""))


@app.get("/")
def index() -> Response:
    """Greet, as HTML or, for clients that ask for it, as JSON."""
    count = visits.count()
    answer = {
        "greeting": GREETING.format(name=os.environ.get("NAME", "World")),
        "container_id": socket.gethostname(),
        "visits": count,
        "visits_note": NO_REDIS if count is None else None,
    }
    if request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json":
        response = jsonify(answer)
    else:
        response = Response(render_template("index.html", **answer))
    response.headers["Cache-Control"] = (
        "no-store"  # every visit counts, and the next one may come from another container
    )
    response.headers["Vary"] = "Accept"
    return response


@app.get("/health")
def health() -> Response:
    """Say that the server serves; Redis is not asked, since `/` works without it."""
    return Response("ok\n", mimetype="text/plain")

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The settings, from the environment; each is checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

PREFIX = "VISUALIZER_"
DEFAULTS = {
    # where to listen; all addresses of a container are its own, and who reaches it is for the stack to say
    "VISUALIZER_ADDRESS": "0.0.0.0",  # noqa: S104 - see above
    "VISUALIZER_PORT": "8080",
    # the engine to look at: a manager's
    "VISUALIZER_SOCKET": "/var/run/docker.sock",
    # a file with one line, user:password, that browsers must give; none: whoever reaches the port may look
    "VISUALIZER_LOGIN_FILE": "",
}


class ConfigError(Exception):
    """A setting that is not usable: which, the value it has, what to do."""


class Config(NamedTuple):
    """What the server needs to know."""

    address: str
    port: int
    socket: str
    login: bytes | None


def from_environment(environment: Mapping[str, str]) -> Config:
    """Return the settings, or raise ConfigError."""
    given = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    for name, value in given.items():
        if name not in DEFAULTS:
            raise ConfigError(f"{name} is {value!r}, and there is no such setting: use one of {', '.join(DEFAULTS)}")
    settings = {**DEFAULTS, **given}
    return Config(
        address=settings["VISUALIZER_ADDRESS"],
        port=_port(settings["VISUALIZER_PORT"]),
        socket=_socket(settings["VISUALIZER_SOCKET"]),
        login=_login(settings["VISUALIZER_LOGIN_FILE"]),
    )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= 65535):
        raise ConfigError(
            f"VISUALIZER_PORT is {text!r}, which is not a port: give a number from 1 to 65535, such as 8080"
        )
    return int(text)


def _socket(text: str) -> str:
    # Whether somebody answers there is shown on the page, since it may change.
    if not text.startswith("/"):
        raise ConfigError(
            f"VISUALIZER_SOCKET is {text!r}, which is not the absolute path of a unix socket: mount the engine's "
            "socket read-only into the container and give its path there, such as /var/run/docker.sock"
        )
    return text


def _login(path: str) -> bytes | None:
    if not path:
        return None
    remedy = "give a file with one line, user:password, such as a secret of the swarm in /run/secrets"
    try:
        login = Path(path).read_bytes().strip(b"\r\n")
    except OSError as error:
        raise ConfigError(
            f"VISUALIZER_LOGIN_FILE is {path!r}, which cannot be read ({error.strerror}): {remedy}"
        ) from None
    user, colon, password = login.partition(b":")
    if not (user and colon and password) or b"\n" in login:
        # what it holds is a secret, so it is not shown
        raise ConfigError(f"VISUALIZER_LOGIN_FILE is {path!r}, whose content is not user:password: {remedy}")
    return login

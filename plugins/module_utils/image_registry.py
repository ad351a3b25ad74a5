# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Images in a registry: what they are called there, and asking, filling and emptying it through an engine's API.

Logins go with each request that needs one. No engine keeps them, and no file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import docker.errors

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.image_build import broken_stream
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import NAME, Image

#: options that say which registry, and who asks
REGISTRY_SPEC: dict[str, Any] = {
    "registry": {"type": "str", "required": True},
    "username": {"type": "str", "default": ""},
    "password": {"type": "str", "default": "", "no_log": True},
}

DOCKER_HUB = "docker.io"
#: what its addresses for browsers and clients have in common; an image's name has neither
_HUB_ADDRESSES = re.compile(r"(?:hub|index|registry|registry-1)\.docker\.(?:com|io)")
#: what Docker takes for a registry, and not for the first part of a name: a dot, a port, or localhost
_HOST = re.compile(r"(?=.*[.:]|localhost)[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d{1,5})?")
_LOCAL = re.compile(r"(?:127\.|localhost)")

_UNKNOWN = re.compile(r"manifest.*(unknown|not found)|name unknown|repository name not known", re.IGNORECASE)
_REFUSED = re.compile(
    r"no basic auth credentials|unauthorized|incorrect username|authentication required|denied|insufficient_scope|"
    r"\b40[13]\b",
    re.IGNORECASE,
)
_PLAIN_HTTP = re.compile("server gave HTTP response to HTTPS client")
_UNTRUSTED = re.compile("x509|certificate", re.IGNORECASE)
_TOO_MANY = re.compile(r"toomanyrequests|\b429\b", re.IGNORECASE)
_FULL = re.compile(r"no space left|unexpected HTTP status: 5\d\d|\b507\b", re.IGNORECASE)


class RefusedError(ApiaryError):
    """The registry answered, and will not serve whoever asks so: another run will fare no better."""


@dataclass(frozen=True)
class Registry:
    """A registry, such as ``127.0.0.1:5000``, ``docker.io`` or ``registry.example.com/team``, and who asks it."""

    address: str
    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def login(self) -> dict[str, str]:
        """What the engine is told of who asks; nothing, in words, or the SDK would look for this computer's logins."""
        if not self.username:
            return {}
        return {"username": self.username, "password": self.password, "serveraddress": self.server}

    @property
    def server(self) -> str:
        """The name that logins have for it."""
        host = self.address.partition("/")[0]
        return "https://index.docker.io/v1/" if host == DOCKER_HUB else host

    def name(self, image: Image) -> str:
        """Return the image's name in the registry, without a tag."""
        return f"{self.address}/{image.repository or image.name}"

    def references(self, image: Image) -> list[str]:
        """Return what the image is called in the registry: with its own tag, then with the others."""
        return [f"{self.name(image)}:{tag}" for tag in (image.tag, *image.tags)]


def registry_of(params: Mapping[str, Any], images: Sequence[Image]) -> Registry:
    """Return the registry of the options in REGISTRY_SPEC; ApiaryError names what is wrong with it or with *images*."""
    registry = Registry(params["registry"], params["username"], params["password"])
    host, slash, path = registry.address.partition("/")
    if not _HOST.fullmatch(host) or (slash and not NAME.fullmatch(path)):
        raise ApiaryError(
            f"image_registry is {registry.address!r}, which is no registry: write the host, with a port if it has one, "
            "and no https://; for example 127.0.0.1:5000, docker.io or registry.example.com/team"
        )
    if _HUB_ADDRESSES.fullmatch(host):
        raise ApiaryError(f"image_registry is {registry.address!r}: in names of images, Docker Hub is docker.io")
    if bool(registry.username) != bool(registry.password):
        given, missing = ("username", "password") if registry.username else ("password", "username")
        raise ApiaryError(
            f"image_registry_{given} is set and image_registry_{missing} is empty: set both, in the inventory's vault "
            "or in the environment, IMAGE_REGISTRY_USERNAME and IMAGE_REGISTRY_PASSWORD; or neither"
        )
    for image in images:
        if host == DOCKER_HUB and registry.name(image).count("/") != 2:
            raise ApiaryError(
                f"image_list: {registry.name(image)} is no name on Docker Hub, where all are USER/NAME: set "
                f"the 'repository' of {image.name}, for example to ann/{image.name.rpartition('/')[2]}"
            )
    _refuse_duplicates(registry, images)
    return registry


def familiar(name: str) -> str:
    """Return *name* as an engine lists it, which leaves out Docker Hub's own."""
    return name.removeprefix(f"{DOCKER_HUB}/").removeprefix("library/")


def digest_of(api: Any, registry: Registry, reference: str) -> str:
    """Return the digest that *reference* has in the registry; empty where the registry has no such image."""
    digest, said = look_up(api, registry, reference)
    # To who may not see an image, some registries (Docker Hub) do not say whether there is one.
    if said and not (registry.login and _REFUSED.search(said) and _is_let_in(api, registry)):
        raise complaint(f"asking for {reference}", registry, said)
    return digest


def look_up(api: Any, registry: Registry, reference: str) -> tuple[str, str]:
    """Return the digest of *reference*, empty where the registry has no such image; and what was said if it is mute."""
    try:
        return api.inspect_distribution(reference, auth_config=registry.login)["Descriptor"]["digest"], ""
    except docker.errors.APIError as error:
        said = str(error.explanation or error)
        return "", "" if isinstance(error, docker.errors.NotFound) or _UNKNOWN.search(said) else said


def push(api: Any, registry: Registry, image: Image, tag: str, node: str) -> str:
    """Push the engine's *image* under *tag*, and return the digest that it has in the registry."""
    name = registry.name(image)
    doing = f"pushing {name}:{tag} from {node}"
    digest = ""
    api.tag(image.reference, name, tag)
    with broken_stream(doing):
        for message in api.push(name, tag, stream=True, decode=True, auth_config=registry.login):
            if said := message.get("error") or message.get("message"):
                raise complaint(doing, registry, str(said))
            digest = (message.get("aux") or {}).get("Digest") or digest
    return digest or digest_of(api, registry, f"{name}:{tag}")


def pull(api: Any, registry: Registry, image: Image, digest: str, node: str) -> None:
    """Have the engine pull the image with *digest*, and call it as templates do."""
    name = registry.name(image)
    doing = f"pulling {name}:{image.tag} into {node}"
    try:
        with broken_stream(doing):
            for message in api.pull(name, tag=digest, stream=True, decode=True, auth_config=registry.login):
                if said := message.get("error") or message.get("message"):
                    raise complaint(doing, registry, str(said))
    except docker.errors.APIError as error:
        raise complaint(doing, registry, str(error.explanation or error)) from error
    api.tag(f"{name}@{digest}", image.name, image.tag)


def complaint(doing: str, registry: Registry, said: str) -> ApiaryError:
    """Return the error for what an engine *said* of a registry."""
    said = said.strip()
    refused = any(pattern.search(said) for pattern in (_PLAIN_HTTP, _REFUSED, _UNTRUSTED))
    return (RefusedError if refused else ApiaryError)(f"{doing} failed: {said}. {_remedy(registry, said)}")


def _remedy(registry: Registry, said: str) -> str:
    is_local = bool(_LOCAL.match(registry.address))
    if _PLAIN_HTTP.search(said):
        return (
            "The registry speaks plain HTTP, which engines accept from 127.0.0.0/8 alone: give it a certificate, or "
            "name it under insecure-registries in /etc/docker/daemon.json of every node, or set image_registry to "
            "127.0.0.1:5000, the registry service"
        )
    if _REFUSED.search(said):
        if not registry.username:
            return "It wants a login: set image_registry_username and image_registry_password"
        return (
            f"It refuses {registry.username}: check image_registry_username and image_registry_password, and whether "
            "that account may write to this name (the 'repository' of the entry in image_list)"
        )
    if _UNTRUSTED.search(said):
        return (
            "The nodes' engines do not trust its certificate: put that of its CA on every node, as "
            f"/etc/docker/certs.d/{registry.address.partition('/')[0]}/ca.crt"
        )
    if _TOO_MANY.search(said):
        return "It allows more requests after a while, or to who logs in: image_registry_username"
    if _FULL.search(said):
        room = "playbooks/registry_prune.yml frees some" if is_local else "free some there"
        return f"It does not take what it is given. If its disk is full, {room}; its log says more"
    if _UNKNOWN.search(said):
        return "The registry has lost it since it was asked a moment ago: run the playbook again"
    if is_local:
        return (
            "Does the registry service run, and answer on every node? playbooks/images.yml sees to it, if "
            "image_registry is 127.0.0.1 with the port registry_port"
        )
    return "Is the registry up, its name right (image_registry), and can the nodes reach it?"


def _is_let_in(api: Any, registry: Registry) -> bool:
    """Say whether the registry accepts the login; the engine asks it, and keeps nothing."""
    response = api._post_json(api._url("/auth"), data=registry.login)
    return bool(response.status_code == 200)


def _refuse_duplicates(registry: Registry, images: Sequence[Image]) -> None:
    seen: dict[str, Image] = {}
    for image in images:
        for reference in registry.references(image):
            if seen.setdefault(reference, image).reference != image.reference:
                raise ApiaryError(
                    f"image_list: {seen[reference].reference} and {image.reference} would both be {reference} in the "
                    "registry: give one of them another 'repository', or other 'tags'"
                )

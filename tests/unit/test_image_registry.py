# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Images in a registry: their names there, what has to be pushed and pulled, and how failures read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker.errors
import pytest
import requests

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.image_publication import common, on_node, plan
from ansible_collections.apiary.swarm.plugins.module_utils.image_registry import (
    RefusedError,
    Registry,
    complaint,
    digest_of,
    familiar,
    push,
    registry_of,
)
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import Image

LOCAL = Registry("127.0.0.1:5000")
OURS = Registry("registry.example.com", "ann", "swordfish")


def image(name: str = "web", tag: str = "aa11", **more: Any) -> Image:
    return Image(f"apiary/{name}", Path("/images") / name, tag, "", **more)


def named(address: str, *images: Image, username: str = "", password: str = "") -> Registry:
    return registry_of({"registry": address, "username": username, "password": password}, images)


# Names


@pytest.mark.parametrize(
    ("address", "repository", "name", "server"),
    [
        ("127.0.0.1:5000", "", "127.0.0.1:5000/apiary/web", "127.0.0.1:5000"),
        ("docker.io", "ann/get-started", "docker.io/ann/get-started", "https://index.docker.io/v1/"),
        ("registry.example.com", "", "registry.example.com/apiary/web", "registry.example.com"),
        (
            "registry.example.com:8443/team/a",
            "web",
            "registry.example.com:8443/team/a/web",
            "registry.example.com:8443",
        ),
        ("localhost", "web", "localhost/web", "localhost"),
    ],
)
def test_an_image_has_a_name_in_the_registry_and_the_registry_one_for_logins(
    address: str, repository: str, name: str, server: str
) -> None:
    web = image(repository=repository, tags=("latest",))
    registry = named(address, web)
    assert registry.references(web) == [f"{name}:aa11", f"{name}:latest"]
    assert registry.server == server


@pytest.mark.parametrize(
    ("address", "login", "words"),
    [
        ("https://registry.example.com", {}, ["'https://registry.example.com'", "no https://"]),
        ("ann", {}, ["image_registry is 'ann'", "no registry"]),
        ("registry.example.com/", {}, ["'registry.example.com/'"]),
        ("registry.example.com/Team", {}, ["'registry.example.com/Team'"]),
        ("registry.example.com:port", {}, ["'registry.example.com:port'"]),
        ("a b.example.com", {}, ["'a b.example.com'"]),
        ("hub.docker.com", {}, ["Docker Hub is docker.io"]),
        ("index.docker.io", {}, ["Docker Hub is docker.io"]),
        ("docker.io/ann", {}, ["docker.io/ann/apiary/web", "USER/NAME", "'repository' of apiary/web", "ann/web"]),
        ("127.0.0.1:5000", {"username": "ann"}, ["image_registry_password is empty", "IMAGE_REGISTRY_PASSWORD"]),
        ("127.0.0.1:5000", {"password": "swordfish"}, ["image_registry_username is empty"]),
    ],
)
def test_what_is_no_registry_is_refused_with_the_variable_and_the_remedy(
    address: str, login: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(ApiaryError) as error:
        named(address, image(), **login)
    assert [word for word in words if word not in str(error.value)] == []
    assert "swordfish" not in str(error.value)


def test_two_images_under_one_name_are_refused() -> None:
    images = [
        image(repository="ann/it", tags=("latest",)),
        image("other", "bb22", repository="ann/it", tags=("latest",)),
    ]
    with pytest.raises(ApiaryError, match=r"apiary/web:aa11 and apiary/other:bb22 would both be .*/ann/it:latest"):
        named("127.0.0.1:5000", *images)


def test_a_registry_does_not_show_its_password() -> None:
    assert "swordfish" not in repr(OURS)


@pytest.mark.parametrize(
    ("name", "listed"),
    [("docker.io/ann/web", "ann/web"), ("docker.io/library/web", "web"), ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b")],
)
def test_an_engine_lists_a_name_without_docker_hubs(name: str, listed: str) -> None:
    assert familiar(name) == listed


# What is to be done

WEB, REDIS = image(tags=("latest",)), image("redis", "cc33")
ON_NODE = {"apiary/web:aa11": {"sha256:1"}, "apiary/redis:cc33": {"sha256:3"}}
IN_REGISTRY = {
    "127.0.0.1:5000/apiary/web:aa11": "sha256:1",
    "127.0.0.1:5000/apiary/web:latest": "sha256:1",
    "127.0.0.1:5000/apiary/redis:cc33": "sha256:3",
}
NEW_WEB = {**IN_REGISTRY, "127.0.0.1:5000/apiary/web:aa11": "", "127.0.0.1:5000/apiary/web:latest": "sha256:0"}
BUILT = {**ON_NODE, "apiary/web:aa11": set[str]()}
WITHOUT = {"apiary/redis:cc33": {"sha256:3"}}


@pytest.mark.parametrize(
    ("on_nodes", "in_registry", "foretell", "expected"),
    [
        pytest.param({"n1": ON_NODE, "n2": ON_NODE}, IN_REGISTRY, False, ([], {}, []), id="nothing lacks"),
        pytest.param(
            {"n1": ON_NODE, "n2": WITHOUT}, IN_REGISTRY, False, ([], {"n2": ["web:aa11"]}, []), id="a new node"
        ),
        pytest.param(
            {"n1": {}, "n2": {}},
            IN_REGISTRY,
            False,
            ([], {"n1": ["web:aa11", "redis:cc33"], "n2": ["web:aa11", "redis:cc33"]}, []),
            id="new nodes",
        ),
        pytest.param({"n1": WITHOUT, "n2": WITHOUT}, NEW_WEB, False, ([], {}, ["web:aa11"]), id="not built yet"),
        pytest.param(
            {"n1": BUILT, "n2": WITHOUT},
            NEW_WEB,
            False,
            (["web:aa11", "web:latest"], {"n2": ["web:aa11"]}, []),
            id="built: pushed with all tags, and pulled by the others",
        ),
        pytest.param(
            {"n1": BUILT, "n2": BUILT},
            NEW_WEB,
            False,
            (["web:aa11", "web:latest"], {"n2": ["web:aa11"]}, []),
            id="loaded",
        ),
        pytest.param(
            {"n1": WITHOUT, "n2": BUILT},
            NEW_WEB,
            False,
            ([], {}, ["web:aa11"]),
            id="the node that pushes has not got it",
        ),
        pytest.param(
            {"n1": WITHOUT, "n2": WITHOUT},
            NEW_WEB,
            True,
            (["web:aa11", "web:latest"], {"n2": ["web:aa11"]}, []),
            id="not built yet, in check mode",
        ),
        pytest.param(
            {"n1": {**ON_NODE, "apiary/web:aa11": {"sha256:9"}}, "n2": ON_NODE},
            IN_REGISTRY,
            False,
            ([], {"n1": ["web:aa11"]}, []),
            id="another build of the same",
        ),
        pytest.param(
            {"n1": {**ON_NODE, "apiary/web:aa11": {"sha256:9", "sha256:1"}}},
            IN_REGISTRY,
            False,
            ([], {}, []),
            id="one of several digests",
        ),
        pytest.param(
            {"n1": ON_NODE},
            {**IN_REGISTRY, "127.0.0.1:5000/apiary/web:latest": "sha256:0"},
            False,
            (["web:latest"], {}, []),
            id="a tag that is another's",
        ),
    ],
)
def test_what_lacks_is_pushed_and_pulled_and_nothing_else(
    on_nodes: dict[str, Any],
    in_registry: dict[str, str],
    foretell: bool,
    expected: tuple[list[str], dict[str, list[str]], list[str]],
) -> None:
    found = plan(LOCAL, [WEB, REDIS], on_nodes, in_registry, foretell=foretell)
    pushed, pulled, missing = expected
    assert found.pushed == [f"127.0.0.1:5000/apiary/{name}" for name in pushed]
    assert found.pulled == {node: [f"apiary/{name}" for name in names] for node, names in pulled.items()}
    assert [image.reference for image in found.missing] == [f"apiary/{name}" for name in missing]
    assert len(found.lines) == len(pushed) + len({name for names in pulled.values() for name in names})


def test_a_node_has_an_image_by_its_tag_and_the_digest_in_this_registry() -> None:
    listed: list[dict[str, Any]] = [
        {
            "RepoTags": ["apiary/web:aa11", "127.0.0.1:5000/apiary/web:aa11"],
            "RepoDigests": [
                "127.0.0.1:5000/apiary/web@sha256:1",
                "127.0.0.1:5000/apiary/web-more@sha256:2",
                "web@sha256:4",
            ],
        },
        {"RepoTags": ["apiary/redis:cc33"], "RepoDigests": None},
        {"RepoTags": None, "RepoDigests": ["127.0.0.1:5000/apiary/redis@sha256:3"]},
    ]
    assert on_node(listed, LOCAL, [WEB, REDIS]) == {"apiary/web:aa11": {"sha256:1"}, "apiary/redis:cc33": set()}


@pytest.mark.parametrize(
    ("other", "known"),
    [
        (ON_NODE, IN_REGISTRY),
        ({**ON_NODE, "apiary/web:aa11": {"sha256:2"}}, {"127.0.0.1:5000/apiary/redis:cc33": "sha256:3"}),
        ({}, {}),
    ],
    ids=["alike", "one differs", "none"],
)
def test_where_the_registry_is_silent_what_all_nodes_have_alike_counts(
    other: dict[str, set[str]], known: dict[str, str]
) -> None:
    assert common(LOCAL, [WEB, REDIS], {"n1": ON_NODE, "n2": other}) == known


# What an engine says of a registry, recorded from engine 20.10 with Debian's docker-registry 2.8.2


@pytest.mark.parametrize(
    ("registry", "said", "refused", "words"),
    [
        (
            LOCAL,
            'Get "http://127.0.0.1:5000/v2/": dial tcp 127.0.0.1:5000: connect: connection refused',
            False,
            ["registry service", "playbooks/images.yml"],
        ),
        (
            OURS,
            'Get "https://registry.example.com/v2/": dial tcp: lookup registry.example.com on 10.2:53: no such host',
            False,
            ["image_registry", "reach it"],
        ),
        (
            OURS,
            'Get "https://10.231.1.2:5000/v2/": http: server gave HTTP response to HTTPS client',
            True,
            ["plain HTTP", "insecure-registries", "127.0.0.1:5000"],
        ),
        (
            OURS,
            'Get "https://10.231.1.2:5000/v2/": x509: certificate signed by unknown authority',
            True,
            ["/etc/docker/certs.d/registry.example.com/ca.crt"],
        ),
        (LOCAL, "no basic auth credentials", True, ["wants a login", "image_registry_username"]),
        (OURS, "unauthorized: authentication required", True, ["refuses ann", "image_registry_password"]),
        (OURS, "denied: requested access to the resource is denied", True, ["refuses ann", "'repository'"]),
        (OURS, "toomanyrequests: You have reached your pull rate limit", False, ["after a while"]),
        (LOCAL, "received unexpected HTTP status: 500 Internal Server Error", False, ["registry_prune.yml"]),
        (OURS, "received unexpected HTTP status: 500 Internal Server Error", False, ["free some there"]),
        (
            LOCAL,
            "manifest for 127.0.0.1:5000/x@sha256:2 not found: manifest unknown",
            False,
            ["run the playbook again"],
        ),
    ],
)
def test_what_an_engine_says_is_shown_with_the_remedy(
    registry: Registry, said: str, refused: bool, words: list[str]
) -> None:
    error = complaint("pushing it from node1", registry, said)
    assert isinstance(error, RefusedError) == refused
    assert str(error).startswith(f"pushing it from node1 failed: {said}. ")
    assert [word for word in words if word not in str(error)] == []
    assert "swordfish" not in str(error)


class Asked:
    """An engine that is asked for an image and for the worth of a login."""

    def __init__(self, status: int, said: str, login_status: int = 200) -> None:
        self.status, self.said, self.login_status = status, said, login_status
        self.logins: list[Any] = []

    def inspect_distribution(self, _reference: str, auth_config: Mapping[str, str]) -> dict[str, Any]:
        self.logins.append(auth_config)
        if self.status == 200:
            return {"Descriptor": {"digest": self.said}}
        response = requests.Response()
        response.status_code = self.status
        kind = docker.errors.NotFound if self.status == 404 else docker.errors.APIError
        raise kind("an error", response=response, explanation=self.said)

    def _url(self, path: str) -> str:
        return path

    def _post_json(self, _url: str, data: Mapping[str, str]) -> Any:
        self.logins.append(data)
        return SimpleNamespace(status_code=self.login_status)


@pytest.mark.parametrize(
    ("engine", "registry", "digest"),
    [
        (Asked(200, "sha256:1"), LOCAL, "sha256:1"),
        (Asked(404, "manifest unknown: manifest unknown"), LOCAL, ""),
        (Asked(500, "name unknown: repository name not known to registry"), LOCAL, ""),
        (Asked(401, "unauthorized: authentication required"), OURS, ""),  # Docker Hub, of a name that is not there yet
    ],
)
def test_the_registry_says_which_digest_an_image_has(engine: Asked, registry: Registry, digest: str) -> None:
    assert digest_of(engine, registry, "x:1") == digest


@pytest.mark.parametrize(
    ("engine", "registry"),
    [
        (Asked(401, "unauthorized: authentication required", login_status=500), OURS),
        (Asked(500, "no basic auth credentials"), LOCAL),
        (Asked(500, "connect: connection refused"), OURS),
    ],
)
def test_a_registry_that_does_not_say_it_is_no_registry_without_the_image(engine: Asked, registry: Registry) -> None:
    with pytest.raises(ApiaryError, match="asking for x:1 failed"):
        digest_of(engine, registry, "x:1")


def test_without_a_login_the_engine_is_told_of_none() -> None:
    engine = Asked(200, "sha256:1")
    digest_of(engine, LOCAL, "x:1")
    assert engine.logins == [{}]  # and not None, for which the SDK looks for logins of this computer


class Pushed:
    """An engine that pushes, and says how it went."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = messages

    def tag(self, *_names: str) -> None:
        pass

    def push(self, _name: str, _tag: str, **_options: Any) -> Iterator[dict[str, Any]]:
        yield from self.messages


def test_a_push_gives_the_digest() -> None:
    said = {"progressDetail": {}, "aux": {"Tag": "aa11", "Digest": "sha256:1", "Size": 523}}
    assert push(Pushed({"status": "Pushed"}, said), LOCAL, WEB, "aa11", "node1") == "sha256:1"


def test_a_push_that_is_refused_half_way_is_an_error() -> None:
    messages = {"status": "Preparing"}, {"errorDetail": {"message": "denied"}, "error": "denied"}
    with pytest.raises(RefusedError, match=r"pushing 127\.0\.0\.1:5000/apiary/web:aa11 from node1 failed: denied"):
        push(Pushed(*messages), LOCAL, WEB, "aa11", "node1")

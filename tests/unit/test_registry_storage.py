# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of a registry's contents nobody needs."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils.registry_storage import (
    Contents,
    blob_path,
    contents_of,
    needed,
    parts_of,
    unwanted,
    used_images,
)

REGISTRY = "127.0.0.1:5000"


def digest(letter: str) -> str:
    return f"sha256:{letter * 64}"


#: web in two versions, the newer one as latest too; a repository below a repository; and one of which no tag is left
CONTENTS = Contents(
    {
        ("apiary/web", "old"): digest("a"),
        ("apiary/web", "new"): digest("b"),
        ("apiary/web", "latest"): digest("b"),
        ("apiary/web/debug", "1"): digest("c"),
    },
    {
        ("apiary/web", digest("a")),
        ("apiary/web", digest("b")),
        ("apiary/web/debug", digest("c")),
        ("ann/left", digest("d")),
    },
)


def test_tags_and_manifests_are_read_from_the_registrys_own_files() -> None:
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, content in {
                "repositories/apiary/web/_manifests/tags/new/current/link": digest("b"),
                f"repositories/apiary/web/_manifests/tags/new/index/sha256/{'a' * 64}/link": digest("a"),
                f"repositories/apiary/web/_manifests/revisions/sha256/{'b' * 64}/link": digest("b"),
                f"repositories/apiary/web/_layers/sha256/{'e' * 64}/link": digest("e"),
                "repositories/apiary/half/_uploads/0b5e": "",
            }.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content.encode()))
        buffer.seek(0)
        found = contents_of(buffer)
    assert found == Contents({("apiary/web", "new"): digest("b")}, {("apiary/web", digest("b"))}, {"apiary/half"})


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (f"{REGISTRY}/apiary/web:old", {digest("a")}),
        (f"{REGISTRY}/apiary/web", {digest("b")}),
        (f"{REGISTRY}/apiary/web:gone", set()),
        (f"{REGISTRY}/apiary/web:old@{digest('f')}", {digest("f")}),  # the tag has moved on since it was deployed
        (f"{REGISTRY}/apiary/web@{digest('a')}", {digest("a")}),
        ("apiary/web:old", set()),
        ("docker.io/apiary/web:old", set()),
        (f"{REGISTRY}1/apiary/web:old", set()),
    ],
)
def test_an_image_that_is_used_is_needed_by_its_digest(image: str, expected: set[str]) -> None:
    assert needed(CONTENTS, REGISTRY, [image]) == expected


@pytest.mark.parametrize(
    ("kept", "tags", "directories"),
    [
        pytest.param("abcd", [], [], id="all is needed"),
        pytest.param(
            "bc",
            ["apiary/web:old"],
            [
                "apiary/web/_manifests/tags/old",
                f"apiary/web/_manifests/revisions/sha256/{'a' * 64}",
                *(f"ann/left/{part}" for part in ("_manifests", "_layers", "_uploads")),
            ],
            id="an old version, and a repository without tags",
        ),
        pytest.param(
            "ad",
            ["apiary/web:latest", "apiary/web:new", "apiary/web/debug:1"],
            [
                "apiary/web/_manifests/tags/latest",
                "apiary/web/_manifests/tags/new",
                f"apiary/web/_manifests/revisions/sha256/{'b' * 64}",
                *(f"apiary/web/debug/{part}" for part in ("_manifests", "_layers", "_uploads")),
            ],
            id="a repository below one that stays",
        ),
        pytest.param(
            "cd",
            ["apiary/web:latest", "apiary/web:new", "apiary/web:old"],
            [f"apiary/web/{part}" for part in ("_manifests", "_layers", "_uploads")],
            id="a repository above one that stays",
        ),
    ],
)
def test_what_leads_to_nothing_that_is_needed_goes(kept: str, tags: list[str], directories: list[str]) -> None:
    found = unwanted(CONTENTS, {digest(letter) for letter in kept})
    assert found.names == tags
    assert found.directories == directories
    assert bool(found) == bool(directories)


def test_uploads_that_were_cut_short_go() -> None:
    contents = Contents({("apiary/web", "new"): digest("b")}, {("apiary/web", digest("b"))}, {"apiary/web", "ann/half"})
    found = unwanted(contents, {digest("b")})
    assert found.names == ["ann/half (unfinished uploads)", "apiary/web (unfinished uploads)"]
    assert found.directories == [
        "apiary/web/_uploads",
        *(f"ann/half/{part}" for part in ("_manifests", "_layers", "_uploads")),
    ]


def test_a_rollback_would_need_its_image_too() -> None:
    def spec(image: str) -> dict[str, Any]:
        return {"TaskTemplate": {"ContainerSpec": {"Image": image}}}

    services = [
        {"Spec": spec("web:2"), "PreviousSpec": spec("web:1")},
        {"Spec": spec("redis")},
        {"Spec": {"TaskTemplate": {"PluginSpec": {}}}},
    ]
    assert used_images(services) == {"web:1", "web:2", "redis"}


def test_an_image_for_several_platforms_is_made_of_manifests() -> None:
    assert parts_of({"manifests": [{"digest": digest("a")}, {"digest": digest("b")}]}) == [digest("a"), digest("b")]
    assert parts_of({"config": {"digest": digest("c")}, "layers": []}) == []


def test_a_blob_has_a_path() -> None:
    assert blob_path(digest("a")) == f"/var/lib/registry/docker/registry/v2/blobs/sha256/aa/{'a' * 64}/data"

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is in a registry's storage, and what of it nobody needs.

The registry keeps what it knows of images in small files: a directory for each tag, with a link to a manifest, and one
for each manifest of a repository. Blobs to which no manifest leads are then removed by its own garbage collection.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

#: in the container of the registry
DATA = "/var/lib/registry"
REPOSITORIES = f"{DATA}/docker/registry/v2/repositories"

_TAG = re.compile(r"repositories/(?P<name>.+)/_manifests/tags/(?P<tag>[^/]+)/current/link")
#: a registry that was full leaves these, and would for a week
_UPLOAD = re.compile(r"repositories/(?P<name>.+)/_uploads/[^/]+")
_MANIFEST = re.compile(r"repositories/(?P<name>.+)/_manifests/revisions/(?P<digest>[^/]+/[0-9a-f]+)/link")


@dataclass
class Contents:
    """The tags and the manifests of each repository, as digests."""

    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    manifests: set[tuple[str, str]] = field(default_factory=set)
    #: repositories with uploads that have not come to an end
    uploads: set[str] = field(default_factory=set)

    @property
    def repositories(self) -> set[str]:
        return {name for name, _ in (*self.tags, *self.manifests)} | self.uploads


@dataclass(frozen=True)
class Unwanted:
    """What can be removed, in words, and the directories below REPOSITORIES that it is."""

    names: list[str]
    directories: list[str]

    def __bool__(self) -> bool:
        return bool(self.directories)


def contents_of(archive: IO[bytes]) -> Contents:
    """Return what is in a tar of REPOSITORIES."""
    found = Contents()
    with tarfile.open(fileobj=archive, mode="r|") as tar:
        for member in tar:
            if match := _TAG.fullmatch(member.name):
                link = tar.extractfile(member)
                found.tags[match["name"], match["tag"]] = link.read().decode().strip() if link else ""
            elif match := _MANIFEST.fullmatch(member.name):
                found.manifests.add((match["name"], match["digest"].replace("/", ":")))
            elif match := _UPLOAD.fullmatch(member.name):
                found.uploads.add(match["name"])
    return found


def blob_path(digest: str) -> str:
    """Return where the content of *digest* is."""
    kind, _, value = digest.partition(":")
    return f"{DATA}/docker/registry/v2/blobs/{kind}/{value[:2]}/{value}/data"


def parts_of(manifest: Mapping[str, Any]) -> list[str]:
    """Return the digests of the manifests that a list of manifests (an image for several platforms) is made of."""
    return [str(entry["digest"]) for entry in manifest.get("manifests") or []]


def used_images(services: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the images of services, also of those that a rollback would bring back."""
    return {
        spec["TaskTemplate"]["ContainerSpec"]["Image"]
        for service in services
        for spec in (service["Spec"], service.get("PreviousSpec") or {})
        if "ContainerSpec" in spec.get("TaskTemplate", {})
    }


def needed(contents: Contents, registry: str, images: Iterable[str]) -> set[str]:
    """Return the digests of those of *images* that are in *registry*, whether they name a tag, a digest or both."""
    digests = set()
    for image in images:
        name, _, digest = image.partition("@")
        if not name.startswith(f"{registry}/"):
            continue
        repository, colon, tag = name.removeprefix(f"{registry}/").rpartition(":")
        if not digest:
            digest = contents.tags.get((repository, tag) if colon else (tag, "latest"), "")
        digests.add(digest)
    return digests - {""}


def unwanted(contents: Contents, kept: Collection[str]) -> Unwanted:
    """Return all but the digests *kept* and the tags that lead to them; uploads end when the registry is stopped."""
    tags = sorted(key for key, digest in contents.tags.items() if digest not in kept)
    manifests = sorted(key for key in contents.manifests if key[1] not in kept)
    alive = {name for (name, _tag), digest in contents.tags.items() if digest in kept}
    alive |= {name for name, digest in contents.manifests if digest in kept}
    empty = sorted(contents.repositories - alive)
    directories = [
        *(f"{name}/_manifests/tags/{tag}" for name, tag in tags if name in alive),
        *(f"{name}/_manifests/revisions/{digest.replace(':', '/')}" for name, digest in manifests if name in alive),
        *(f"{name}/_uploads" for name in sorted(contents.uploads & alive)),
        *(f"{name}/{part}" for name in empty for part in ("_manifests", "_layers", "_uploads")),
    ]
    uploads = [f"{name} (unfinished uploads)" for name in sorted(contents.uploads)]
    return Unwanted([*(f"{name}:{tag}" for name, tag in tags), *uploads], directories)

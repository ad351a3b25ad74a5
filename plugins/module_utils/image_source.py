# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an image is made of: its directory, what it is built on, and the tag that follows from both."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from docker.utils.build import exclude_paths

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError

BASE_NAME = "apiary/base"
DEBIAN_SUITE = "bookworm"

#: options that say what the images are
IMAGE_LIST_SPEC: dict[str, Any] = {
    "images": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "context": {"type": "path", "required": True},
            "tag": {"type": "str", "default": ""},
            "args": {"type": "dict", "default": {}},
            "repository": {"type": "str", "default": ""},
            "tags": {"type": "list", "elements": "str", "default": []},
        },
    },
    "base": {"type": "str", "default": ""},
    "debian_suite": {"type": "str", "default": DEBIAN_SUITE},
}
#: options that the image plugins share
IMAGES_SPEC: dict[str, Any] = {**IMAGE_LIST_SPEC, "cache_dir": {"type": "path", "required": True}}

# Part of every tag: raised when the code makes other images from the same files.
_FORMAT = "1"
_BASE_DIRECTORY, _SCRIPT, _PACKAGES = "base", "bootstrap.sh", "packages"
# The grammar of github.com/distribution/reference, without a registry's port
NAME = re.compile(r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: the build argument that names what an image is built on
_BASE_ARGUMENT = "BASE"
_BASE_DEFAULT = re.compile(r"^ARG BASE=\S", re.MULTILINE)


@dataclass(frozen=True)
class Base:
    """An image base: a directory with ``packages``, and a Debian suite.

    A directory without ``bootstrap.sh`` is that of one image, ``images/x/base``, and uses the one in ``images/base``.
    """

    directory: Path
    debian_suite: str

    @property
    def script(self) -> Path:
        own = self.directory / _SCRIPT
        return own if own.is_file() else self.directory.parent.parent / _BASE_DIRECTORY / _SCRIPT

    @property
    def tag(self) -> str:
        shared = [] if self.script.parent == self.directory else ["script", _file_digest(self.script)]
        return _digest([_FORMAT, self.debian_suite, *_described(self.directory), *shared])

    @property
    def reference(self) -> str:
        return f"{BASE_NAME}:{self.tag}"


@dataclass(frozen=True)
class Image:
    """An image of ``image_list``: a build context, and what its Dockerfile's ``ARG BASE`` is set to."""

    name: str
    context: Path
    tag: str
    base: Base | str
    """Ours, the reference of another, or empty for the Dockerfile's own."""
    args: Mapping[str, str] = field(default_factory=dict)
    repository: str = ""
    """Its name in a registry, where that is another one."""
    tags: tuple[str, ...] = ()
    """Its tags in a registry besides its own."""

    @property
    def reference(self) -> str:
        return f"{self.name}:{self.tag}"

    @property
    def base_reference(self) -> str:
        return self.base.reference if isinstance(self.base, Base) else self.base

    @property
    def our_base_reference(self) -> str:
        """The reference of the base whose archive is in the cache; empty if the base is not one of ours."""
        return self.base.reference if isinstance(self.base, Base) else ""

    @property
    def build_arguments(self) -> dict[str, str]:
        return {**self.args, **({_BASE_ARGUMENT: self.base_reference} if self.base_reference else {})}


def context_files(context: Path) -> list[str]:
    """Return the files that are sent to the engine, by ``.dockerignore``, sorted, as paths inside *context*.

    Compiled Python is never sent: a test run beside the sources must not make another image. Nor is the directory of
    the image's own base, which counts through the base's tag.
    """
    ignore = context / ".dockerignore"
    patterns = [line.strip() for line in ignore.read_text().splitlines()] if ignore.is_file() else []
    patterns = [line for line in patterns if line and not line.startswith("#")]
    never = ["**/__pycache__", "__pycache__", *([_BASE_DIRECTORY] if _own_base(context) else [])]
    found = exclude_paths(str(context), [*patterns, *never], dockerfile="Dockerfile")
    return sorted(path for path in found if path and _is_content(context / path))


def write_context(context: Path, output: IO[bytes]) -> None:
    """Write the files of *context* as a tar for the engine; owners, times and umasks of a checkout leave no trace."""
    with tarfile.open(fileobj=output, mode="w") as tar:
        for name in context_files(context):
            member = tar.gettarinfo(str(context / name), name)
            member.mode = 0o755 if member.mode & 0o111 else 0o644
            member.uid = member.gid = member.mtime = 0
            member.uname = member.gname = ""
            if member.isreg():
                with (context / name).open("rb") as file:
                    tar.addfile(member, file)
            else:
                tar.addfile(member)
    output.seek(0)


def content_tag(
    context: Path, base: str = "", debian_suite: str = DEBIAN_SUITE, args: Mapping[str, Any] | None = None
) -> str:
    """Return the tag of the image built from *context*: the same files on the same base have the same tag.

    Times and owners do not count, names, contents, execute permissions and build arguments do.
    """
    built_on = _base_of(context, base, debian_suite)
    _require_dockerfile(context)
    return _tag(context, built_on, _arguments(args or {}, str(context)))


def images_of(params: Mapping[str, Any], project: str = "") -> list[Image]:
    """Return the images of the options in IMAGES_SPEC; ApiaryError names what is wrong with an entry.

    *project* is the value of the inventory's ``project_dir``, which contexts are said by, where there is one.
    """
    images = []
    for entry in params["images"]:
        context = Path(entry["context"])
        if not NAME.fullmatch(entry["name"]):
            raise ApiaryError(
                f"image_list: {entry['name']!r} is no image name: lower case letters and digits, with one of . _ - / "
                "between them, without a tag (that is the entry's 'tag'); for example apiary/web"
            )
        for tag in filter(None, [entry["tag"], *entry["tags"]]):
            if not _TAG.fullmatch(tag):
                raise ApiaryError(
                    f"image_list: {tag!r}, a tag of {entry['name']}, is none: up to 128 letters, digits, '_', '.' and "
                    "'-', the first no '.' or '-'"
                )
        if entry["repository"] and not NAME.fullmatch(entry["repository"]):
            raise ApiaryError(
                f"image_list: {entry['repository']!r}, the repository of {entry['name']}, is none: its name in the "
                "registry, without the registry (that is image_registry) and without a tag; for example ann/get-started"
            )
        _require_dockerfile(context, f"image_list: {entry['name']}: ", project)
        base = _base_of(context, params["base"], params["debian_suite"])
        args = _arguments(entry["args"], f"image_list: {entry['name']}")
        tag = entry["tag"] or _tag(context, base, args)
        tags = tuple(dict.fromkeys(other for other in entry["tags"] if other != tag))
        images.append(Image(entry["name"], context, tag, base, args, entry["repository"], tags))
    _refuse_duplicates(images)
    return images


def entries_of(params: Mapping[str, Any], references: Collection[str]) -> list[Mapping[str, Any]]:
    """Return the entries of the option ``images`` that *references* are the images of."""
    return [
        entry for entry, image in zip(params["images"], images_of(params), strict=True) if image.reference in references
    ]


def bases_of(images: Sequence[Image]) -> list[Base]:
    """Return the bases of ours that *images* are built on, each once; those of the same packages are the same."""
    return list({image.base.reference: image.base for image in images if isinstance(image.base, Base)}.values())


def _is_content(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _arguments(args: Mapping[str, Any], where: str) -> dict[str, str]:
    """Return build arguments as the engine takes them."""
    for name, value in args.items():
        if not _ARGUMENT.fullmatch(str(name)) or not isinstance(value, str | int | float):
            raise ApiaryError(
                f"{where}: args has {name!r}: {value!r}; a build argument is the name of an ARG in the Dockerfile, "
                "with a text or a number"
            )
    if _BASE_ARGUMENT in args:
        raise ApiaryError(f"{where}: args has {_BASE_ARGUMENT}, which Apiary sets: image_base is for another one")
    return {str(name): _argument(value) for name, value in sorted(args.items())}


def _argument(value: str | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refuse_duplicates(images: Sequence[Image]) -> None:
    seen: dict[str, Path] = {}
    for image in images:
        if seen.setdefault(image.reference, image.context) != image.context:
            raise ApiaryError(
                f"image_list: {image.reference} is to be built from {seen[image.reference]} and from {image.context}: "
                "rename one of them"
            )


def _require_dockerfile(context: Path, what: str = "", project: str = "") -> None:
    if not (context / "Dockerfile").is_file():
        state = "has no Dockerfile" if context.is_dir() else "is no directory"
        remedy = "correct its 'context', or project_dir, where it is said by that"
        if project:
            under = Path(os.path.normpath(project)) in Path(os.path.normpath(context)).parents
            remedy = f"correct project_dir, which is {project}, or its 'context'" if under else "correct its 'context'"
        raise ApiaryError(f"{what}{context} {state}: an image is built from a directory with a Dockerfile; {remedy}")


def _own_base(context: Path) -> Path | None:
    """Return the directory of the base that the image in *context* has for itself, if it has one."""
    own = context / _BASE_DIRECTORY
    return own if (own / _PACKAGES).is_file() else None


def _makes_bases() -> bool:
    """Say whether this computer makes bases of Debian's packages: a Debian system does, or gets the tool to."""
    return bool(shutil.which("mmdebstrap")) or Path("/etc/debian_version").exists()


def _base_of(context: Path, base: str, debian_suite: str) -> Base | str:
    """Return what *context* is built on: *base*, or a base of ours, or ("") what its Dockerfile names.

    Where no base of ours can be made, as on macOS, the Dockerfile's stands in, if it names one.
    """
    if base:
        return base
    dockerfile = context / "Dockerfile"
    if not _makes_bases() and dockerfile.is_file() and _BASE_DEFAULT.search(dockerfile.read_text()):
        return ""
    if own := _own_base(context):
        ours = Base(own, debian_suite)
        if not ours.script.is_file():
            raise ApiaryError(
                f"{own / _PACKAGES} is there, and nothing that makes an image base of it: neither {own / _SCRIPT} nor "
                f"{ours.script} exists"
            )
        return ours
    shared = context.parent / _BASE_DIRECTORY
    return Base(shared, debian_suite) if (shared / _SCRIPT).is_file() else ""


def _tag(context: Path, base: Base | str, args: Mapping[str, str]) -> str:
    given = [part for item in sorted(args.items()) for part in item]
    return _digest([_FORMAT, base.tag if isinstance(base, Base) else base, *_described(context), *given])


def _described(context: Path) -> list[str]:
    described = []
    for name in context_files(context):
        path = context / name
        if path.is_symlink():
            described += [name, "link", str(path.readlink())]
        else:
            kind = "program" if path.stat().st_mode & 0o111 else "file"
            described += [name, kind, _file_digest(path)]
    return described


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]

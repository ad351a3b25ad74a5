# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Making images: the base with mmdebstrap on the controller, others from their Dockerfiles through an engine's API."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import urllib3.exceptions

from ansible_collections.apiary.swarm.plugins.module_utils import image_archive
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.image_cache import ImageCache
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import Base, Image, write_context

#: an engine on an emulated CPU may be silent for minutes while it unpacks a layer
TIMEOUT_SECONDS = 1800
_LAST_LINES = 20
# The engine colours what a build writes to its standard error.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def bootstrap_problem() -> str:
    """Return why no image base can be made on this computer; empty when one can."""
    if not shutil.which("mmdebstrap"):
        return (
            "mmdebstrap is missing on this computer, it makes the image base: on Debian, apt-get install mmdebstrap; "
            "elsewhere, if there is none to be had, set image_base to an image that nodes can pull, such as "
            "python:3-slim (docs/images.md)"
        )
    if os.geteuid() != 0 and not shutil.which("newuidmap"):
        return "newuidmap is missing, mmdebstrap needs it to work without root: on Debian, apt-get install uidmap"
    return ""


def bootstrap(base: Base, cache: ImageCache) -> bool:
    """Make the archive of *base*, unless it is there; return whether it had to be made."""
    with cache.making(base.reference) as output:
        if output is None:
            return False
        if problem := bootstrap_problem():
            raise ApiaryError(problem)
        rootfs = output.with_name("rootfs.tar")
        command = ["sh", str(base.script), base.debian_suite, str(rootfs), str(base.directory)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise ApiaryError(
                f"{' '.join(command)} failed (exit code {done.returncode}). Its last lines:\n"
                f"{_last(done.stdout.splitlines())}"
            )
        with rootfs.open("rb") as finished:
            image_archive.write_base(finished, output, base.reference, f"bootstrap.sh {base.debian_suite}")
    return True


def build(api: Any, image: Image, cache: ImageCache, node: str) -> bool:
    """Build *image* on the engine *api* and keep its archive, unless that is there; return whether it was built."""
    with cache.making(image.reference, image.our_base_reference) as output:
        if output is None:
            return False
        if image.our_base_reference:
            load(api, image.our_base_reference, cache, node)
        if image.reference not in present(api, [image.reference]):
            _build_on(api, image, node)
        known = image_archive.diff_ids(cache.path(image.our_base_reference)) if image.our_base_reference else []
        exported = output.with_name("exported.tar")
        with exported.open("wb") as file, broken_stream(f"exporting {image.reference} from {node}"):
            for chunk in api.get_image(image.reference):
                file.write(chunk)
        try:
            image_archive.write_own_layers(exported, output, image.reference, known)
        except tarfile.TarError as error:
            raise ApiaryError(f"{node} exported {image.reference} as something unreadable: {error}") from error
    return True


def present(api: Any, references: Iterable[str]) -> set[str]:
    """Return which of *references* the engine has, at the price of one request."""
    wanted = set(references)
    if not wanted:
        return set()
    found = api.images(filters={"reference": sorted(wanted)})
    return wanted & {tag for image in found for tag in image.get("RepoTags") or []}


def load(api: Any, reference: str, cache: ImageCache, node: str, base_reference: str = "") -> bool:
    """Load *reference* from the cache, unless the engine has that very image; return whether it was loaded.

    *base_reference* names the image of ours that it is built on, whose layer its archive leaves out.
    """
    if _layers_on(api, reference) == image_archive.diff_ids(cache.path(reference)):
        return False
    if base_reference:
        load(api, base_reference, cache, node)
    with cache.path(reference).open("rb") as archive:
        if base_reference and _wants_all_layers(api):
            with tempfile.TemporaryFile(dir=cache.directory) as whole:
                image_archive.write_whole(cache.path(reference), cache.path(base_reference), whole)
                _load(api, whole, reference, node)
        else:
            _load(api, archive, reference, node)
    if not _layers_on(api, reference):
        raise ApiaryError(
            f"{node} accepted the archive of {reference} and does not have the image: remove {cache.path(reference)} "
            "and run playbooks/images.yml again"
        )
    return True


def _layers_on(api: Any, reference: str) -> list[str]:
    if reference not in present(api, [reference]):
        return []
    layers: list[str] = api.inspect_image(reference)["RootFS"]["Layers"]
    return layers


def _load(api: Any, archive: IO[bytes], reference: str, node: str) -> None:
    with broken_stream(f"loading {reference} into {node}"):
        messages = list(api.load_image(archive, quiet=True))
    for message in messages:
        if problem := message.get("error") or message.get("message"):
            raise ApiaryError(
                f"{node} could not load {reference}: {str(problem).strip()}. "
                "If its disk is full, 'docker system prune' on it frees room"
            )


def _wants_all_layers(api: Any) -> bool:
    """Say whether the engine keeps images in containerd's store, whose import refuses archives with layers left out."""
    status: list[list[str]] = api.info().get("DriverStatus") or []
    return any("io.containerd.snapshotter" in str(value) for _key, value in status)


def _build_on(api: Any, image: Image, node: str) -> None:
    lines: deque[str] = deque(maxlen=_LAST_LINES)
    doing = f"building {image.reference} from {image.context} on {node}"
    with tempfile.TemporaryFile() as context, broken_stream(doing):
        write_context(image.context, context)
        for message in api.build(
            fileobj=context,
            custom_context=True,
            tag=image.reference,
            buildargs=image.build_arguments,
            rm=True,
            forcerm=True,
            decode=True,
        ):
            lines.extend(_COLOUR.sub("", str(message.get("stream") or message.get("status") or "")).splitlines())
            if problem := message.get("error") or message.get("message"):
                raise ApiaryError(
                    f"{doing} failed: {str(problem).strip()}. The last lines of the build:\n{_last(lines)}"
                )


@contextmanager
def broken_stream(doing: str) -> Iterator[None]:
    """Make an ApiaryError of a connection that breaks while the engine's answer is read."""
    try:
        yield
    except urllib3.exceptions.HTTPError as error:  # the SDK passes them on as they are while it reads a stream
        raise ApiaryError(
            f"{doing} was cut short: {error}. Does the machine still run? Run the playbook again"
        ) from error


def _last(lines: Iterable[str]) -> str:
    return "\n".join(f"  {line}" for line in [line for line in lines if line.strip()][-_LAST_LINES:])

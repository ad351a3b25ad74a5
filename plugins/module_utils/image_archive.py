# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Image archives, as `docker load` reads them, that leave out the layers which the engine has already.

A machine with an emulated CPU needs about half a second to load a megabyte. So the layer of the image base goes to each
machine once, and the archive of an image built on it holds the image's own layers only: some kilobytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
import tempfile
import threading
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import IO, Any

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError

_CHUNK_BYTES = 1 << 20
#: whoever else asks about an archive waits for the answer, and does not look for it, too
_READING = threading.Lock()
# Belongs to the machine that made the root filesystem, or is made anew in each container.
_NOT_IN_LAYERS = ("dev/", "etc/hostname", "etc/resolv.conf", "proc/", "sys/", "var/cache/", "var/lib/apt/")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_base(rootfs: IO[bytes], output: Path, reference: str, comment: str) -> None:
    """Write to *output* the archive of an image with one layer: the root filesystem in the tar *rootfs*."""
    with tempfile.TemporaryFile(dir=output.parent) as layer:
        _copy_rootfs(rootfs, layer)
        diff_id = _sha256(layer)
        created = datetime.now(UTC).isoformat()
        machine = platform.machine()
        config = {
            "architecture": _ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "created": created,
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Cmd": ["/bin/sh"],
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
            "history": [{"created": created, "created_by": comment}],
        }
        with _Writer(output) as archive:
            archive.add_layer(f"sha256:{diff_id}", layer)
            archive.finish(json.dumps(config).encode(), reference)


def diff_ids(archive: Path) -> list[str]:
    """Return the layers of the image in *archive*, whether the archive holds them or not."""
    status = archive.stat()
    with _READING:
        return list(_diff_ids(archive, status.st_mtime_ns, status.st_size))


# It is unpacked to its end for that, and asked about for each node.
@cache
def _diff_ids(archive: Path, _mtime_ns: int, _size_bytes: int) -> list[str]:
    with tarfile.open(archive) as tar:
        return list(json.loads(_read(tar, _manifest(tar)["Config"]))["rootfs"]["diff_ids"])


def left_out(archive: Path) -> set[str]:
    """Return the layers of the image in *archive* that the archive does not hold."""
    with tarfile.open(archive) as tar:
        manifest, held = _manifest(tar), set(tar.getnames())
        ids = json.loads(_read(tar, manifest["Config"]))["rootfs"]["diff_ids"]
    return {diff_id for diff_id, name in zip(ids, manifest["Layers"], strict=True) if name not in held}


def write_own_layers(exported: Path, output: Path, reference: str, known: Collection[str]) -> None:
    """Write to *output* the image in *exported*, what `docker save` gave, less the layers with an ID in *known*."""
    with tarfile.open(exported) as tar, _Writer(output) as archive:
        manifest = _manifest(tar)
        config = _read(tar, manifest["Config"])
        for diff_id, path in zip(json.loads(config)["rootfs"]["diff_ids"], manifest["Layers"], strict=True):
            if diff_id in known:
                archive.know_layer(diff_id)
            else:
                archive.add_layer(diff_id, _member(tar, path))
        archive.finish(config, reference)


def write_whole(own: Path, base: Path, output: IO[bytes]) -> None:
    """Write to *output* the image in *own* with the layers that only *base* holds, for engines that want them again."""
    with tarfile.open(own) as tar, tarfile.open(base) as below, tarfile.open(fileobj=output, mode="w:gz") as whole:
        held = set(tar.getnames())
        for layer in below.getmembers():
            if layer.name.endswith(".layer.tar") and layer.name not in held:
                whole.addfile(layer, below.extractfile(layer))
        for member in tar.getmembers():
            whole.addfile(member, tar.extractfile(member))
    output.seek(0)


class _Writer:
    """An archive in the making."""

    def __init__(self, output: Path) -> None:
        self._gzip = gzip.open(output, "wb", compresslevel=6)  # noqa: SIM115 - closed by __exit__
        self._tar = tarfile.open(fileobj=self._gzip, mode="w")  # noqa: SIM115 - closed by __exit__
        self._layers: list[str] = []
        self._written: set[str] = set()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._tar.close()
        self._gzip.close()

    def know_layer(self, diff_id: str) -> str:
        """Name a layer that the engine has, and return its name."""
        name = f"{diff_id.removeprefix('sha256:')}.layer.tar"
        self._layers.append(name)
        return name

    def add_layer(self, diff_id: str, content: IO[bytes]) -> None:
        name = self.know_layer(diff_id)
        if name not in self._written:  # the same change made twice is one layer
            self._written.add(name)
            member = tarfile.TarInfo(name)
            member.size = content.seek(0, io.SEEK_END)
            content.seek(0)
            self._tar.addfile(member, content)

    def finish(self, config: bytes, reference: str) -> None:
        config_name = f"{hashlib.sha256(config).hexdigest()}.json"
        manifest = [{"Config": config_name, "RepoTags": [reference], "Layers": self._layers}]
        for name, content in ((config_name, config), ("manifest.json", json.dumps(manifest).encode())):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            self._tar.addfile(member, io.BytesIO(content))


def _copy_rootfs(rootfs: IO[bytes], layer: IO[bytes]) -> None:
    with (
        tarfile.open(fileobj=rootfs) as source,
        tarfile.open(fileobj=layer, mode="w", format=tarfile.PAX_FORMAT) as target,
    ):
        for member in source:
            member.name = member.name.removeprefix("./")
            if member.islnk():
                member.linkname = member.linkname.removeprefix("./")
            if member.name in ("", ".") or member.name.startswith(_NOT_IN_LAYERS):
                continue
            target.addfile(member, source.extractfile(member) if member.isreg() else None)
    layer.seek(0)


def _manifest(tar: tarfile.TarFile) -> Mapping[str, Any]:
    manifest: list[dict[str, Any]] = json.loads(_read(tar, "manifest.json"))
    return manifest[0]


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    return _member(tar, name).read()


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    try:
        file = tar.extractfile(name)  # follows the links by which older engines name a layer twice
    except KeyError:
        file = None
    if file is None:
        raise ApiaryError(f"the engine exported an image without its {name}: run the playbook again")
    return file


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Archives of images: layers that a node has are left out, and a damaged file never counts."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils import image_build, image_cache
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.image_archive import (
    diff_ids,
    write_base,
    write_own_layers,
    write_whole,
)
from ansible_collections.apiary.swarm.plugins.module_utils.image_cache import ImageCache
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import Base, Image

WEB = "apiary/web:4f9d0c1b2a3e"


def tar_of(files: dict[str, bytes]) -> io.BytesIO:
    """Return a tar with *files*; a name that ends in a slash is a directory."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            if name.endswith("/"):
                member.type = tarfile.DIRTYPE
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    content.seek(0)
    return content


def names_in(archive: Path | io.BytesIO) -> list[str]:
    with tarfile.open(archive) if isinstance(archive, Path) else tarfile.open(fileobj=archive) as tar:
        return tar.getnames()


@pytest.fixture
def base_archive(tmp_path: Path) -> Path:
    path = tmp_path / "base.tar.gz"
    files = {
        "./": b"",
        "./dev/": b"",
        "./dev/null": b"",
        "./etc/hostname": b"vm",
        "./etc/passwd": b"root",
        "./bin": b"",
    }
    write_base(tar_of(files), path, "apiary/base:1", "bootstrap.sh bookworm")
    return path


def saved_image(layers: list[str], reference: str) -> bytes:
    """Return what `docker save` gives for an image with *layers*."""
    paths = [f"{number}/layer.tar" for number, _layer in enumerate(layers)]
    manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": paths}]
    files = {path: layer.encode() for path, layer in zip(paths, layers, strict=True)}
    files["config.json"] = json.dumps({"rootfs": {"diff_ids": layers}}).encode()
    files["manifest.json"] = json.dumps(manifest).encode()
    return tar_of(files).getvalue()


def exported(base_archive: Path, path: Path) -> Path:
    """Write an image with the base's layer and one of its own, as an engine exports it."""
    path.write_bytes(saved_image([*diff_ids(base_archive), "sha256:own"], WEB))
    return path


def test_the_base_has_one_layer_without_what_belongs_to_a_machine(base_archive: Path) -> None:
    with tarfile.open(base_archive) as archive:
        manifest = json.load(archive.extractfile("manifest.json") or io.BytesIO())
        (layer,) = manifest[0]["Layers"]
        content = archive.extractfile(layer)
        assert content is not None
        assert names_in(io.BytesIO(content.read())) == ["dev", "etc/passwd", "bin"]
    assert manifest[0]["RepoTags"] == ["apiary/base:1"]
    assert diff_ids(base_archive) == [f"sha256:{layer.removesuffix('.layer.tar')}"]


def test_archive_is_unpacked_once_for_all_nodes_and_again_when_it_is_another(
    base_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, ThreadPoolExecutor() as nodes:
        opened = MagicMock(wraps=tarfile.open)
        patch.setattr(tarfile, "open", opened)
        asked = list(nodes.map(diff_ids, [base_archive] * 20))
    opened.assert_called_once_with(base_archive)
    assert asked == [asked[0]] * 20
    write_own_layers(exported(base_archive, tmp_path / "saved.tar"), base_archive, WEB, [])
    assert diff_ids(base_archive) == [*asked[0], "sha256:own"]


def test_an_archive_leaves_out_the_layers_of_the_base(base_archive: Path, tmp_path: Path) -> None:
    own = tmp_path / "web.tar.gz"
    write_own_layers(exported(base_archive, tmp_path / "saved.tar"), own, WEB, diff_ids(base_archive))
    assert [name for name in names_in(own) if name.endswith(".layer.tar")] == ["own.layer.tar"]
    assert diff_ids(own) == [*diff_ids(base_archive), "sha256:own"]


def test_an_archive_of_an_image_on_another_base_is_whole(base_archive: Path, tmp_path: Path) -> None:
    own = tmp_path / "web.tar.gz"
    write_own_layers(exported(base_archive, tmp_path / "saved.tar"), own, WEB, [])
    assert len([name for name in names_in(own) if name.endswith(".layer.tar")]) == 2


def test_left_out_layers_can_be_put_back(base_archive: Path, tmp_path: Path) -> None:
    own, whole = tmp_path / "web.tar.gz", io.BytesIO()
    write_own_layers(exported(base_archive, tmp_path / "saved.tar"), own, WEB, diff_ids(base_archive))
    write_whole(own, base_archive, whole)
    names = names_in(whole)
    whole.seek(0)
    with tarfile.open(fileobj=whole) as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json") or io.BytesIO())
    assert set(manifest["Layers"]) <= set(names)
    assert names.count("manifest.json") == 1
    assert manifest["RepoTags"] == [WEB]


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    return ImageCache(tmp_path / "cache")


def put(cache: ImageCache, content: bytes = b"archive") -> Path:
    with cache.making(WEB) as output:
        assert output is not None
        output.write_bytes(content)
    return cache.path(WEB)


def test_what_was_kept_is_sound(cache: ImageCache) -> None:
    assert not cache.sound(WEB)
    put(cache)
    assert cache.sound(WEB)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: os.truncate(path, 3), id="truncated"),
        pytest.param(lambda path: path.write_bytes(b"archivf"), id="changed"),
        pytest.param(lambda path: path.unlink(), id="removed"),
        pytest.param(lambda path: path.with_name(path.name + ".sha256").unlink(), id="without checksum"),
        pytest.param(lambda path: path.with_name(path.name + ".sha256").write_text(""), id="empty checksum"),
    ],
)
def test_a_damaged_archive_does_not_count_and_is_made_again(cache: ImageCache, damage: Any) -> None:
    damage(put(cache))
    assert not cache.sound(WEB)
    put(cache)
    assert cache.sound(WEB)


def test_an_interruption_leaves_nothing(cache: ImageCache) -> None:
    with pytest.raises(KeyboardInterrupt), cache.making(WEB) as output:
        assert output is not None
        output.write_bytes(b"half")
        raise KeyboardInterrupt
    assert not cache.sound(WEB)
    assert [path.name for path in cache.directory.iterdir() if path.suffix != ".lock"] == []


def test_who_waited_finds_it_made(cache: ImageCache) -> None:
    first_is_in, outcomes = threading.Event(), []

    def second() -> None:
        first_is_in.wait(5)
        with cache.making(WEB) as output:
            outcomes.append(output)

    thread = threading.Thread(target=second)
    thread.start()
    with cache.making(WEB) as output:
        first_is_in.set()
        thread.join(0.2)
        assert thread.is_alive()
        assert output is not None
        output.write_bytes(b"archive")
    thread.join(5)
    assert outcomes == [None]


def test_too_little_room_is_said_with_the_directory(cache: ImageCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_cache, "NEEDED_BYTES", 1 << 60)
    with pytest.raises(ApiaryError, match=rf"{WEB} cannot be made: {cache.directory} .* MiB free"), cache.making(WEB):
        pass


def test_a_broken_connection_is_not_blamed_on_the_cache(cache: ImageCache) -> None:
    with pytest.raises(ConnectionResetError), cache.making(WEB):
        raise ConnectionResetError(104, "reset")


class FakeEngine:
    """What building, loading and asking use of docker.APIClient; an image is known by its layers."""

    def __init__(self) -> None:
        self.layers: dict[str, list[str]] = {}
        self.held: set[str] = set()
        self.received: list[str] = []
        self.build_messages: list[dict[str, str]] = [{"stream": "Successfully built\n"}]
        self.build_arguments: dict[str, str] = {}
        self.driver_status: list[list[str]] = []

    def images(self, filters: dict[str, list[str]]) -> list[dict[str, Any]]:
        return [{"RepoTags": [reference]} for reference in self.layers if reference in filters["reference"]]

    def inspect_image(self, reference: str) -> dict[str, Any]:
        return {"RootFS": {"Layers": self.layers[reference]}}

    def info(self) -> dict[str, Any]:
        return {"DriverStatus": self.driver_status}

    def load_image(self, data: Any, quiet: bool) -> list[dict[str, str]]:
        with tarfile.open(fileobj=data) as archive:
            (manifest,) = json.load(archive.extractfile("manifest.json") or io.BytesIO())
            config = json.load(archive.extractfile(manifest["Config"]) or io.BytesIO())
            self.received = archive.getnames()
        layers = config["rootfs"]["diff_ids"]
        for layer, name in zip(layers, manifest["Layers"], strict=True):
            if layer not in self.held and name not in self.received:
                return [{"error": f"open {name}: no such file or directory"}]
        self.held |= set(layers)
        self.layers[manifest["RepoTags"][0]] = layers
        return []

    def build(self, tag: str, buildargs: dict[str, str], **_other: Any) -> list[dict[str, str]]:
        self.build_arguments = buildargs
        if not any("error" in message for message in self.build_messages):
            self.layers[tag] = [*self.layers[buildargs["BASE"]], "sha256:own"]
            self.held |= set(self.layers[tag])
        return self.build_messages

    def get_image(self, reference: str) -> list[bytes]:
        saved = saved_image(self.layers[reference], reference)
        return [saved[:500], saved[500:]]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def make_base(cache: ImageCache, base: Base, files: dict[str, bytes]) -> None:
    cache.path(base.reference).unlink(missing_ok=True)
    with cache.making(base.reference) as output:
        assert output is not None
        write_base(tar_of(files), output, base.reference, "")


@pytest.fixture
def web(tmp_path: Path, cache: ImageCache) -> Image:
    """An image whose base is in the cache."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web/Dockerfile").write_text("ARG BASE\nFROM ${BASE}\n")
    (tmp_path / "base").mkdir()
    (tmp_path / "base/bootstrap.sh").write_text("exit 1\n")
    base = Base(tmp_path / "base", "bookworm")
    make_base(cache, base, {"./bin": b""})
    return Image("apiary/web", tmp_path / "web", "4f9d0c1b2a3e", base)


def test_what_is_built_is_kept_and_not_built_again(engine: FakeEngine, web: Image, cache: ImageCache) -> None:
    assert image_build.build(engine, web, cache, "myvm1")
    assert engine.build_arguments == {"BASE": web.base_reference}
    assert set(engine.layers) == {web.reference, web.base_reference}
    assert not image_build.build(engine, web, cache, "myvm1")


def test_a_failing_build_shows_its_last_lines_and_keeps_nothing(
    engine: FakeEngine, web: Image, cache: ImageCache
) -> None:
    engine.build_messages = [
        *({"stream": f"line {number}\n"} for number in range(100)),
        {"stream": "\x1b[91msh: frobnicate: not found\x1b[0m\n"},
        {"error": "returned a non-zero code: 127"},
    ]
    with pytest.raises(ApiaryError) as error:
        image_build.build(engine, web, cache, "myvm1")
    message = str(error.value)
    assert message.startswith(f"building {WEB} from {web.context} on myvm1 failed: returned a non-zero code: 127")
    assert message.endswith("  line 99\n  sh: frobnicate: not found")
    assert "line 80\n" not in message
    assert not cache.has(WEB)


def layers_in(names: list[str]) -> list[str]:
    return [f"sha256:{name.removesuffix('.layer.tar')}" for name in names if name.endswith(".layer.tar")]


def test_a_node_gets_only_the_layers_it_lacks(engine: FakeEngine, web: Image, cache: ImageCache) -> None:
    image_build.build(engine, web, cache, "myvm1")
    other = FakeEngine()
    assert image_build.load(other, web.reference, cache, "myvm2", web.base_reference)
    assert other.layers == engine.layers
    assert layers_in(other.received) == ["sha256:own"]
    assert not image_build.load(other, web.reference, cache, "myvm2", web.base_reference)


def test_an_engine_on_containerds_store_gets_all_layers(engine: FakeEngine, web: Image, cache: ImageCache) -> None:
    image_build.build(engine, web, cache, "myvm1")
    other = FakeEngine()
    other.driver_status = [["driver-type", "io.containerd.snapshotter.v1"]]
    image_build.load(other, web.reference, cache, "myvm2", web.base_reference)
    assert layers_in(other.received) == engine.layers[web.reference]


def test_what_was_built_on_an_earlier_base_is_void(engine: FakeEngine, web: Image, cache: ImageCache) -> None:
    image_build.build(engine, web, cache, "myvm1")
    assert isinstance(web.base, Base)
    make_base(cache, web.base, {"./bin": b"another"})
    assert not cache.sound(web.reference, web.base_reference)

    fresh = FakeEngine()
    assert image_build.build(fresh, web, cache, "myvm1")
    assert cache.sound(web.reference, web.base_reference)


def test_a_node_with_an_earlier_base_gets_the_present_one(engine: FakeEngine, web: Image, cache: ImageCache) -> None:
    image_build.load(engine, web.base_reference, cache, "myvm1")
    earlier = engine.layers[web.base_reference]
    assert isinstance(web.base, Base)
    make_base(cache, web.base, {"./bin": b"another"})
    image_build.build(FakeEngine(), web, cache, "myvm2")

    image_build.load(engine, web.reference, cache, "myvm1", web.base_reference)
    assert engine.layers[web.base_reference] != earlier
    assert engine.layers[web.reference][:1] == engine.layers[web.base_reference]


def test_a_load_that_fails_names_node_and_image(
    engine: FakeEngine, web: Image, cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "load_image", lambda *_a, **_k: [{"error": "no space left on device"}])
    with pytest.raises(ApiaryError, match=rf"myvm2 could not load {web.base_reference}: no space left on device"):
        image_build.load(engine, web.base_reference, cache, "myvm2")


def test_a_base_of_its_own_is_made_of_its_packages_by_the_shared_script(
    web: Image, cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(web.base, Base)
    (web.context / "base").mkdir()
    (web.context / "base/packages").write_text("haproxy\n")
    (web.base.directory / "bootstrap.sh").write_text('tar --create --file "$2" --directory "$3" packages\n')
    monkeypatch.setattr(image_build, "bootstrap_problem", lambda: "")
    own = Base(web.context / "base", "bookworm")
    assert image_build.bootstrap(own, cache)
    assert cache.sound(own.reference)
    assert own.reference != web.base_reference
    with tarfile.open(cache.path(own.reference)) as archive:
        (layer,) = [name for name in archive.getnames() if name.endswith("layer.tar")]
        with tarfile.open(fileobj=archive.extractfile(layer)) as rootfs:
            assert rootfs.getnames() == ["packages"]


def test_a_bootstrap_that_fails_shows_its_last_lines(
    web: Image, cache: ImageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(web.base, Base)
    (web.base.directory / "bootstrap.sh").write_text("echo E: no such package: $1; exit 3\n")
    monkeypatch.setattr(image_build, "bootstrap_problem", lambda: "")
    with pytest.raises(ApiaryError, match=r"(?s)exit code 3.*E: no such package: bookworm"):
        image_build.bootstrap(web.base, cache)
    assert not cache.has(web.base_reference)

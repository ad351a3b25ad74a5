# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tags follow from what an image is made of, and from nothing else."""

from __future__ import annotations

import io
import os
import re
import tarfile
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from ansible_collections.apiary.swarm.plugins.action import image_preflight
from ansible_collections.apiary.swarm.plugins.module_utils import image_source
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import (
    Base,
    bases_of,
    content_tag,
    context_files,
    images_of,
    write_context,
)

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A directory with the images base and web."""
    for name, content in {
        "base/bootstrap.sh": "exec mmdebstrap\n",
        "base/packages": "python3-flask\n",
        "web/Dockerfile": "ARG BASE\nFROM ${BASE}\n",
        "web/app.py": "print('hello')\n",
        "web/templates/index.html": "<h1>hello</h1>\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def entry(images: Path, **changes: Any) -> dict[str, Any]:
    given = {"name": "apiary/web", "context": str(images / "web"), "tag": "", "args": {}, "repository": "", "tags": []}
    return given | changes


def own_base(images: Path, packages: str = "haproxy\n") -> None:
    """Give web a base of its own."""
    (images / "web/base").mkdir(exist_ok=True)
    (images / "web/base/packages").write_text(packages)


def params(*entries: dict[str, Any], base: str = "") -> dict[str, Any]:
    return {"images": list(entries), "base": base, "debian_suite": "bookworm"}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda images: (images / "web/app.py").write_text("print('hi')\n"), id="content"),
        pytest.param(lambda images: (images / "web/templates/new.html").write_text(""), id="new file"),
        pytest.param(lambda images: (images / "web/app.py").rename(images / "web/main.py"), id="name"),
        pytest.param(lambda images: (images / "web/app.py").chmod(0o755), id="execute permission"),
        pytest.param(lambda images: (images / "web/Dockerfile").write_text("FROM x\n"), id="Dockerfile"),
        pytest.param(lambda images: (images / "base/packages").write_text("python3\n"), id="packages of the base"),
    ],
)
def test_the_tag_changes_with_what_the_image_is_made_of(images: Path, change: Any) -> None:
    before = content_tag(images / "web")
    change(images)
    assert content_tag(images / "web") != before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda images: os.utime(images / "web/app.py", (1, 1)), id="time"),
        pytest.param(lambda images: (images / "web/app.py").chmod(0o600), id="umask of the checkout"),
        pytest.param(lambda images: (images / "web/__pycache__").mkdir(), id="empty directory"),
    ],
)
def test_the_tag_stays_when_the_image_would_be_the_same(images: Path, change: Any) -> None:
    before = content_tag(images / "web")
    change(images)
    assert content_tag(images / "web") == before


def test_compiled_python_and_ignored_files_do_not_count(images: Path) -> None:
    (images / "web/.dockerignore").write_text("# notes\n*.md\n")
    before = content_tag(images / "web")
    (images / "web/notes.md").write_text("later")
    for directory in ("web", "web/templates"):
        (images / directory / "__pycache__").mkdir()
        (images / directory / "__pycache__/app.cpython-311.pyc").write_bytes(b"compiled")
    assert content_tag(images / "web") == before


def test_the_tag_depends_on_suite_and_foreign_base(images: Path) -> None:
    tags = {
        content_tag(images / "web"),
        content_tag(images / "web", debian_suite="trixie"),
        content_tag(images / "web", base="python:3-slim"),
        content_tag(images / "web", base="python:3.13-slim"),
    }
    assert len(tags) == 4


def test_the_tag_depends_on_build_arguments_and_not_on_their_order(images: Path) -> None:
    tags = {
        content_tag(images / "web"),
        content_tag(images / "web", args={"COLOUR": "red", "SIZE": 3}),
        content_tag(images / "web", args={"COLOUR": "blue", "SIZE": 3}),
    }
    assert len(tags) == 3
    assert content_tag(images / "web", args={"SIZE": "3", "COLOUR": "red"}) in tags


def test_the_build_is_given_the_arguments_and_the_base(images: Path) -> None:
    (image,) = images_of(params(entry(images, args={"SIZE": 3, "BRIGHT": True})))
    assert image.build_arguments == {"SIZE": "3", "BRIGHT": "true", "BASE": image.base_reference}


def test_the_own_tag_is_no_other_tag(images: Path) -> None:
    (image,) = images_of(params(entry(images, tag="2.0", tags=["latest", "2.0", "latest"])))
    assert image.tags == ("latest",)


def test_an_image_without_our_base_beside_it_names_its_own(images: Path) -> None:
    (images / "base/bootstrap.sh").unlink()
    (image,) = images_of(params(entry(images)))
    assert image.base_reference == ""


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda images: own_base(images, "nginx\n"), id="packages of its own base"),
        pytest.param(lambda images: (images / "base/bootstrap.sh").write_text("exit 0\n"), id="script beside"),
        pytest.param(lambda images: (images / "web/base/bootstrap.sh").write_text("exit 0\n"), id="script of its own"),
        pytest.param(lambda images: (images / "web/base/packages").unlink(), id="no base of its own any more"),
    ],
)
def test_the_tag_changes_with_the_base_of_its_own(images: Path, change: Any) -> None:
    own_base(images)
    before = content_tag(images / "web")
    change(images)
    assert content_tag(images / "web") != before


@pytest.mark.parametrize("name", ["base/packages", "base/notes"])
def test_a_base_of_its_own_has_nothing_of_the_shared_one_but_the_script(images: Path, name: str) -> None:
    own_base(images)
    before = content_tag(images / "web")
    (images / name).write_text("another\n")
    assert content_tag(images / "web") == before


@pytest.mark.parametrize(
    ("own_script", "script"), [(False, "base/bootstrap.sh"), (True, "web/base/bootstrap.sh")], ids=["shared", "own"]
)
def test_a_base_of_its_own_is_made_by_its_own_script_or_the_shared_one(
    images: Path, own_script: bool, script: str
) -> None:
    own_base(images)
    if own_script:
        (images / "web/base/bootstrap.sh").write_text("exit 0\n")
    (image,) = images_of(params(entry(images)))
    assert isinstance(image.base, Base)
    assert (image.base.directory, image.base.script) == (images / "web/base", images / script)


def test_a_base_of_its_own_is_not_sent(images: Path) -> None:
    own_base(images)
    assert context_files(images / "web") == ["Dockerfile", "app.py", "templates/index.html"]


def test_a_directory_base_without_packages_is_content(images: Path) -> None:
    (images / "web/base").mkdir()
    (images / "web/base/index.html").write_text("")
    (image,) = images_of(params(entry(images)))
    assert "base/index.html" in context_files(images / "web")
    assert image.base == Base(images / "base", "bookworm")


def test_packages_that_nothing_makes_a_base_of_are_refused(images: Path) -> None:
    own_base(images)
    (images / "base/bootstrap.sh").unlink()
    with pytest.raises(ApiaryError, match=r"web/base/packages is there.*web/base/bootstrap\.sh.*/base/bootstrap\.sh"):
        images_of(params(entry(images)))


def test_a_given_base_goes_before_all_of_ours(images: Path) -> None:
    own_base(images)
    (image,) = images_of(params(entry(images), base="python:3-slim"))
    assert (image.base, bases_of([image])) == ("python:3-slim", [])


def test_every_base_of_a_list_is_made_once(images: Path) -> None:
    own_base(images)
    for name in ("twin", "plain"):
        (images / name).mkdir()
        (images / name / "Dockerfile").write_text("FROM x\n")
    (images / "twin/base").mkdir()
    (images / "twin/base/packages").write_text("haproxy\n")
    entries = [entry(images, name=name, context=str(images / name)) for name in ("web", "twin", "plain")]
    bases = bases_of(images_of(params(*entries)))
    assert [base.directory for base in bases] == [images / "twin/base", images / "base"]


def test_the_filter_and_the_role_agree(images: Path) -> None:
    (image,) = images_of(params(entry(images)))
    assert image.reference == f"apiary/web:{content_tag(images / 'web')}"
    assert image.base_reference == Base(images / "base", "bookworm").reference


def test_a_given_tag_is_kept(images: Path) -> None:
    (image,) = images_of(params(entry(images, tag="1.0")))
    assert image.reference == "apiary/web:1.0"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "apiary/Web"}, ["'apiary/Web'", "lower case"]),
        ({"name": "apiary/web:1"}, ["'apiary/web:1'", "'tag'"]),
        ({"name": "-web"}, ["'-web'"]),
        ({"tag": "a b"}, ["'a b'", "apiary/web"]),
        ({"tags": ["latest", "part 2"]}, ["'part 2'", "apiary/web"]),
        ({"tags": [".hidden"]}, ["'.hidden'"]),
        ({"repository": "docker.io/Ann/web"}, ["'docker.io/Ann/web'", "apiary/web", "image_registry"]),
        ({"repository": "ann/web:2"}, ["'ann/web:2'", "without a tag"]),
        ({"args": {"HTTP PROXY": "x"}}, ["'HTTP PROXY'", "apiary/web"]),
        ({"args": {"COLOUR": None}}, ["'COLOUR': None"]),
        ({"args": {"BASE": "alpine"}}, ["BASE", "image_base"]),
        ({"context": "/nowhere/web"}, ["apiary/web", "/nowhere/web", "is no directory"]),
        ({"context": "/"}, ["apiary/web", "no Dockerfile"]),
    ],
)
def test_what_is_wrong_with_an_entry_is_named(images: Path, changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ApiaryError) as error:
        images_of(params(entry(images, **changes)))
    assert [word for word in words if word not in str(error.value)] == []


@pytest.mark.parametrize(
    ("context", "remedy"),
    [
        ("/old/apiary/inventories/mine/../../images/web", "correct project_dir, which is /old/apiary"),
        ("/elsewhere/web", "correct its 'context'"),
    ],
)
def test_missing_context_is_blamed_on_what_says_where_it_is(images: Path, context: str, remedy: str) -> None:
    with pytest.raises(ApiaryError) as error:
        images_of(params(entry(images, context=context)), "/old/apiary")
    assert str(error.value).startswith(f"image_list: apiary/web: {context} is no directory")
    assert f"Dockerfile; {remedy}" in str(error.value)


def test_preflight_names_project_dir_with_its_value() -> None:
    made = image_preflight.ActionModule.__new__(image_preflight.ActionModule)
    made._templar = MagicMock(template=lambda text: text.replace("{{ inventory_dir }}", "/old/mine"))
    with pytest.raises(ApiaryError, match=r"correct project_dir, which is /old/mine/\.\./\.\."):
        made.outcome(params(entry(Path("/old/mine/../../images"))), {"project_dir": "{{ inventory_dir }}/../.."})


def test_filter_says_that_project_dir_may_be_wrong() -> None:
    with pytest.raises(ApiaryError, match=r"/old/images/web is no directory.*project_dir"):
        content_tag(Path("/old/images/web"))


@pytest.fixture
def cannot_make_bases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_source, "_makes_bases", lambda: False)


@pytest.mark.usefixtures("cannot_make_bases")
def test_where_no_base_can_be_made_the_dockerfiles_own_stands_in(images: Path) -> None:
    (images / "web/Dockerfile").write_text("ARG BASE=python:3-slim\nFROM ${BASE}\n")
    for _ in range(2):
        (image,) = images_of(params(entry(images)))
        assert (image.base, image.build_arguments, bases_of([image])) == ("", {}, [])
        assert image.tag == content_tag(images / "web")
        own_base(images)


@pytest.mark.usefixtures("cannot_make_bases")
def test_a_base_that_nothing_stands_in_for_is_still_asked_for(images: Path) -> None:
    (image,) = images_of(params(entry(images)))
    assert isinstance(image.base, Base)


@pytest.mark.usefixtures("cannot_make_bases")
@pytest.mark.parametrize("name", ["web", "visualizer", "redis", "ingress", "registry"])
def test_each_image_that_we_ship_names_what_it_can_be_built_on(name: str) -> None:
    (image,) = images_of(params(entry(PROJECT / "images", context=str(PROJECT / "images" / name))))
    assert image.base == ""


@pytest.mark.parametrize(("debian", "tool", "makes"), [(True, None, True), (False, "/x", True), (False, None, False)])
def test_debian_systems_make_bases_and_who_else_has_the_tool(
    monkeypatch: pytest.MonkeyPatch, debian: bool, tool: str | None, makes: bool
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: tool)
    monkeypatch.setattr(Path, "exists", lambda self: debian)
    assert image_source._makes_bases() is makes


def test_one_name_for_two_images_is_refused(images: Path) -> None:
    (images / "web").rename(images / "first")
    (images / "second").mkdir()
    (images / "second/Dockerfile").write_text("FROM x\n")
    entries = [entry(images, context=str(images / name), tag="1.0") for name in ("first", "second")]
    with pytest.raises(ApiaryError, match=r"apiary/web:1\.0 is to be built from"):
        images_of(params(*entries))


def test_files_are_readable_in_the_image_whatever_the_umask(images: Path) -> None:
    (images / "web/app.py").chmod(0o600)
    (images / "web/run").write_text("#!/bin/sh\n")
    (images / "web/run").chmod(0o700)
    with io.BytesIO() as context:
        write_context(images / "web", context)
        with tarfile.open(fileobj=context) as tar:
            members = {member.name: (member.mode, member.uid, member.mtime) for member in tar}
    assert members["app.py"] == (0o644, 0, 0)
    assert members["run"] == (0o755, 0, 0)


def test_every_package_that_web_needs_is_in_the_base() -> None:
    base = (PROJECT / "images/base/packages").read_text().split()
    needed = re.findall(r"--no-install-recommends (\S+) &&", (PROJECT / "images/web/Dockerfile").read_text())
    assert needed
    assert set(needed) <= set(base)


def test_web_is_sent_whole() -> None:
    assert {"Dockerfile", "app.py", "healthcheck", "server.py", "templates/index.html", "visits.py"} <= set(
        context_files(PROJECT / "images/web")
    )

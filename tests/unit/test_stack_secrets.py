# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Secrets and configs: which versions there are to be, what is made and what is removed, and that nothing is told."""

from __future__ import annotations

import base64
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import docker.errors
import pytest

from ansible_collections.apiary.swarm.plugins.action import stack_secrets as action_module
from ansible_collections.apiary.swarm.plugins.module_utils import compose
from ansible_collections.apiary.swarm.plugins.module_utils import stack_secrets as versions
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.stack_secrets import Item
from ansible_collections.apiary.swarm.plugins.modules.stack_secrets import ARGUMENT_SPEC

HIDDEN = "swordfish"
COMPOSE = """\
version: "3.8"
services:
  web:
    image: web
    secrets: [password]
    configs: [{source: page, target: /page}]
  db:
    image: db
    secrets: [password]
  other:
    image: other
secrets:
  password: {external: true}
  unused: {external: true}
configs:
  page: {external: true}
"""
SECRETS = [{"name": "password", "value": HIDDEN}]
CONFIGS = [{"name": "page", "value": "hello"}]


# What is refused


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("password", ["entry 1 of stack_secrets", "name:"]),
        ({"value": HIDDEN}, ["entry 1 of stack_secrets"]),
        ({"name": "a/b", "value": HIDDEN}, ["no usable name"]),
        ({"name": 7, "value": HIDDEN}, ["no usable name"]),
        ({"name": "a", "value": HIDDEN, "file": "f"}, ["stack_secrets: a", "one of value, file, generate", "and"]),
        ({"name": "a"}, ["stack_secrets: a", "has none"]),
        ({"name": "a", "value": None}, ["stack_secrets: a", "has none"]),
        ({"name": "a", "value": HIDDEN, "length": 3}, ["unknown key length"]),
        ({"name": "a", "value": {HIDDEN: 1}}, ["value is a text", "got a list or mapping", "quotes"]),
        ({"name": "a", "value": True}, ["value is a text", "quotes"]),
        ({"name": "a", "value": 1.5}, ["value is a text", "quotes"]),
        ({"name": "a", "generate": 4}, ["from 8 to 1024", "got 4"]),
        ({"name": "a", "generate": "many"}, ["number of characters", "'many'"]),
        ({"name": "x" * 60, "generate": 8}, ["64 characters", "shorten"]),
    ],
)
def test_entry_that_is_wrong_is_named_and_not_what_it_holds(entry: Any, words: list[str]) -> None:
    with pytest.raises(ApiaryError) as error:
        versions.sources("secrets", [entry], "shop")
    assert [word for word in words if word not in str(error.value)] == []
    assert HIDDEN not in str(error.value)


def test_all_entries_that_are_wrong_are_named_at_once() -> None:
    with pytest.raises(ApiaryError, match=r"(?s)a: needs one.*a: stands twice.*b: needs one"):
        versions.sources("secrets", [{"name": "a"}, {"name": "a", "generate": 9}, {"name": "b"}], "shop")


def test_a_config_is_not_generated() -> None:
    with pytest.raises(ApiaryError, match="stack_configs: a: has the unknown key generate"):
        versions.sources("configs", [{"name": "a", "generate": 32}], "shop")


@pytest.mark.parametrize("content", [b"", b"x" * 512_001])
def test_content_that_docker_does_not_take_is_refused_first(content: bytes) -> None:
    with pytest.raises(ApiaryError, match=r"stack_secrets: a .*1 to 512000 bytes"):
        versions.checked(Item("secrets", "a", content))


@pytest.mark.parametrize("item", [Item("secrets", "a", HIDDEN.encode()), versions.Source("secrets", "a", HIDDEN)])
def test_what_is_hidden_is_not_shown_by_accident(item: Any) -> None:
    assert HIDDEN not in repr(item)


# Versions


def test_name_of_a_version_follows_from_content_swarm_and_stack() -> None:
    def name(content: str, swarm: str = "s1", stack: str = "shop", name: str = "a") -> str:
        return versions.suffix_of(Item("secrets", name, content.encode()), stack, swarm)

    assert name("x") == name("x")
    assert len({name("x"), name("y"), name("x", swarm="s2"), name("x", stack="other"), name("x", name="b")}) == 5
    assert len(name("x")) == 12


def test_name_of_a_secret_is_no_plain_hash_of_it() -> None:
    """As one that a weak password could be found from, by trying."""
    import hashlib

    suffix = versions.suffix_of(Item("secrets", "a", b"1234"), "shop", "swarm")
    assert suffix not in {hashlib.new(kind, b"1234").hexdigest()[:12] for kind in ("md5", "sha1", "sha256", "sha512")}


def version(name: str, suffix: str, generated: bool = False, created: str = "1", stack: str = "shop") -> dict[str, Any]:
    """Return a secret as the engine lists it."""
    labels = {versions.STACK_LABEL: stack, versions.NAME_LABEL: name}
    labels |= {versions.GENERATED_LABEL: "true"} if generated else {}
    full = versions.version_name(stack, name, suffix)
    return {"ID": f"id-{full}", "CreatedAt": created, "Spec": {"Name": full, "Labels": labels}}


def test_generated_secret_is_the_newest_of_its_kind() -> None:
    live = [version("a", "old", True, "1"), version("a", "new", True, "2"), version("a", "given", created="3")]
    item = Item("secrets", "a", None, 32)
    assert versions.current(item, versions.own(live, "shop"), "shop", "swarm") == "shop_a-new"
    assert versions.current(item, [], "shop", "swarm") == ""


def test_given_secret_is_the_one_with_its_content_also_if_that_is_older() -> None:
    item = Item("secrets", "a", b"x")
    suffix = versions.suffix_of(item, "shop", "swarm")
    live = [version("a", suffix, created="1"), version("a", "since", created="2")]
    assert versions.current(item, versions.own(live, "shop"), "shop", "swarm") == f"shop_a-{suffix}"


@pytest.mark.parametrize(
    ("used", "listed", "expected"),
    [
        ({"a": "shop_a-2"}, ["a"], ["shop_a-1", "shop_g-1", "shop_g-2"]),
        ({"a": "shop_a-1"}, ["a"], ["shop_a-2", "shop_g-1", "shop_g-2"]),
        ({}, [], ["shop_a-2", "shop_a-1", "shop_g-2", "shop_g-1"]),
        ({"a": "shop_a-2", "g": "shop_g-2"}, ["a", "g"], ["shop_a-1", "shop_g-1"]),
        # rotated: the new one is not there yet
        ({"a": "shop_a-2", "g": "shop_g-3"}, ["a", "g"], ["shop_a-1", "shop_g-1", "shop_g-2"]),
        # not wanted at the moment, and nobody could make it again
        ({"a": "shop_a-2"}, ["a", "g"], ["shop_a-1", "shop_g-1"]),
    ],
)
def test_superseded_is_what_is_ours_and_not_used(used: dict[str, str], listed: list[str], expected: list[str]) -> None:
    live = [version(name, number, name == "g", number) for name in ("a", "g") for number in ("1", "2")]
    live += [version("a", "9", stack="other"), {"ID": "x", "Spec": {"Name": "shop_a-by-hand", "Labels": None}}]
    entries = versions.sources(
        "secrets", [{"name": name, **({"generate": 9} if name == "g" else {"value": "x"})} for name in listed], "shop"
    )
    found = [item["Spec"]["Name"] for item in versions.superseded(versions.own(live, "shop"), used, entries)]
    assert sorted(found) == sorted(expected)


# The compose file


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("3.8", {"external": True, "name": "shop_a-1"}),
        ("3.5", {"external": True, "name": "shop_a-1"}),
        ("3.1", {"external": {"name": "shop_a-1"}}),
        ("3", {"external": {"name": "shop_a-1"}}),
    ],
)
def test_version_is_named_as_the_file_s_format_has_it(version: str, expected: dict[str, Any]) -> None:
    secrets = {"a": {"external": True}, "b": {"file": "./b"}}
    result = versions.rewritten({"version": version, "secrets": secrets}, {("secrets", "a"): "shop_a-1"})
    assert result["secrets"] == {"a": expected, "b": {"file": "./b"}}
    assert secrets["a"] == {"external": True}


@pytest.mark.parametrize(
    ("definition", "name"),
    [
        ({"external": True}, "a"),
        ({"external": True, "name": "b"}, "b"),
        ({"external": {"name": "b"}}, "b"),
        ({"external": False, "file": "./a"}, None),
        ({"file": "./a"}, None),
        (None, None),
    ],
)
def test_external_is_what_the_file_takes_from_the_swarm(definition: Any, name: str | None) -> None:
    assert versions.externals({"secrets": {"a": definition}}, "secrets") == ({"a": name} if name else {})


def test_entry_that_the_template_defines_by_itself_is_refused() -> None:
    document = {"services": {}, "secrets": {"a": {"file": "./a"}}}
    with pytest.raises(ApiaryError, match=r"secrets.a: stack_secrets has it.*external: true"):
        versions.wanted(document, versions.sources("secrets", [{"name": "a", "generate": 9}], "shop"))


# The whole of it


class FakeSwarm:
    """A manager's API: what is asked of it, and what it was given."""

    def __init__(self) -> None:
        self.items: dict[str, list[dict[str, Any]]] = {"secrets": [], "configs": []}
        self.contents: dict[str, bytes] = {}
        self.live_services: list[dict[str, Any]] = []
        self.refused: set[str] = set()

    def __call__(self, *_arguments: Any, **_options: Any) -> FakeSwarm:
        return self

    def __enter__(self) -> FakeSwarm:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def inspect_swarm(self) -> dict[str, Any]:
        return {"ID": "swarm", "JoinTokens": {"Worker": "SWMTKN-1"}}

    def services(self) -> list[dict[str, Any]]:
        return self.live_services

    def secrets(self) -> list[dict[str, Any]]:
        return list(self.items["secrets"])

    def configs(self, filters: Any = None) -> list[dict[str, Any]]:
        return list(self.items["configs"])

    def _create(self, kind: str, name: str, content: bytes, labels: dict[str, str]) -> None:
        created = str(len(self.contents)).zfill(3)
        self.items[kind].append({"ID": f"id-{name}", "CreatedAt": created, "Spec": {"Name": name, "Labels": labels}})
        self.contents[name] = content

    def create_secret(self, name: str, content: bytes, labels: dict[str, str]) -> None:
        self._create("secrets", name, content, labels)

    def create_config(self, name: str, content: bytes, labels: dict[str, str]) -> None:
        self._create("configs", name, content, labels)

    def _remove(self, kind: str, key: str) -> None:
        if key in self.refused:
            raise docker.errors.APIError("x", MagicMock(status_code=400), "secret is in use by a service")
        found = [item for item in self.items[kind] if item["ID"] == key]
        if not found:
            raise docker.errors.NotFound("x")
        self.items[kind].remove(found[0])

    def remove_secret(self, key: str) -> None:
        self._remove("secrets", key)

    def remove_config(self, key: str) -> None:
        self._remove("configs", key)

    @property
    def names(self) -> list[str]:
        return [item["Spec"]["Name"] for items in self.items.values() for item in items]


@pytest.fixture
def swarm(monkeypatch: pytest.MonkeyPatch) -> FakeSwarm:
    made = FakeSwarm()
    monkeypatch.setattr(action_module, "connect", made)
    return made


def run(check: bool = False, variables: dict[str, Any] | None = None, **given: Any) -> dict[str, Any]:
    action = action_module.ActionModule.__new__(action_module.ActionModule)
    action._task = MagicMock(check_mode=check, diff=True)
    action._loader = MagicMock(get_real_file=lambda path: path)
    params = {name: option.get("default") for name, option in ARGUMENT_SPEC.items()}
    asked = {"docker": {}, "name": "shop", "compose": COMPOSE, "secrets": SECRETS, "configs": CONFIGS, **given}
    return action.outcome(params | asked, variables or {})


def names(result: dict[str, Any]) -> tuple[str, str]:
    document = compose.parse(result["compose"])
    return document["secrets"]["password"]["name"], document["configs"]["page"]["name"]


def test_what_is_missing_is_made_once(swarm: FakeSwarm) -> None:
    first = run()
    assert first["actions"] == ["make secret password", "make config page"]
    secret, config = names(first)
    assert (swarm.contents[secret], swarm.contents[config]) == (HIDDEN.encode(), b"hello")
    again = run()
    assert not again["changed"]
    assert names(again) == (secret, config)
    assert again["superseded"] == []


def test_changed_content_is_another_version_and_the_old_one_can_go(swarm: FakeSwarm) -> None:
    old, _ = names(run())
    changed = run(secrets=[{"name": "password", "value": "other"}])
    assert changed["actions"] == ["make secret password"]
    assert [entry["name"] for entry in changed["superseded"]] == [old]
    back = run()
    assert not back["changed"]
    assert names(back)[0] == old


def test_generated_secret_is_made_once_and_anew_when_it_is_asked_for(swarm: FakeSwarm) -> None:
    generated = [{"name": "password", "generate": 40}]
    first, _ = names(run(secrets=generated))
    assert len(swarm.contents[first]) == 40
    assert not run(secrets=generated)["changed"]
    rotated = run(secrets=generated, rotate=["password"])
    second, _ = names(rotated)
    assert second != first
    assert [entry["name"] for entry in rotated["superseded"]] == [first]
    assert swarm.contents[second] != swarm.contents[first]
    assert names(run(secrets=generated))[0] == second


@pytest.mark.parametrize("name", ["password", "unused", "nonsense"])
def test_only_generated_secrets_are_rotated(swarm: FakeSwarm, name: str) -> None:
    with pytest.raises(ApiaryError, match=f"stack_secrets_rotate has '{name}'"):
        run(rotate=[name])
    assert swarm.names == []


def test_what_is_not_used_is_not_made(swarm: FakeSwarm) -> None:
    run(secrets=[*SECRETS, {"name": "unused", "generate": 9}, {"name": "nowhere", "generate": 9}])
    assert sorted(name.partition("-")[0] for name in swarm.names) == ["shop_page", "shop_password"]


def test_content_comes_from_a_file(swarm: FakeSwarm, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\0\1")
    secret, _ = names(run(secrets=[{"name": "password", "file": "key"}], variables={"playbook_dir": str(tmp_path)}))
    assert swarm.contents[secret] == b"\0\1"


def test_file_that_is_missing_is_named_before_anything_is_made(swarm: FakeSwarm, tmp_path: Path) -> None:
    for state in ("checked", "present"):
        with pytest.raises(ApiaryError, match=r"no file for stack_secrets: password: 'key'; looked for"):
            run(state=state, secrets=[{"name": "password", "file": "key"}], variables={"playbook_dir": str(tmp_path)})
    assert swarm.names == []


def test_secret_that_nobody_has_is_named_with_who_needs_it(swarm: FakeSwarm) -> None:
    with pytest.raises(ApiaryError, match=r"secret password of web, db is external, .*add it to stack_secrets"):
        run(secrets=[])
    assert swarm.names == []


def test_secret_of_somebody_else_is_used_as_it_is(swarm: FakeSwarm) -> None:
    swarm._create("secrets", "password", b"theirs", {})
    result = run(secrets=[])
    assert compose.parse(result["compose"])["secrets"]["password"] == {"external": True}
    assert result["superseded"] == []


def test_check_makes_nothing_and_names_what_it_would_make(swarm: FakeSwarm) -> None:
    result = run(check=True)
    assert result["actions"] == ["make secret password", "make config page"]
    assert swarm.names == []
    run()
    assert not run(check=True)["changed"]


def test_check_of_a_swarm_that_is_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_module, "connect", MagicMock(side_effect=ApiaryError("cannot be reached")))
    result = run(check=True)
    assert names(result) == ("shop_password-new", "shop_page-new")
    with pytest.raises(ApiaryError, match="cannot be reached"):
        run()


def test_nothing_that_is_returned_or_shown_holds_a_content(swarm: FakeSwarm, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(
        action_module, "Display", lambda: SimpleNamespace(display=lambda text, **_options: shown.append(text))
    )
    results = [run(), run(check=True), run(secrets=[{"name": "password", "value": "other" + HIDDEN}])]
    with pytest.raises(ApiaryError) as error:
        run(secrets=[{"name": "password", "value": [HIDDEN]}])
    text = repr([results, shown, str(error.value)])
    assert "making the secret password" in text
    assert HIDDEN not in text
    assert base64.b64encode(HIDDEN.encode()).decode() not in text
    assert "SWMTKN" not in text


def use(*keys: str) -> dict[str, Any]:
    references = [{"SecretID": key} for key in keys]
    return {"Spec": {"Name": "x", "TaskTemplate": {"ContainerSpec": {"Secrets": references, "Configs": None}}}}


def test_sweeping_removes_what_nothing_uses(swarm: FakeSwarm) -> None:
    for name in ("a", "b", "c", "d"):
        swarm._create("secrets", name, b"x", {})
    swarm.live_services = [use("id-a"), use()]
    swarm.refused = {"id-b"}  # a service has begun to use it since
    asked = [{"kind": "secrets", "id": f"id-{name}", "name": name} for name in ("a", "b", "c", "gone")]
    foretold = run(state="swept", superseded=asked, check=True)
    assert foretold["removed"] == ["b", "c", "gone"]
    assert len(swarm.names) == 4
    result = run(state="swept", superseded=asked)
    assert (result["changed"], result["removed"]) == (True, ["c"])
    assert swarm.names == ["a", "b", "d"]

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promises of the role image."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

from ansible_collections.apiary.swarm.plugins.module_utils.image_source import content_tag
from tests.clusters import Run, engine
from tests.registries import PASSWORD, USERNAME, OwnRegistry, own_registry, trust

NODES = ["node1", "node2"]
PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
CLUSTER = "molecule-image"
CONVERGE = "molecule/image/converge.yml"
REGISTRY = f"apiary/registry:{content_tag(PROJECT / 'images/registry')}"


def tags(scenario: Any, node: str, name: str) -> list[str]:
    found = [tag.rpartition(":")[::2] for image in scenario.engine(node).images.list() for tag in image.tags]
    return [tag for repository, tag in found if repository == name]


@pytest.mark.parametrize("node", NODES)
def test_each_node_has_the_image_under_one_tag_made_from_its_files(scenario: Any, node: str) -> None:
    (tag,) = tags(scenario, node, "apiary/note")
    assert len(tag) == 12
    assert int(tag, 16)


@pytest.mark.parametrize("node", NODES)
def test_a_tag_that_was_given_is_used(scenario: Any, node: str) -> None:
    assert tags(scenario, node, "apiary/named-note") == ["1"]


def test_all_nodes_have_the_very_same_image(scenario: Any) -> None:
    assert len({scenario.engine(node).images.get("apiary/named-note:1").id for node in NODES}) == 1


@pytest.mark.parametrize("node", NODES)
def test_what_the_dockerfile_says_is_in_the_image(scenario: Any, node: str) -> None:
    image = scenario.engine(node).images.get("apiary/named-note:1")
    assert image.labels["apiary.note"] == "kept"
    container = scenario.engine(node).api.create_container(image.id)
    try:
        stream, _ = scenario.engine(node).api.get_archive(container, "/note")
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            member = archive.extractfile("note")
            assert member and member.read() == b"carried from node to node\n"
    finally:
        scenario.engine(node).api.remove_container(container)


# Published to a registry of somebody's own


ADDRESS = "192.168.{range}.200"


@pytest.fixture(scope="module")
def own(scenario: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRegistry]:
    """A registry with TLS and a login, which the nodes' engines trust."""
    directory = tmp_path_factory.mktemp("registry")
    address = ADDRESS.format(range=scenario.range)
    with own_registry(scenario.outer, REGISTRY, CLUSTER, address, directory, secured=True) as registry:
        for node in NODES:
            trust(scenario.containers[node], registry.address, directory / "ca.pem")
        yield registry


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    """The login in the environment, as a user gives it."""
    monkeypatch.setenv("IMAGE_REGISTRY_USERNAME", USERNAME)
    monkeypatch.setenv("IMAGE_REGISTRY_PASSWORD", PASSWORD)


def publish(scenario: Any, address: str, *arguments: str, succeeds: bool = True) -> Run:
    run: Run = scenario.play(CONVERGE, "-e", f"image_registry={address}", *arguments, succeeds=succeeds)
    assert PASSWORD not in run.output
    return run


def changes(run: Run) -> int:
    return sum(map(int, re.findall(r"\bchanged=(\d+)", run.output)))


def test_publishing_is_foretold(scenario: Any, own: OwnRegistry, login: None) -> None:
    run = publish(scenario, own.address, "--check", "--diff")
    assert changes(run) == 1
    assert re.search(rf"push {own.address}/apiary/note:[0-9a-f]{{12}}\n", run.output)
    assert f"push {own.address}/ann/notes:1\n" in run.output
    assert own.tags("ann/notes") == {}


def test_publishing_pushes_each_image_once_with_all_its_tags(scenario: Any, own: OwnRegistry, login: None) -> None:
    # the most that Ansible can be told to say: nothing of it is the password
    run = publish(scenario, own.address, "-vvvv")
    (tag,) = tags(scenario, "node1", "apiary/note")
    pushed = own.tags("apiary/note")
    assert set(pushed) == {tag, "latest"}
    assert len(set(pushed.values())) == 1
    (digest,) = own.tags("ann/notes").values()
    assert f"{own.address}/ann/notes:1@{digest}" in run.output


@pytest.mark.parametrize("node", NODES)
def test_each_node_has_what_is_published_at_the_one_digest(scenario: Any, own: OwnRegistry, node: str) -> None:
    (digest,) = own.tags("ann/notes").values()
    assert (
        f"{own.address}/ann/notes@{digest}"
        in scenario.engine(node).images.get("apiary/named-note:1").attrs["RepoDigests"]
    )


@pytest.mark.parametrize("node", NODES)
def test_no_login_is_left_on_a_node(scenario: Any, own: OwnRegistry, node: str) -> None:
    left = scenario.inside(node).run("grep -rlsF %s /etc /root /home /run /tmp /var/lib/docker", PASSWORD)
    assert left.stdout == ""
    assert not scenario.inside(node).file("/root/.docker").exists


def test_publishing_again_changes_nothing(scenario: Any, own: OwnRegistry, login: None) -> None:
    assert changes(publish(scenario, own.address)) == 0


def test_a_password_may_be_in_a_vault(scenario: Any, own: OwnRegistry, tmp_path: Path) -> None:
    vault = VaultLib([("default", VaultSecret(b"of the vault"))])
    (tmp_path / "key").write_text("of the vault")
    (tmp_path / "login.yml").write_bytes(vault.encrypt(json.dumps({"image_registry_password": PASSWORD})))
    name, tag = "apiary/note-in-a-vault", "1"
    image = {"name": name, "tag": tag, "context": str(PROJECT / "molecule/image/files/note")}
    variables = {"image_registry_username": USERNAME, "image_list": [image]}
    vaulted = ("--vault-password-file", str(tmp_path / "key"), "-e", f"@{tmp_path}/login.yml")
    publish(scenario, own.address, "-e", json.dumps(variables), *vaulted)
    assert set(own.tags(name)) == {tag}


def test_a_node_that_lost_an_image_pulls_it(scenario: Any, own: OwnRegistry, login: None) -> None:
    image = scenario.engine("node2").images.get("apiary/named-note:1")
    scenario.engine("node2").images.remove(image.id, force=True)
    run = publish(scenario, own.address)
    assert f"pulling {own.address}/ann/notes:1 into node2\n" in run.output
    assert scenario.engine("node2").images.get("apiary/named-note:1").id == image.id


def test_an_image_that_is_in_the_registry_alone_is_not_built_again(
    scenario: Any, own: OwnRegistry, login: None, tmp_path: Path
) -> None:
    before = own.tags("ann/notes")
    for node in NODES:
        scenario.engine(node).images.remove("apiary/named-note:1", force=True)
    # as from another computer, which has nothing in its cache
    run = publish(scenario, own.address, "-e", f"image_cache_dir={tmp_path}")
    assert "building" not in run.output
    assert own.tags("ann/notes") == before
    assert all(tags(scenario, node, "apiary/named-note") == ["1"] for node in NODES)


def test_what_is_there_is_enough_when_the_registry_is_out_of_reach(
    scenario: Any, own: OwnRegistry, login: None
) -> None:
    rule = f"OUTPUT -d {own.address.partition(':')[0]} -j REJECT"
    scenario.inside("node1").check_output(f"iptables -I {rule}")
    try:
        run = publish(scenario, own.address)
    finally:
        scenario.inside("node1").check_output(f"iptables -D {rule}")
    assert changes(run) == 0
    assert "goes on without it" in run.output


# What a registry may be like


def test_a_wrong_password_is_refused(scenario: Any, own: OwnRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_REGISTRY_USERNAME", USERNAME)
    monkeypatch.setenv("IMAGE_REGISTRY_PASSWORD", "tuna-of-the-registry")
    run = publish(scenario, own.address, succeeds=False)
    assert f"It refuses {USERNAME}: check image_registry_username" in " ".join(run.output.split())
    assert "tuna" not in run.output


def test_a_registry_that_wants_a_login_says_so(scenario: Any, own: OwnRegistry) -> None:
    run = publish(scenario, own.address, succeeds=False)
    assert "It wants a login: set image_registry_username" in " ".join(run.output.split())


def test_a_registry_that_is_not_there(scenario: Any) -> None:
    run = publish(scenario, f"{ADDRESS.format(range=scenario.range)}:5001", succeeds=False)
    assert "can the nodes reach it?" in " ".join(run.output.split())


def test_a_registry_with_a_certificate_that_is_not_trusted(scenario: Any, own: OwnRegistry, login: None) -> None:
    scenario.inside("node1").run("rm -r /etc/docker/certs.d")
    run = publish(scenario, own.address, succeeds=False)
    assert f"/etc/docker/certs.d/{own.address}/ca.crt" in run.output


def test_a_registry_that_speaks_plain_http(scenario: Any, tmp_path: Path) -> None:
    address = f"192.168.{scenario.range}.201"
    with own_registry(scenario.outer, REGISTRY, CLUSTER, address, tmp_path, secured=False) as registry:
        run = publish(scenario, registry.address, succeeds=False)
    assert "The registry speaks plain HTTP" in run.output


# Building


def build(scenario: Any, entry: dict[str, Any], *arguments: str, succeeds: bool = True) -> Run:
    run: Run = scenario.play(CONVERGE, "-e", json.dumps({"image_list": [entry]}), *arguments, succeeds=succeeds)
    return run


def test_a_dockerfile_that_fails_is_shown_with_the_last_lines(scenario: Any) -> None:
    entry = {"name": "apiary/broken", "context": str(PROJECT / "molecule/image/files/broken")}
    output = build(scenario, entry, succeeds=False).output
    assert re.search(r"building apiary/broken:\w+ from \S+/broken on \S+ failed: COPY failed: .*nothing", output)
    assert "The last lines of the build:" in output
    assert "COPY nothing /nothing" in output


def test_another_argument_is_another_image(scenario: Any) -> None:
    entry = {
        "name": "apiary/blue-note",
        "context": str(PROJECT / "molecule/image/files/note"),
        "args": {"COLOUR": "blue"},
    }
    build(scenario, entry)
    (blue,) = tags(scenario, "node2", "apiary/blue-note")
    (red,) = tags(scenario, "node2", "apiary/note")
    images = scenario.engine("node2").images
    assert blue != red
    assert images.get(f"apiary/blue-note:{blue}").labels["apiary.colour"] == "blue"
    assert images.get(f"apiary/note:{red}").labels["apiary.colour"] == "red"


def test_the_engine_of_this_computer_can_build(scenario: Any) -> None:
    entry = {"name": "apiary/note-made-here", "context": str(PROJECT / "molecule/image/files/note"), "tag": "1"}
    docker = {"image_build_docker": {"docker_host": engine()}}
    run = build(scenario, entry, "-e", json.dumps(docker))
    assert f"building apiary/note-made-here:1 on {engine()}" in run.output
    assert all(tags(scenario, node, "apiary/note-made-here") == ["1"] for node in NODES)
    scenario.outer.images.remove("apiary/note-made-here:1")

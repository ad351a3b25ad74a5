# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promises of the role registry, and of publishing to it."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker.errors
import docker.types
import pytest

from ansible_collections.apiary.swarm.plugins.module_utils.image_registry import Registry, push
from ansible_collections.apiary.swarm.plugins.module_utils.image_source import Image, content_tag
from ansible_collections.apiary.swarm.plugins.module_utils.stack_client import Deployment, deploy
from tests.registries import PASSWORD, USERNAME, own_registry, trust

NODES = ["node1", "node2"]
IMAGES = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / "images"
WEB = f"apiary/web:{content_tag(IMAGES / 'web')}"
REGISTRY = "127.0.0.1:5000"


def digest(scenario: Any, node: str, reference: str = WEB) -> str:
    """The digest of an image in the registry, as the engine of a node is told."""
    answer = scenario.engine(node).api.inspect_distribution(f"{REGISTRY}/{reference}", auth_config={})
    return str(answer["Descriptor"]["digest"])


def container(scenario: Any) -> dict[str, Any]:
    """The container of the registry, inspected."""
    ((name, node),) = scenario.running_tasks("node1", "registry_registry").items()
    assert node == "node1"
    found: dict[str, Any] = scenario.engine(node).api.inspect_container(name)
    return found


@pytest.mark.parametrize("node", NODES)
def test_every_engine_reaches_it_on_its_own_loopback_address(scenario: Any, node: str) -> None:
    assert digest(scenario, node) == digest(scenario, "node1")


@pytest.mark.parametrize("node", NODES)
def test_each_node_has_every_image_at_the_digest_of_the_registry(scenario: Any, node: str) -> None:
    for name in ("web", "ingress"):
        reference = f"apiary/{name}:{content_tag(IMAGES / name)}"
        wanted = f"{REGISTRY}/apiary/{name}@{digest(scenario, node, reference)}"
        assert wanted in scenario.engine(node).images.get(reference).attrs["RepoDigests"]


def test_it_is_pinned_to_the_node_with_its_data(scenario: Any) -> None:
    service = scenario.engine("node1").services.get("registry_registry")
    node = scenario.membership("node1")["NodeID"]
    assert service.attrs["Spec"]["TaskTemplate"]["Placement"]["Constraints"] == [f"node.id == {node}"]
    (mount,) = container(scenario)["Mounts"]
    assert (mount["Type"], mount["Name"], mount["Destination"]) == ("volume", "registry_data", "/var/lib/registry")


def test_it_runs_as_an_ordinary_user_on_a_root_that_it_cannot_write(scenario: Any) -> None:
    found = container(scenario)
    assert found["Config"]["User"] == "5000:5000"
    assert found["HostConfig"]["ReadonlyRootfs"]
    assert found["HostConfig"]["CapDrop"] == ["ALL"]


def test_what_is_published_outlives_its_container(
    scenario: Any, eventually: Callable[[Callable[[], Any], float], Any]
) -> None:
    before, killed = digest(scenario, "node2"), container(scenario)["Id"]
    scenario.engine("node1").api.kill(killed)

    def replaced() -> bool:
        return bool(scenario.running_tasks("node1", "registry_registry").keys() - {killed})

    assert eventually(replaced, 120)
    scenario.play("images")  # which waits until every node reaches it
    assert digest(scenario, "node2") == before


def test_a_registry_that_was_scaled_down_by_hand_is_there_again_after_a_run(scenario: Any) -> None:
    service = scenario.engine("node1").services.get("registry_registry")
    service.scale(0)
    output = scenario.play("images").output
    assert "changed=1" in output
    assert "pushing" not in output
    assert digest(scenario, "node2") == digest(scenario, "node1")


def test_a_service_is_deployed_by_digest(scenario: Any) -> None:
    scenario.play("stack")
    service = scenario.engine("node1").services.get("getstartedlab_web")
    image = service.attrs["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
    assert image == f"{REGISTRY}/{WEB}@{digest(scenario, 'node1')}"


def test_the_cluster_is_found_to_be_what_was_asked_for(scenario: Any) -> None:
    scenario.play("verify")


# Pruning


def push_junk(scenario: Any, name: str, content: bytes) -> str:
    """Publish an image of one file from node1; return what it is called on the nodes."""
    api = scenario.engine("node1").api
    with io.BytesIO() as context:
        with tarfile.open(fileobj=context, mode="w") as archive:
            for file, text in {
                "Dockerfile": b'FROM scratch\nCOPY file /file\nCMD ["/file"]\n',
                "file": content,
            }.items():
                entry = tarfile.TarInfo(file)
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text))
        context.seek(0)
        list(api.build(fileobj=context, custom_context=True, tag=f"{name}:1"))
    push(api, Registry(REGISTRY), Image(name, IMAGES, "1", ""), "1", "node1")
    return f"{REGISTRY}/{name}:1"


@pytest.fixture(scope="module")
def junk(scenario: Any) -> dict[str, str]:
    """Two images that the inventory does not name, 3 MB each, one of them for a service; and another name for web."""
    used = push_junk(scenario, "junk/used", os.urandom(3_000_000))
    unused = push_junk(scenario, "junk/unused", os.urandom(3_000_000))
    manager = scenario.engine("node1")
    manager.services.create(used, name="uses-junk", mode=docker.types.ServiceMode("replicated", 0))
    name, _, tag = WEB.partition(":")
    push(manager.api, Registry(REGISTRY), Image(name, IMAGES, tag, ""), "other", "node1")
    return {"used": used, "unused": unused}


def known(scenario: Any, reference: str) -> bool:
    try:
        scenario.engine("node2").api.inspect_distribution(reference, auth_config={})
    except docker.errors.NotFound:
        return False
    return True


def test_pruning_in_check_mode_lists_what_would_go(scenario: Any, junk: dict[str, str]) -> None:
    output = scenario.play("registry_prune", "--check").output
    assert "would be removed: junk/unused:1'\n" in output
    assert known(scenario, junk["unused"])


def test_pruning_removes_what_is_not_used_and_says_what_that_freed(scenario: Any, junk: dict[str, str]) -> None:
    before = digest(scenario, "node2")
    output = " ".join(scenario.play("registry_prune").output.split())
    freed = re.search(r"removed: junk/unused:1; (\d+) MiB freed, (\d+) MiB are left", output)
    assert freed, output
    assert 2 <= int(freed[1]) <= 3  # of 3 MB, and nothing besides
    assert not known(scenario, junk["unused"])
    assert known(scenario, junk["used"])
    assert digest(scenario, "node2") == before == digest(scenario, "node2", WEB.rpartition(":")[0] + ":other")


@pytest.mark.parametrize("what", ["used", "web"])
def test_what_pruning_left_can_be_pulled(scenario: Any, junk: dict[str, str], what: str) -> None:
    reference = junk.get(what, f"{REGISTRY}/{WEB}")
    engine = scenario.engine("node2")
    name, _, tag = reference.rpartition(":")
    for image in engine.images.list():
        if what == "used" and any(name in text for text in image.attrs["RepoDigests"] or []):
            engine.images.remove(image.id, force=True)
    assert engine.images.pull(name, tag=tag, auth_config={}).id


def test_pruning_again_leaves_the_registry_alone(scenario: Any, junk: dict[str, str]) -> None:
    before = container(scenario)["Id"]
    assert "removed: nothing" in scenario.play("registry_prune").output
    assert container(scenario)["Id"] == before


def test_what_was_removed_can_be_published_again(scenario: Any, junk: dict[str, str]) -> None:
    push(scenario.engine("node1").api, Registry(REGISTRY), Image("junk/unused", IMAGES, "1", ""), "1", "node1")
    name, _, tag = junk["unused"].rpartition(":")
    assert scenario.engine("node2").images.pull(name, tag=tag, auth_config={}).id


def test_an_interrupted_pruning_is_finished_by_the_next(scenario: Any, junk: dict[str, str]) -> None:
    scenario.play_until("registry_prune", "removing what nobody needs")
    assert not scenario.running_tasks("node1", "registry_registry")
    scenario.play("registry_prune")
    assert known(scenario, junk["used"])
    assert not known(scenario, junk["unused"])


def test_a_node_that_was_drained_by_hand_is_left_out_until_it_is_back(
    scenario: Any, eventually: Callable[[Callable[[], Any], float], Any]
) -> None:
    (entry,) = scenario.listed("node1")["node2"]
    node, spec = scenario.engine("node1").nodes.get(entry["ID"]), entry["Spec"]
    node.update({**spec, "Availability": "drain"})
    reference = f"apiary/ingress:{content_tag(IMAGES / 'ingress')}"
    images = scenario.engine("node2").images

    def is_idle() -> bool:
        return not scenario.engine("node2").containers.list()

    assert eventually(is_idle, 120)
    images.remove(images.get(reference).id, force=True)
    scenario.play("images")
    assert not images.get(reference).attrs["RepoDigests"]
    node.reload()
    node.update({**spec, "Availability": "active"})
    scenario.play("images")
    assert f"{REGISTRY}/apiary/ingress@" in images.get(reference).attrs["RepoDigests"][0]


# A registry with a login


@pytest.fixture(scope="module")
def own(scenario: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Somebody's registry, with the image web in it; the nodes' engines trust it, and have not pulled from it."""
    directory = tmp_path_factory.mktemp("registry")
    address = f"192.168.{scenario.range}.200"
    image = f"apiary/registry:{content_tag(IMAGES / 'registry')}"
    ensure_loaded(scenario, image)
    with own_registry(scenario.outer, image, "molecule-registry", address, directory, secured=True) as started:
        for node in NODES:
            trust(scenario.containers[node], started.address, directory / "ca.pem")
        registry = Registry(started.address, USERNAME, PASSWORD)
        name, _, tag = WEB.partition(":")
        push(scenario.engine("node1").api, registry, Image(name, IMAGES, tag, ""), "1", "node1")
        yield registry


def ensure_loaded(scenario: Any, reference: str) -> None:
    """Have an image of node1 on the engine that the nodes run on."""
    scenario.outer.images.load(b"".join(scenario.engine("node1").api.get_image(reference)))


def deploy_one(scenario: Any, image: str, login: Registry | None, client: str) -> Callable[[], dict[str, Any]]:
    """Deploy a stack of one task on node2, which has never pulled its image; return how to look at that."""
    name = f"later-{client}"
    service = {
        "image": image,
        "entrypoint": ["sh", "-c", "exec sleep 600"],
        "healthcheck": {"disable": True},
        "deploy": {"placement": {"constraints": ["node.hostname == node2"]}, "restart_policy": {"condition": "none"}},
    }
    api = scenario.engine("node1").api
    compose = json.dumps({"version": "3.8", "services": {"one": service}})
    endpoint = scenario.endpoint("node1")
    deploy(api, endpoint, Deployment(name, compose, Path(), login=login), client)

    def task() -> dict[str, Any]:
        found = api.tasks({"service": f"{name}_one"})
        return found[0] if found and found[0]["Status"]["State"] in ("running", "rejected", "failed") else {}

    return task


@pytest.mark.parametrize(("client", "is_known"), [("controller", True), ("manager", True), ("manager", False)])
def test_a_node_pulls_later_on_with_the_login_that_came_with_the_deploy(
    scenario: Any, own: Registry, client: str, is_known: bool, eventually: Callable[[Callable[[], Any], float], Any]
) -> None:
    if client == "controller" and not shutil.which("docker"):
        pytest.skip("there is no Docker client on this computer")
    image = f"{own.address}/{WEB.split(':')[0]}:1"
    task = deploy_one(scenario, image, own if is_known else None, client)
    try:
        status = eventually(task, 120)["Status"]
        assert status["State"] == ("running" if is_known else "rejected"), status
    finally:
        scenario.engine("node1").services.get(f"later-{client}_one").remove()
        with suppress(docker.errors.NotFound):
            scenario.engine("node2").api.remove_image(image, force=True)


@pytest.mark.parametrize("node", NODES)
def test_the_login_is_in_no_file_of_a_node(scenario: Any, own: Registry, node: str) -> None:
    left = scenario.inside(node).run("grep -rlsF %s /etc /root /home /run /tmp /var/lib/docker", PASSWORD)
    assert left.stdout == ""


def test_the_report_does_not_call_it_open(scenario: Any) -> None:
    output = scenario.play("stack").output
    line = next(line for line in output.splitlines() if "registry_registry" in line)
    assert line.split("  ")[-1].strip() == "127.0.0.1:5000 on each node"
    assert ":5000" not in re.sub(r"127\.0\.0\.1:5000", "", output)
    assert "changed=0" in output

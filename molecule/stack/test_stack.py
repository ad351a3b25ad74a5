# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promises of the role stack."""

from __future__ import annotations

import json
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from ansible_collections.apiary.swarm.plugins.module_utils.container_exec import execute

NODES = ["node1", "node2"]


def test_service_has_the_replicas_that_the_template_asks_for(scenario: Any) -> None:
    service = scenario.engine("node1").services.get("getstartedlab_web")
    assert service.attrs["Spec"]["Mode"]["Replicated"]["Replicas"] == 2
    assert len(scenario.running_tasks("node1")) == 2


def test_tasks_are_held_to_their_limits(scenario: Any) -> None:
    for container, node in scenario.running_tasks("node1").items():
        limits = scenario.engine(node).api.inspect_container(container)["HostConfig"]
        assert (limits["NanoCpus"], limits["Memory"]) == (500_000_000, 50 * 1024**2)


@pytest.mark.parametrize("node", NODES)
def test_every_task_answers_through_every_node(scenario: Any, node: str) -> None:
    tasks = {container[:12] for container in scenario.running_tasks("node1")}
    assert scenario.heard(node, tasks) == tasks


def test_scaling_leaves_the_running_tasks_alone(scenario: Any) -> None:
    before = set(scenario.running_tasks("node1"))
    scenario.play("stack", "-e", "web_replicas=3")
    after = set(scenario.running_tasks("node1"))
    assert len(after) == 3
    assert before < after


# The services beside web


@pytest.mark.parametrize("node", NODES)
def test_visualizer_shows_the_swarm_through_every_node(scenario: Any, node: str) -> None:
    url = f"http://{scenario.entrypoint(node)}:8080"
    assert "<title>" in requests.get(url, timeout=20).text
    with requests.get(f"{url}/events", stream=True, timeout=20) as events:
        state = next(line for line in events.iter_lines() if b"node2" in line)
    assert b"getstartedlab_web" in state or b"web" in state


def test_clients_of_one_port_leave_room_for_those_of_others(scenario: Any) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))
    with ExitStack() as idle:
        for _ in range(1100):
            idle.enter_context(socket.create_connection((scenario.entrypoint("node2"), 6379), timeout=20))
        for port in (4000, 8080):
            assert requests.get(f"http://{scenario.entrypoint('node2')}:{port}/", timeout=20).ok


def test_visualizer_can_only_look(scenario: Any) -> None:
    ((container, node),) = scenario.running_tasks("node1", "getstartedlab_visualizer").items()
    assert node == "node1"
    found = scenario.engine(node).api.inspect_container(container)
    assert found["Config"]["User"] == "65534:2375"
    assert (found["HostConfig"]["ReadonlyRootfs"], found["HostConfig"]["CapDrop"]) == (True, ["ALL"])
    assert [(mount["Source"], mount["RW"]) for mount in found["Mounts"]] == [("/var/run/docker.sock", False)]


def test_service_that_is_left_out_goes_alone(scenario: Any) -> None:
    before = scenario.running_tasks("node1")
    scenario.play("stack", "-e", '{"stack_services": ["web", "redis"]}')
    names = {service.name for service in scenario.engine("node1").services.list()}
    assert "getstartedlab_visualizer" not in names
    assert scenario.running_tasks("node1").items() <= before.items()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ('{"stack_secrets": []}', "secret redis_password of web, redis is external"),
        ('{"stack_name": "other", "stack_services": ["redis"]}', "already published by the service getstartedlab_"),
        ('{"stack_name": "other", "stack_data_dir": "/proc/apiary", "redis_port": 7000}', "cannot be made on node1"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_deployed(scenario: Any, setting: str, words: str) -> None:
    api = scenario.engine("node1").api
    before = {service["ID"]: service["Version"]["Index"] for service in api.services()}
    run = scenario.play("stack", "-e", setting, succeeds=False)
    assert words in " ".join(run.output.split())
    assert {service["ID"]: service["Version"]["Index"] for service in api.services()} == before


# A stack of one's own, and its secrets and configs


def own(scenario: Any, word: str, page: Path, *arguments: str, succeeds: bool = True) -> Any:
    settings = {
        "stack_name": "own",
        "stack_template": "molecule/stack/own.yml.j2",
        "stack_secrets": [{"name": "word", "value": word}],
        "stack_configs": [{"name": "page", "file": str(page)}],
    }
    return scenario.play("stack", "-e", json.dumps(settings), *arguments, succeeds=succeeds)


def versions(scenario: Any) -> tuple[list[str], list[str]]:
    """The names of the stack's secrets and of its configs."""
    api = scenario.engine("node1").api
    return tuple(
        sorted(item["Spec"]["Name"] for item in items if item["Spec"]["Name"].startswith("own_"))
        for items in (api.secrets(), api.configs())
    )  # type: ignore[return-value]  # there are two


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "index.html"
    path.write_text("the first page")
    return path


def shown(scenario: Any) -> str:
    return requests.get(f"http://{scenario.entrypoint('node2')}:4001/", timeout=20).text


def test_own_stack_gets_its_secrets_and_configs(scenario: Any, page: Path) -> None:
    run = own(scenario, "swordfish", page)
    assert shown(scenario) == "the first page"
    ((container, node),) = scenario.running_tasks("node1", "own_page").items()
    read = execute(scenario.engine(node).api, container, ["bash", "-c", 'echo "$(</run/secrets/word)"'])
    assert read == (0, "swordfish")
    assert [len(names) for names in versions(scenario)] == [1, 1]
    assert "swordfish" not in run.output


#: answers every question, on the node whose address containers are given as that of their name server
RESOLVER = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("10.0.3.101", 53))
while True:
    asked, client = server.recvfrom(512)
    question = asked[12 : asked.index(b"\\0", 12) + 5]
    answer = b"\\xc0\\x0c\\0\\x01\\0\\x01\\0\\0\\0\\x3c\\0\\x04" + bytes([192, 0, 2, 53])
    server.sendto(asked[:2] + b"\\x81\\x80\\0\\x01\\0\\x01\\0\\0\\0\\0" + question + answer, client)
"""


@pytest.fixture
def resolver(scenario: Any) -> Iterator[None]:
    """A name server at an address that the nodes use themselves."""
    engine = scenario.engine("node1")
    image = next(service for service in engine.services.list() if service.name == "own_page").attrs["Spec"]
    container = engine.containers.run(
        image["TaskTemplate"]["ContainerSpec"]["Image"],
        entrypoint=["python3", "-c", RESOLVER],
        network_mode="host",
        user="0",
        detach=True,
    )
    try:
        yield
    finally:
        container.remove(force=True)


def test_name_outside_is_found_from_every_network(scenario: Any, resolver: None, eventually: Any) -> None:
    api = scenario.engine("node1").api
    assert len([found for found in api.networks(filters={"scope": "swarm"}) if found["Name"] != "ingress"]) >= 4
    question = "import socket; print(socket.gethostbyname('outside.example'))"
    for service in ("own_page", "own_bystander"):
        ((container, node),) = scenario.running_tasks("node1", service).items()
        asked = scenario.engine(node).api, container, ["python3", "-c", question]
        # the name server may still be starting
        assert eventually(lambda asked=asked: execute(*asked)[1] == "192.0.2.53", 30), execute(*asked)


def test_no_network_meets_what_the_nodes_use(scenario: Any) -> None:
    pools = scenario.engine("node1").api.inspect_swarm()["DefaultAddrPool"]
    assert pools == ["10.128.0.0/9"]
    subnets = [
        IPv4Network(config["Subnet"])
        for network in scenario.engine("node1").api.networks(filters={"scope": "swarm"})
        for config in network["IPAM"]["Config"]
    ]
    assert len(subnets) >= 5
    assert all(subnet.subnet_of(IPv4Network("10.128.0.0/9")) for subnet in subnets)


def test_changed_config_updates_those_who_use_it_and_the_old_one_goes(scenario: Any, page: Path) -> None:
    before, bystander = versions(scenario), scenario.running_tasks("node1", "own_bystander")
    page.write_text("the second page")
    plan = own(scenario, "swordfish", page, "--check", "--diff").output
    assert "update service page" in plan
    assert "the second page" not in plan
    own(scenario, "swordfish", page)
    assert shown(scenario) == "the second page"
    after = versions(scenario)
    assert after[0] == before[0]
    assert (len(after[1]), after[1] == before[1]) == (1, False)
    assert scenario.running_tasks("node1", "own_bystander") == bystander


def test_same_content_again_changes_nothing(scenario: Any, page: Path) -> None:
    before = versions(scenario), scenario.running_tasks("node1", "own_page")
    run = own(scenario, "swordfish", page)
    assert "changed=0" in run.output.split("PLAY RECAP")[1].splitlines()[1]
    assert (versions(scenario), scenario.running_tasks("node1", "own_page")) == before


def test_old_secret_stays_until_the_new_one_serves(scenario: Any, page: Path) -> None:
    (old,), _ = versions(scenario)
    run = own(scenario, "other", page, "-e", "own_secret=missing", succeeds=False)
    assert "secret missing of page is external, and the swarm has none" in " ".join(run.output.split())
    assert versions(scenario)[0] == [old]
    own(scenario, "other", page)
    assert versions(scenario)[0] != [old]
    assert len(versions(scenario)[0]) == 1


# What does not come up


def template(path: Path, **services: object) -> list[str]:
    """Return the arguments for a stack of these services."""
    path.write_text(yaml.safe_dump({"version": "3.8", "services": services}))
    return ["-e", f"stack_template={path}"]


def test_image_that_does_not_exist_is_named_and_the_old_tasks_go_on(scenario: Any, tmp_path: Path) -> None:
    before = scenario.running_tasks("node1")
    web = {"image": "apiary/nowhere:1", "deploy": {"replicas": 2}}
    output = scenario.play("stack", *template(tmp_path / "stack.yml.j2", web=web), succeeds=False).output
    assert "apiary/nowhere:1" in output
    assert scenario.running_tasks("node1") == before


def test_command_that_exits_at_once_is_told_with_what_it_said(scenario: Any, tmp_path: Path) -> None:
    arguments = template(
        tmp_path / "stack.yml.j2",
        web={"image": "{{ web_image }}", "deploy": {"replicas": 1}},
        broken={"image": "{{ web_image }}", "entrypoint": ["sh", "-c", "echo no such bee; exit 7"]},
    )
    output = scenario.play("stack", *arguments, "-e", "stack_name=other", succeeds=False).output
    try:
        assert "broken" in output
        assert "exit code 7" in output or "non-zero exit (7)" in output
        assert "no such bee" in output
    finally:
        for service in scenario.engine("node1").services.list(filters={"label": "com.docker.stack.namespace=other"}):
            service.remove()

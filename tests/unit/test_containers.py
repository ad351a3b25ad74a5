# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Container nodes: what is asked of the outer engine follows from what it has and what is wanted."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import docker.errors
import pytest

from ansible_collections.apiary.swarm.plugins.action import container_cluster, container_machine, container_preflight
from ansible_collections.apiary.swarm.plugins.module_utils import containers
from ansible_collections.apiary.swarm.plugins.module_utils.containers import Node, Port
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError

ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0100000A	0003	0	0	0	00000000	0	0	0
eth0	0000000A	00000000	0001	0	0	0	0000FFFF	0	0	0
br-0123456789ab	0061A8C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
docker0	000011AC	00000000	0001	0	0	0	0000FFFF	0	0	0
"""


@pytest.fixture
def node(tmp_path: Path) -> Node:
    for name in ("ca.pem", "crl.pem", "cert.pem", "key.pem"):
        (tmp_path / name).write_text(f"content of {name}")
    return Node(
        cluster="hive",
        name="node1",
        image="apiary/node:1",
        network="hive",
        address="192.168.97.101",
        entrypoint="127.0.97.101",
        ports=frozenset({Port("tcp", 4000)}),
        privileges="auto",
        authority=tmp_path / "ca.pem",
        revocations=tmp_path / "crl.pem",
        tls_directory=tmp_path,
    )


def listed(node: Node, state: str = "running", ports: str = "2376/tcp 4000/tcp", **labels: str) -> dict[str, Any]:
    return {
        "Id": "1" * 64,
        "Names": [f"/{node.container}"],
        "Image": node.image,
        "Status": "Up",
        "State": state,
        "Labels": {
            **node.labels,
            containers.IDENTITY_LABEL: node.identity,
            containers.PORTS_LABEL: ports,
            **labels,
        },
    }


def forwarder(node: Node, port: str, state: str = "running") -> dict[str, Any]:
    labels = {
        containers.CLUSTER_LABEL: node.cluster,
        containers.FORWARD_LABEL: node.name,
        containers.PORTS_LABEL: port,
    }
    name = f"/{node.container}-{port.replace('/', '-')}"
    return {"Id": f"forward {port}", "Names": [name], "State": state, "Labels": labels}


def refusal(text: str) -> docker.errors.APIError:
    return docker.errors.APIError("500 Server Error", explanation=text)


def test_node_that_is_not_there_is_made_and_started(node: Node) -> None:
    assert containers.planned(node, []) == ["make the node", "start the node"]


@pytest.mark.parametrize(("state", "expected"), [("running", []), ("exited", ["start the node"])])
def test_node_that_is_there_is_started_if_it_does_not_run(node: Node, state: str, expected: list[str]) -> None:
    assert containers.planned(node, [listed(node, state)]) == expected


@pytest.mark.parametrize("change", [{"address": "192.168.97.9"}, {"entrypoint": "127.0.96.101"}])
def test_other_addresses_make_the_node_anew(node: Node, change: dict[str, str]) -> None:
    assert containers.planned(replace(node, **change), [listed(node)])[0].startswith("make the node anew")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["ca.pem", "cert.pem"])
def test_another_certificate_makes_the_node_anew(node: Node, name: str) -> None:
    before = listed(node)
    (node.tls_directory / name).write_text("renewed")
    assert containers.planned(node, [before])[0].startswith("make the node anew")


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([], ["forward 53/udp", "forward 5000/tcp"]),
        (["5000/tcp"], ["forward 53/udp"]),
        (["5000/tcp", "53/udp"], []),
        (["5000/udp"], ["forward 53/udp", "forward 5000/tcp"]),
    ],
)
def test_ports_that_came_later_are_forwarded_once(node: Node, others: list[str], expected: list[str]) -> None:
    wanted = replace(node, ports=frozenset({Port("tcp", 4000), Port("tcp", 5000), Port("udp", 53)}))
    found = [listed(node), *(forwarder(node, port) for port in others)]
    assert sorted(containers.planned(wanted, found)) == sorted(expected)


def test_forwarder_of_another_node_or_one_that_stopped_does_not_count(node: Node) -> None:
    wanted = replace(node, ports=frozenset({Port("tcp", 5000)}))
    other = replace(node, name="node2")
    found = [listed(node), forwarder(other, "5000/tcp"), forwarder(node, "5000/tcp", state="exited")]
    assert containers.missing_ports(wanted, found) == [Port("tcp", 5000)]


def test_forwarder_that_stopped_is_replaced(node: Node) -> None:
    api = MagicMock()
    wanted = replace(node, ports=frozenset({Port("udp", 53)}))
    containers.forward(api, wanted, [listed(node), forwarder(node, "53/udp", state="exited")])
    api.remove_container.assert_called_once_with("forward 53/udp", v=True, force=True)
    made = api.create_container.call_args
    assert made.kwargs["name"] == "hive-node1-53-udp"
    assert made.kwargs["command"] == ["UDP-LISTEN:53,fork,reuseaddr", "UDP:192.168.97.101:53"]
    assert api.create_host_config.call_args.kwargs["port_bindings"] == {"53/udp": ("127.0.97.101", 53)}


def test_made_anew_the_node_keeps_its_volume_and_loses_its_forwarders(node: Node) -> None:
    api = MagicMock()
    api.create_host_config.return_value = {}
    before = listed(node, **{containers.IDENTITY_LABEL: "another"})
    containers.bring_up(api, replace(node, image="apiary/node:2"), [before, forwarder(node, "5000/tcp")])
    assert [call.args[0] for call in api.remove_container.call_args_list] == ["forward 5000/tcp", before["Id"]]
    api.stop.assert_called_once()
    api.remove_volume.assert_not_called()
    assert api.create_container.call_args.args == ("apiary/node:1",)
    assert "hive-node1:/var/lib/docker" in api.create_host_config.call_args.kwargs["binds"]


@pytest.mark.parametrize(
    ("privileges", "refused", "tried"),
    [("auto", False, [True]), ("auto", True, [True, False]), ("narrow", False, [False]), ("privileged", False, [True])],
)
def test_privileges_are_full_where_the_engine_may_give_them(
    node: Node, privileges: str, refused: bool, tried: list[bool]
) -> None:
    api = MagicMock()
    api.create_host_config.side_effect = lambda **options: options
    api.start.side_effect = [refusal("unable to apply caps: operation not permitted"), None] if refused else None
    containers.bring_up(api, replace(node, privileges=privileges), [])
    calls = [call.kwargs["host_config"].get("privileged", False) for call in api.create_container.call_args_list]
    assert calls == tried
    assert api.remove_container.call_count == len(tried) - 1


def test_engine_that_may_not_give_enough_is_named(node: Node) -> None:
    api = MagicMock()
    api.create_host_config.return_value = {}
    api.start.side_effect = refusal("operation not permitted")
    with pytest.raises(ApiaryError, match=r"container_machine_privileges is auto.*outside of other containers"):
        containers.bring_up(api, node, [])
    assert api.remove_container.call_count == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Bind for 127.0.97.101:4000 failed: port is already allocated", "another program has one of its ports"),
        ("listen tcp4 127.0.97.101:4000: bind: address already in use", "another program has one of its ports"),
        ("mkdir /x: no space left on device", "the disk of the engine is full"),
    ],
)
def test_refusals_of_the_engine_are_told_with_the_remedy(node: Node, text: str, expected: str) -> None:
    api = MagicMock()
    api.create_host_config.return_value = {}
    api.start.side_effect = refusal(text)
    with pytest.raises(ApiaryError, match=expected):
        containers.bring_up(api, node, [])
    api.remove_container.assert_called_once()  # what cannot be started is not left behind


def test_keys_are_readable_by_root_alone(node: Node) -> None:
    api = MagicMock()
    api.create_host_config.return_value = {}
    containers.bring_up(api, node, [])
    (_container, path, data), _ = api.put_archive.call_args
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        files = {f"{path}/{member.name}": member.mode for member in tar if member.isfile()}
    assert files == dict.fromkeys(["/etc/docker/ca.pem", "/etc/docker/crl.pem", "/etc/docker/server.pem"], 0o600)


@pytest.mark.parametrize(
    ("subnet", "expected"),
    [
        ("192.168.97.0/24", []),
        ("192.168.0.0/16", ["the Docker network lab (192.168.50.0/24)"]),
        ("192.168.50.128/25", ["the Docker network lab (192.168.50.0/24)"]),
        ("10.0.7.0/24", ["this computer's route to 10.0.0.0/16 through eth0"]),
        ("172.17.9.0/24", ["the Docker network bridge (172.17.0.0/16)"]),
    ],
)
def test_range_that_overlaps_is_told_with_what(subnet: str, expected: list[str]) -> None:
    networks = [
        {"Name": "bridge", "Id": "f" * 64, "IPAM": {"Config": [{"Subnet": "172.17.0.0/16"}]}},
        {"Name": "lab", "Id": "0123456789ab" + "0" * 52, "IPAM": {"Config": [{"Subnet": "192.168.50.0/24"}]}},
        {"Name": "six", "Id": "e" * 64, "IPAM": {"Config": [{"Subnet": "fd00::/64"}]}},
        {"Name": "host", "Id": "d" * 64, "IPAM": {"Config": None}},
    ]
    assert containers.overlaps(subnet, networks, ROUTES, "hive") == expected


def network(name: str, subnet: str, **labels: str) -> dict[str, Any]:
    return {"Name": name, "Id": "a" * 64, "Labels": labels, "IPAM": {"Config": [{"Subnet": subnet}]}}


@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        (network("hive", "192.168.97.0/24", **{containers.CLUSTER_LABEL: "hive"}), ""),
        (network("hive", "192.168.97.0/24"), "the engine has a network hive that is not Apiary's"),
        (
            network("hive", "192.168.90.0/24", **{containers.CLUSTER_LABEL: "hive"}),
            "container_machine_network is 192.168.97.0/24, and the cluster's network was made with 192.168.90.0/24",
        ),
        (network("lab", "192.168.97.0/28"), "overlaps with the Docker network lab"),
    ],
)
def test_network_that_is_there_fits_or_is_named(existing: dict[str, Any], expected: str) -> None:
    problems = container_preflight._network_problems([existing], "hive", "192.168.97.0/24")
    assert expected in "".join(problems)
    assert bool(problems) == bool(expected)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["apiary.kernel.lacks=ip_vs,vxlan"], ["ip_vs", "vxlan"]),
        (["apiary.kernel.lacks="], []),
        (["other=x"], []),
        (None, []),
    ],
)
def test_what_the_kernel_lacks_is_read_from_the_engines_labels(labels: list[str] | None, expected: list[str]) -> None:
    assert containers.kernel_lacks({"Labels": labels}) == expected


def test_what_will_not_work_is_told_of_all_that_the_stack_does_not_mend() -> None:
    told = containers.consequences(["ip_vs", "vxlan", "overlay", "br_netfilter"])
    assert [line.partition(" lacks ")[2].partition(":")[0] for line in told] == ["vxlan", "overlay", "br_netfilter"]


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("FileNotFoundError(2, 'No such file or directory')", "apt-get install docker.io"),
        ("PermissionError(13, 'Permission denied')", "a member of the group docker"),
    ],
)
def test_engine_that_does_not_answer_is_named_with_the_remedy(reason: str, remedy: str) -> None:
    message = containers.no_engine("unix:///var/run/docker.sock", reason)
    assert message.startswith("container_machine_engine is unix:///var/run/docker.sock, and no Docker Engine answers")
    assert remedy in message


def test_missing_socket_is_no_matter_of_a_machine(tmp_path: Path) -> None:
    with (
        pytest.raises(ApiaryError, match="no Docker Engine answers there") as raised,
        containers.outer_engine(f"unix://{tmp_path}/docker.sock"),
    ):
        pass
    assert "playbooks/machines.yml" not in str(raised.value)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """An engine with nothing on it."""
    api = MagicMock()
    api.containers.return_value = []
    api.networks.return_value = []
    api.volumes.return_value = {"Volumes": []}

    @contextmanager
    def engine(_host: str) -> Iterator[Any]:
        yield api

    monkeypatch.setattr(containers, "outer_engine", engine)
    return api


def action(kind: Any, *, check: bool = False) -> Any:
    made = kind.ActionModule.__new__(kind.ActionModule)
    made._task = MagicMock(check_mode=check, diff=False)
    return made


def machine_params(directory: Path, state: str, **given: Any) -> dict[str, Any]:
    return {
        "name": "node1",
        "state": state,
        "create": True,
        "engine": "",
        "cluster": "hive",
        "cluster_directory": str(directory),
        "image": "apiary/node:1",
        "network": "192.168.97.0/24",
        "address": "192.168.97.101",
        "entrypoint": "127.0.97.101",
        "published_ports": [],
        "privileges": "auto",
        "timeout_seconds": 60,
        **given,
    }


def test_node_is_stopped_once_and_what_leads_to_it_refuses(api: MagicMock, node: Node, tmp_path: Path) -> None:
    api.containers.return_value = [listed(node), forwarder(node, "5000/tcp")]
    result = action(container_machine).outcome(machine_params(tmp_path, "stopped"), {})
    assert (result["changed"], result["actions"]) == (True, ["stop the node"])
    assert [call.args[0] for call in api.remove_container.call_args_list] == ["forward 5000/tcp"]
    api.stop.assert_called_once_with("1" * 64, timeout=30)
    api.containers.return_value = [listed(node, state="exited")]
    assert not action(container_machine).outcome(machine_params(tmp_path, "stopped"), {})["changed"]
    api.stop.assert_called_once()


def test_node_that_is_not_there_is_not_made_by_a_start(api: MagicMock, tmp_path: Path) -> None:
    with pytest.raises(ApiaryError, match=r"no node node1 of the cluster hive to start: playbooks/site\.yml makes it"):
        action(container_machine).outcome(machine_params(tmp_path, "started", create=False), {})
    api.create_container.assert_not_called()


@pytest.mark.parametrize("check", [True, False])
def test_one_node_is_removed_with_its_data_and_nothing_else(
    api: MagicMock, node: Node, tmp_path: Path, check: bool
) -> None:
    keys = tmp_path / "machines" / "node1"
    keys.mkdir(parents=True)
    (tmp_path / "pki").mkdir()
    api.containers.return_value = [listed(node), forwarder(node, "5000/tcp")]
    api.volumes.return_value = {"Volumes": [{"Name": "hive-node1"}]}
    result = action(container_machine, check=check).outcome(machine_params(tmp_path, "absent"), {})
    assert result["actions"] == [
        "remove the container hive-node1",
        "remove the container hive-node1-5000-tcp",
        "remove the volume hive-node1",
        f"remove {keys}",
    ]
    asked = api.volumes.call_args.kwargs["filters"]["label"]
    assert asked == ["apiary.cluster=hive", "apiary.node=node1"]  # all of them must hold
    assert keys.exists() == check
    assert api.remove_container.call_count == api.remove_volume.call_count * 2 == (0 if check else 2)
    assert (tmp_path / "pki").exists()
    api.remove_network.assert_not_called()


def test_node_that_is_gone_is_removed_without_a_change(api: MagicMock, tmp_path: Path) -> None:
    assert not action(container_machine).outcome(machine_params(tmp_path, "absent"), {})["changed"]


def preflight_params(*names: str) -> dict[str, Any]:
    nodes = [
        {
            "name": name,
            "entrypoint": f"127.0.250.{number}",
            "address": f"192.168.97.{number}",
            "published_ports": [{"published": 4000, "protocol": "tcp"}],
        }
        for number, name in enumerate(names, 101)
    ]
    return {
        "nodes": nodes,
        "engine": "unix:///var/run/docker.sock",
        "cluster": "hive",
        "network": "192.168.97.0/24",
        "loopback_network": "127.0.250.0/24",
    }


def test_preflight_tells_which_nodes_are_to_be_made(api: MagicMock, node: Node, tmp_path: Path) -> None:
    api.info.return_value = {"DockerRootDir": str(tmp_path)}
    api.containers.return_value = [listed(node)]
    assert action(container_preflight).outcome(preflight_params("node1", "node2"), {})["missing"] == ["node2"]


@pytest.mark.parametrize(
    ("host", "elsewhere"),
    [
        ("unix:///var/run/docker.sock", False),
        ("tcp://127.0.0.1:2375", False),
        ("tcp://localhost:2375", False),
        ("tcp://192.168.1.9:2376", True),
        ("ssh://ann@example.org", True),
    ],
)
def test_engine_on_another_computer_is_refused(api: MagicMock, tmp_path: Path, host: str, elsewhere: bool) -> None:
    api.info.return_value = {"DockerRootDir": str(tmp_path)}
    params = {**preflight_params("node1"), "engine": host}
    if elsewhere:
        with pytest.raises(ApiaryError, match=f"container_machine_engine is {host}: .* it must be this one"):
            action(container_preflight).outcome(params, {})
    else:
        assert action(container_preflight).outcome(params, {})["missing"] == ["node1"]


def test_full_disk_is_told_before_a_node_is_made(
    api: MagicMock, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.info.return_value = {"DockerRootDir": str(tmp_path)}
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: MagicMock(free=1 << 30))
    with pytest.raises(
        ApiaryError, match=r"has 1024 MiB free and 1536 MiB are needed: make room.*the engine's data-root"
    ):
        action(container_preflight).outcome(preflight_params("node1", "node2"), {})
    api.containers.return_value = [listed(node)]
    assert action(container_preflight).outcome(preflight_params("node1"), {})["missing"] == []


def test_foreign_container_is_told_before_a_node_is_made(api: MagicMock, node: Node, tmp_path: Path) -> None:
    api.info.return_value = {"DockerRootDir": str(tmp_path)}
    api.containers.return_value = [{**listed(node), "Labels": {}}]
    with pytest.raises(ApiaryError, match="the engine has a container hive-node1 that is not Apiary's"):
        action(container_preflight).outcome(preflight_params("node1"), {})


def test_removal_that_leaves_something_is_an_error(api: MagicMock, tmp_path: Path) -> None:
    api.volumes.return_value = {"Volumes": [{"Name": "hive-node1"}]}
    params = {"engine": "", "cluster": "hive", "cluster_directory": str(tmp_path / "none")}
    with pytest.raises(ApiaryError, match="still there after their removal: volume hive-node1"):
        action(container_cluster).outcome(params, {})


def test_removal_leaves_files_of_others_alone(api: MagicMock, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    params = {"engine": "", "cluster": "hive", "cluster_directory": str(tmp_path)}
    with pytest.raises(ApiaryError, match="Is container_machine_state_dir right"):
        action(container_cluster).outcome(params, {})
    assert (tmp_path / "letter.txt").exists()


@pytest.mark.parametrize(
    ("nodes", "limit", "is_short"), [(18, "1024\n", False), (20, "1024\n", True), (20, "1180", False)]
)
def test_room_for_neighbours_is_reckoned(nodes: int, limit: str, is_short: bool, tmp_path: Path) -> None:
    (tmp_path / "gc_thresh3").write_text(limit)
    shortage = containers.neighbour_shortage(nodes, tmp_path / "gc_thresh3")
    assert ("gc_thresh3=4720" in shortage) == is_short
    assert bool(shortage) == is_short


def test_unknown_room_for_neighbours_is_no_shortage(tmp_path: Path) -> None:
    assert containers.neighbour_shortage(100, tmp_path / "none") == ""


# Certificates that are revoked


def archived(content: bytes) -> tuple[list[bytes], dict[str, Any]]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("crl.pem")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return [buffer.getvalue()], {}


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """The files of a cluster and of its node1."""
    for name in ("pki/ca.pem", "pki/crl.pem", "machines/node1/cert.pem", "machines/node1/key.pem"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("known", "state", "told"),
    [(b"old", "running", True), (b"pki/crl.pem", "running", False), (b"old", "exited", False)],
)
def test_running_node_is_told_once_who_is_shut_out(
    api: MagicMock, node: Node, lists: Path, monkeypatch: pytest.MonkeyPatch, known: bytes, state: str, told: bool
) -> None:
    monkeypatch.setattr(containers, "wait_until_answering", lambda *_: {})
    api.containers.return_value = [listed(node, state)]
    api.get_archive.return_value = archived(known)
    api.exec_inspect.return_value = {"ExitCode": 0}
    result = action(container_machine).outcome(machine_params(lists, "revoked"), {})
    assert result["changed"] == told
    assert api.put_archive.called == told
    assert api.exec_start.called == told  # so that open connections end


def test_node_that_does_not_heed_the_list_is_a_failure(api: MagicMock, node: Node, lists: Path) -> None:
    api.containers.return_value = [listed(node)]
    api.get_archive.side_effect = docker.errors.NotFound("no such file")
    api.exec_inspect.return_value = {"ExitCode": 1}
    api.exec_start.return_value = b"cat: /run/api.pid: No such file or directory"
    with pytest.raises(ApiaryError, match=r"does not heed it yet .*remove_node\.yml -e node=node1"):
        action(container_machine).outcome(machine_params(lists, "revoked"), {})


def test_node_that_starts_again_learns_who_was_shut_out_meanwhile(node: Node) -> None:
    api = MagicMock()
    (node.revocations).write_text("ann")
    containers.bring_up(api, node, [listed(node, state="exited")])
    (_container, _path, data), _ = api.put_archive.call_args
    assert b"ann" in data
    assert [call[0] for call in api.method_calls] == ["put_archive", "start"]

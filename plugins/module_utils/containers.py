# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A machine that is a container with an engine of its own: what the outer engine is asked for, and its life there."""

from __future__ import annotations

import errno
import hashlib
import io
import ipaddress
import os
import shutil
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker.errors

from ansible_collections.apiary.swarm.plugins.module_utils.cluster_files import API_PORT
from ansible_collections.apiary.swarm.plugins.module_utils.docker_api import CertificateRefused, connect
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.names import check_cluster, check_machine
from ansible_collections.apiary.swarm.plugins.module_utils.pki import first_certificate

CLUSTER_LABEL = "apiary.cluster"
NODE_LABEL = "apiary.node"
#: what the container was made for; another value means that it has to be made anew
IDENTITY_LABEL = "apiary.identity"
#: on a container that leads one published port to a node: the node's name
FORWARD_LABEL = "apiary.forward"
#: the ports that a container publishes, such as ``2376/tcp 4000/tcp``
PORTS_LABEL = "apiary.ports"
#: an engine's label, with the features of its kernel that are missing, separated by commas
KERNEL_LABEL = "apiary.kernel.lacks"
_MODULES = "/lib/modules"
_REVOKED = "crl.pem"
#: an engine that ends gracefully takes a second or two for each container
_STOP_SECONDS = 30
_POLL_SECONDS = 0.2
_LOG_LINES = 15

_CONSEQUENCES = {
    "vxlan": "networks between nodes (overlay) will not work",
    "overlay": "engines copy every image for every container, which takes room and time",
    "br_netfilter": "ports that nodes publish, and the walls between their networks, may not work",
}

#: a node asks a registry for an image before it takes its own: for 10 s by default, where no name server answers
_DNS_OPTIONS = ["timeout:1", "attempts:2"]

#: what an engine needs, where the outer engine may not give away all it has
_NARROW = {
    "cap_add": ["ALL"],
    "cap_drop": ["SYS_RESOURCE"],
    "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
    "device_cgroup_rules": ["a *:* rwm"],
}
#: the client's ``--security-opt systempaths=unconfined``, as the API has it
_NO_MASKS: dict[str, list[str]] = {"MaskedPaths": [], "ReadonlyPaths": []}
_PRIVILEGES: dict[str, list[dict[str, Any]]] = {
    "privileged": [{"privileged": True}],
    "narrow": [_NARROW],
    "auto": [{"privileged": True}, _NARROW],
}


@dataclass(frozen=True, order=True)
class Port:
    """A port of the entrypoint that leads to the same port of the node."""

    protocol: str
    number: int

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


@dataclass(frozen=True)
class Node:
    """A node as it should be."""

    cluster: str
    name: str
    image: str
    network: str
    address: str
    entrypoint: str
    ports: frozenset[Port]
    privileges: str
    #: the authority's certificate, its list of revoked ones, and the directory of the node's own key.pem and cert.pem
    authority: Path
    revocations: Path
    tls_directory: Path

    def __post_init__(self) -> None:
        check_cluster(self.cluster)
        check_machine(self.name)

    @property
    def container(self) -> str:
        return f"{self.cluster}-{self.name}"

    @property
    def labels(self) -> dict[str, str]:
        return {CLUSTER_LABEL: self.cluster, NODE_LABEL: self.name}

    @property
    def identity(self) -> str:
        """Hash of what is fixed when a container is made: addresses and certificate.

        An authority that gets another certificate for the same key is still the one that it was made for.
        """
        certificates = [first_certificate(self.authority).read_text(), (self.tls_directory / "cert.pem").read_text()]
        return hashlib.sha256("\0".join([self.address, self.entrypoint, *certificates]).encode()).hexdigest()[:16]


@contextmanager
def outer_engine(host: str) -> Iterator[Any]:
    """Yield a client for the engine whose containers are nodes; where none answers, say what to do."""
    try:
        with connect({"docker_host": host}, timeout_seconds=120) as api:
            yield api
    except ApiaryError as error:
        if not isinstance(error.__cause__, docker.errors.DockerException) or isinstance(
            error.__cause__, docker.errors.APIError
        ):
            raise
        raise ApiaryError(no_engine(host, str(error.__cause__))) from error


def no_engine(host: str, reason: str) -> str:
    """Return what to tell a user on whose computer no engine answers at *host*."""
    remedy = (
        "install Docker (on Debian: apt-get install docker.io) and start it (systemctl start docker), or set "
        "DOCKER_HOST or container_machine_engine to an engine that runs"
    )
    if "PermissionError" in reason or "Permission denied" in reason:
        remedy = "run as a user that may use it: a member of the group docker, or root"
    return f"container_machine_engine is {host}, and no Docker Engine answers there ({reason}): {remedy}"


def is_elsewhere(host: str) -> bool:
    """Say whether the engine at *host* runs on another computer, where its loopback addresses are out of reach."""
    url = urlsplit(host)
    return url.scheme not in ("unix", "npipe") and not (url.hostname or "").startswith(("127.", "localhost"))


def is_refused_privilege(error: docker.errors.APIError) -> bool:
    """Whether the outer engine may not give a container all privileges, having less itself."""
    text = str(error.explanation or error).lower()
    return "operation not permitted" in text or "permission denied" in text


def overlaps(subnet: str, networks: Iterable[Mapping[str, Any]], routes: str, own: str) -> list[str]:
    """Return with what *subnet* overlaps: networks of the engine, or routes of this host (``/proc/net/route``)."""
    wanted = ipaddress.ip_network(subnet)
    found = []
    bridges = set()
    for network in networks:
        bridges.add(f"br-{network['Id'][:12]}")
        for config in (network.get("IPAM") or {}).get("Config") or []:
            if network["Name"] != own and _overlap(wanted, config.get("Subnet", "")):
                found.append(f"the Docker network {network['Name']} ({config['Subnet']})")
    for line in routes.splitlines()[1:]:
        device, destination, *rest = line.split()
        mask = rest[5]
        if device in bridges or device.startswith("docker") or int(mask, 16) == 0:
            continue
        route = f"{_address(destination)}/{_address(mask)}"
        if _overlap(wanted, route):
            found.append(f"this computer's route to {ipaddress.ip_network(route)} through {device}")
    return found


def _overlap(network: Any, other: str) -> bool:
    try:
        return bool(network.overlaps(ipaddress.ip_network(other, strict=False)))
    except (ValueError, TypeError):  # empty, or IPv6
        return False


def _address(little_endian_hex: str) -> str:
    return str(ipaddress.ip_address(int.from_bytes(bytes.fromhex(little_endian_hex), "little")))


def find(api: Any, cluster: str, node: str = "") -> list[dict[str, Any]]:
    """Return the containers of the cluster, or of one node: nodes and forwarders, whatever their state."""
    filters = {"label": f"{CLUSTER_LABEL}={cluster}"}
    if node:  # the engine describes each container that it lists, which takes it a while
        filters["name"] = f"^/?{cluster}-{node}(-[0-9]+-(tcp|udp))?$"
    containers: list[dict[str, Any]] = api.containers(all=True, filters=filters)
    return containers


def ensure_network(api: Any, cluster: str, subnet: str) -> bool:
    """Make the cluster's network unless it is there; return whether it was made."""
    if api.networks(names=[cluster], filters={"label": f"{CLUSTER_LABEL}={cluster}"}):
        return False
    # Forwarders get their addresses from the last eighth, out of the way of nodes.
    forwarders = list(ipaddress.ip_network(subnet).subnets(prefixlen_diff=3))[-1]
    pool = docker.types.IPAMPool(subnet=subnet, iprange=str(forwarders))
    api.create_network(
        cluster,
        driver="bridge",
        ipam=docker.types.IPAMConfig(pool_configs=[pool]),
        labels={CLUSTER_LABEL: cluster},
        check_duplicate=True,
    )
    return True


def planned(node: Node, containers: Iterable[Mapping[str, Any]], *, certified: bool = True) -> list[str]:
    """Return what there is to do, as the engine lists the cluster's *containers*; empty when all is as wanted.

    Where it is not *certified*, its certificate will be another one.
    """
    own = _container_of(node, containers)
    if own is None:
        return ["make the node", "start the node"]
    if not certified or own["Labels"].get(IDENTITY_LABEL) != node.identity:
        return ["make the node anew, with its data, for its addresses and certificate", "start the node"]
    actions = [] if own["State"] == "running" else ["start the node"]
    return [*actions, *(f"forward {port}" for port in missing_ports(node, containers))]


def exists(node: Node, containers: Iterable[Mapping[str, Any]]) -> bool:
    """Say whether there is a container of the node, as the engine lists the cluster's *containers*."""
    return _container_of(node, containers) is not None


def runs(node: Node, containers: Iterable[Mapping[str, Any]]) -> bool:
    """Say whether the node's container runs, as the engine lists the cluster's *containers*."""
    own = _container_of(node, containers)
    return own is not None and own["State"] == "running"


def missing_ports(node: Node, containers: Iterable[Mapping[str, Any]]) -> list[Port]:
    """Return the wanted ports that nothing leads to the node."""
    containers = list(containers)
    own = _container_of(node, containers)
    published = set(_ports_of((own or {}).get("Labels", {}).get(PORTS_LABEL, "")))
    running = [item for item in containers if item["State"] == "running"]
    for item in running:
        if item["Labels"].get(FORWARD_LABEL) == node.name:
            published.update(_ports_of(item["Labels"].get(PORTS_LABEL, "")))
    return sorted(node.ports - published)


def _ports_of(label: str) -> Iterator[Port]:
    for entry in label.split():
        number, _, protocol = entry.partition("/")
        yield Port(protocol, int(number))


def _container_of(node: Node, containers: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return next((item for item in containers if f"/{node.container}" in item["Names"]), None)


def bring_up(api: Any, node: Node, containers: Iterable[Mapping[str, Any]]) -> None:
    """Have the node's container as wanted, and running; *containers* is what the engine listed."""
    containers = list(containers)
    own = _container_of(node, containers)
    if own is not None and own["Labels"].get(IDENTITY_LABEL) != node.identity:
        for item in containers:
            if item["Labels"].get(FORWARD_LABEL) == node.name:
                remove(api, item["Id"])
        api.stop(own["Id"], timeout=_STOP_SECONDS)
        remove(api, own["Id"])
        # From the image it had: the engine has that, and an update of it is not what this run is about.
        _make(api, replace(node, image=own["Image"]))
    elif own is None:
        _make(api, node)
    elif own["State"] == "paused":
        api.unpause(own["Id"])
    elif own["State"] != "running":
        api.put_archive(own["Id"], "/etc", _tls_archive(node))  # what was revoked meanwhile
        start(api, node, own["Id"])


def forward(api: Any, node: Node, containers: Iterable[Mapping[str, Any]]) -> list[Port]:
    """Lead the ports that are wanted and not published yet to the running node; return them.

    Docker fixes a container's published ports when it is made. So each port that comes later gets a small container
    of its own, and the node keeps running.
    """
    containers = list(containers)
    own = _container_of(node, containers)
    if own is None:
        return []
    missing = missing_ports(node, containers)
    for port in missing:
        name = f"{node.container}-{port.number}-{port.protocol}"
        for item in containers:
            if f"/{name}" in item["Names"]:  # there, and not running
                remove(api, item["Id"])
        protocol = port.protocol.upper()
        command = [f"{protocol}-LISTEN:{port.number},fork,reuseaddr", f"{protocol}:{node.address}:{port.number}"]
        host_config = api.create_host_config(
            port_bindings={str(port): (node.entrypoint, port.number)},
            restart_policy={"Name": "unless-stopped"},
            cap_drop=["ALL"],
            cap_add=["NET_BIND_SERVICE"],
        )
        container = api.create_container(
            own["Image"],
            name=name,
            entrypoint=["/usr/bin/tini", "--", "/usr/bin/socat"],
            command=command,
            ports=[(port.number, port.protocol)],
            labels={CLUSTER_LABEL: node.cluster, FORWARD_LABEL: node.name, PORTS_LABEL: str(port)},
            host_config=host_config,
            networking_config=api.create_networking_config({node.network: api.create_endpoint_config()}),
        )
        start(api, node, container["Id"])
    return missing


def start(api: Any, node: Node, container: str) -> None:
    """Start a container; the engine's refusals that a user can mend are put in their words."""
    try:
        api.start(container)
    except docker.errors.APIError as error:
        text = str(error.explanation or error)
        if "address already in use" in text or "port is already allocated" in text:
            raise ApiaryError(
                f"{node.container} cannot be started, as another program has one of its ports: {text}. End that "
                "program, publish another port, or choose another container_machine_loopback_network"
            ) from error
        if os.strerror(errno.ENOSPC).lower() in text.lower():
            raise ApiaryError(
                f"{node.container} cannot be started: the disk of the engine is full ({text}). Make room: "
                "'docker system df' shows what takes it"
            ) from error
        raise


def stop(api: Any, node: Node, containers: Iterable[Mapping[str, Any]]) -> None:
    """End the node's engine gracefully, and what leads ports to it, so that they refuse and do not hang."""
    containers = list(containers)
    for item in containers:
        if item["Labels"].get(FORWARD_LABEL) == node.name:
            remove(api, item["Id"])
    if own := _container_of(node, containers):
        api.stop(own["Id"], timeout=_STOP_SECONDS)


def parts(api: Any, node: Node) -> list[str]:
    """Return what there is of the node, in words of its removal."""
    return [
        *sorted(f"remove the container {item['Names'][0].lstrip('/')}" for item in _own(api, node)),
        *(f"remove the volume {volume['Name']}" for volume in _volumes(api, node)),
        *([f"remove {node.tls_directory}"] if node.tls_directory.exists() else []),
    ]


def remove_node(api: Any, node: Node) -> None:
    """Remove the node's containers, its volume with all its data, and its keys."""
    for item in _own(api, node):
        remove(api, item["Id"])
    for volume in _volumes(api, node):
        api.remove_volume(volume["Name"], force=True)
    if node.tls_directory.exists():
        shutil.rmtree(node.tls_directory)


def _own(api: Any, node: Node) -> list[Mapping[str, Any]]:
    return [
        item
        for item in find(api, node.cluster, node.name)
        if node.name in (item["Labels"].get(NODE_LABEL), item["Labels"].get(FORWARD_LABEL))
    ]


def _volumes(api: Any, node: Node) -> list[Mapping[str, Any]]:
    labels = [f"{name}={value}" for name, value in node.labels.items()]
    found: list[Mapping[str, Any]] = api.volumes(filters={"label": labels})["Volumes"] or []
    return found


def remove(api: Any, container: str) -> None:
    """Remove a container, running or not, with its anonymous volumes; one that is gone is fine."""
    try:
        api.remove_container(container, v=True, force=True)
    except docker.errors.NotFound:
        pass
    except docker.errors.APIError as error:
        if "is already in progress" not in str(error.explanation):
            raise


def _make(api: Any, node: Node) -> None:
    """Make and start the container; where all privileges are refused, and it may be, with the narrower set."""
    offers = _host_configs_of(api, node)
    for number, host_config in enumerate(offers, 1):
        container = _create(api, node, host_config)
        try:
            api.put_archive(container, "/etc", _tls_archive(node))
            start(api, node, container)
        except docker.errors.APIError as error:
            remove(api, container)
            if not is_refused_privilege(error):
                raise
            if number == len(offers):
                raise ApiaryError(
                    f"{node.container} cannot be started, as the engine may not give it the privileges that an engine "
                    f"in a container needs (container_machine_privileges is {node.privileges}): "
                    f"{error.explanation}. Use an engine that runs as root, outside of other containers"
                ) from error
        except ApiaryError:
            remove(api, container)
            raise
        else:
            return


def host_configs(api: Any, privileges: str, binds: list[str], **options: Any) -> list[dict[str, Any]]:
    """Return what the outer engine may be asked for so that another can run in a container, the better first."""
    # The engine loads modules of the kernel that it finds missing, as it would on any host.
    modules = [f"{_MODULES}:{_MODULES}:ro"] if Path(_MODULES).is_dir() else []
    options |= {"binds": [*binds, *modules], "tmpfs": {"/run": "mode=755"}, "dns_opt": _DNS_OPTIONS}
    return [
        {**api.create_host_config(**options, **offer), **(_NO_MASKS if offer is _NARROW else {})}
        for offer in _PRIVILEGES[privileges]
    ]


def _host_configs_of(api: Any, node: Node) -> list[dict[str, Any]]:
    return host_configs(
        api,
        node.privileges,
        [f"{node.container}:/var/lib/docker"],
        port_bindings={str(port): (node.entrypoint, port.number) for port in _published(node)},
        restart_policy={"Name": "unless-stopped"},
    )


def _published(node: Node) -> list[Port]:
    return sorted({*node.ports, Port("tcp", API_PORT)})


def _create(api: Any, node: Node, host_config: dict[str, Any]) -> str:
    ports = _published(node)
    network = api.create_endpoint_config(ipv4_address=node.address, aliases=[node.name])
    api.create_volume(node.container, labels=node.labels)
    container = api.create_container(
        node.image,
        name=node.container,
        hostname=node.name,
        ports=[(port.number, port.protocol) for port in ports],
        labels={
            **node.labels,
            IDENTITY_LABEL: node.identity,
            PORTS_LABEL: " ".join(map(str, ports)),
        },
        host_config=host_config,
        networking_config=api.create_networking_config({node.network: network}),
        stop_timeout=_STOP_SECONDS,
    )
    return str(container["Id"])


def _tls_archive(node: Node) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        home = tarfile.TarInfo("docker")
        home.type, home.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(home)
        for name, content in _tls_files(node).items():
            member = tarfile.TarInfo(f"docker/{name}")
            member.size, member.mode = len(content), 0o600
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def _tls_files(node: Node) -> dict[str, bytes]:
    own = node.tls_directory
    return {
        "ca.pem": node.authority.read_bytes(),
        _REVOKED: node.revocations.read_bytes(),
        "server.pem": (own / "cert.pem").read_bytes() + (own / "key.pem").read_bytes(),
    }


def knows_revocations(api: Any, node: Node) -> bool:
    """Say whether the node has the list of revoked certificates as it is now."""
    try:
        chunks, _stat = api.get_archive(node.container, f"/etc/docker/{_REVOKED}")
    except docker.errors.NotFound:
        return False
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        file = tar.extractfile(_REVOKED)
        return file is not None and file.read() == node.revocations.read_bytes()


def tell_revocations(api: Any, node: Node) -> None:
    """Give the running node the list of revoked certificates, and end all connections, also those that are open."""
    api.put_archive(node.container, "/etc", _tls_archive(node))
    execution = api.exec_create(node.container, ["sh", "-c", 'kill "$(cat /run/api.pid)"'])
    output = api.exec_start(execution["Id"])
    if status := api.exec_inspect(execution["Id"])["ExitCode"]:
        raise ApiaryError(
            f"{node.container} has the new list of revoked certificates, but does not heed it yet (exit code {status}: "
            f"{output.decode(errors='replace').strip()}). Have it made anew: playbooks/remove_node.yml -e "
            f"node={node.name}, then playbooks/site.yml"
        )


def wait_until_answering(api: Any, node: Node, endpoint: Mapping[str, Any], timeout_seconds: float) -> dict[str, Any]:
    """Wait for the node's own engine, and return what it says of itself."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            with connect(endpoint, timeout_seconds=10) as inner:
                info: dict[str, Any] = inner.info()
                return info
        except CertificateRefused as error:
            raise ApiaryError(f"{node.container} runs, but {error}") from error
        except ApiaryError as error:
            state = api.inspect_container(node.container)["State"]
            if state["Status"] == "running" and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                continue
            logs = api.logs(node.container, tail=_LOG_LINES).decode(errors="replace")
            what = (
                f"runs, but its engine did not answer within {timeout_seconds:g} s: run this again, and if the "
                "computer is slow, with a larger container_machine_timeout_seconds"
                if state["Status"] == "running"
                else f"stopped while its engine was starting (exit code {state['ExitCode']})"
            )
            raise ApiaryError(
                f"{node.container} {what}. Its last answer: {error}\nThe end of its log:\n{logs}"
            ) from error


def consequences(lacks: Iterable[str], kernel: str = "this computer's kernel, which the nodes share,") -> list[str]:
    """Return what will not work for want of *lacks*; what the lack of IPVS means is for the stack to say."""
    return [f"{kernel} lacks {feature}: {_CONSEQUENCES[feature]}" for feature in lacks if feature in _CONSEQUENCES]


def neighbour_shortage(nodes: int, limit_path: Path = Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")) -> str:
    """Return what to say where the kernel cannot remember as many neighbours as *nodes* nodes have, or nothing.

    The kernel keeps one table for all its network namespaces. Each node has an entry for each other node, and where the
    proxy on each node asks a task on each node, both ends have one for the other. Once the table is full, connections
    time out for no visible reason: seen at 20 nodes with the kernel's default of 1024.
    """
    needed = nodes * (nodes - 1) + 2 * nodes**2
    try:
        limit = int(limit_path.read_text())
    except (OSError, ValueError):  # another system, or a namespace that does not show it
        return ""
    if needed <= limit:
        return ""
    return (
        f"{nodes} nodes on one kernel may need {needed} entries in its neighbour table, which holds {limit}: "
        f"connections between them may time out. More room: sysctl -w net.ipv4.neigh.default.gc_thresh3={4 * needed}"
    )


def kernel_lacks(info: Mapping[str, Any]) -> list[str]:
    """Return the features of the kernel that a node's engine misses, from its labels."""
    for label in info.get("Labels") or []:
        key, _, value = label.partition("=")
        if key == KERNEL_LABEL:
            return [feature for feature in value.split(",") if feature]
    return []

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Published ports without the routing mesh: a proxy on every node, for kernels that have no IPVS.

Swarm's virtual IPs and its routing mesh are IPVS. On a kernel without it both are handed out, services run, and nothing
answers. What works there: the swarm's DNS, which gives the addresses of a service's tasks (``tasks.NAME``), networks
between nodes, and ports that a task publishes on its own node. So services are found by DNS round-robin, and a global
service of the stack, HAProxy, publishes their ports on every node.

What the user published stays readable from the swarm: a service carries it as the label PORTS_LABEL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import yaml

from ansible_collections.apiary.swarm.plugins.module_utils import compose
from ansible_collections.apiary.swarm.plugins.module_utils.compose import Port
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError

MODES = ("auto", "mesh", "proxy")
#: the proxy's name in the stack
SERVICE = "ingress"
#: on a service: the ports that the proxy publishes for it, as in "4000:80,4443:443"
PORTS_LABEL = "apiary.ingress.ports"
#: on the proxy
PROXY_LABEL = "apiary.ingress.proxy"

_NEEDED_FEATURE = "ip_vs"
#: swarm's list of a service's tasks in one answer of at most 8192 bytes, some 40 for each: more tasks would flicker
_MOST_TASKS = 200
#: so many of them may be asked although none is known to answer
_UNCHECKED_TASKS = 10
# Where the proxy listens in its container, one port after the other: above 1024, where no privilege is needed.
_FIRST_LISTENER = 10001
_STOP_SECONDS = 5
# So many connections fit in the proxy's memory, each with both of its buffers (16 KiB) full; idle ones take 3 KiB.
_CONNECTIONS = 4000
_MEMORY = "256M"
# Each connection takes two file descriptors, each slot of each port one, and so do listeners, DNS and the like.
_DESCRIPTORS_OF_A_PORT = _MOST_TASKS + 2
_DESCRIPTORS_OF_ITS_OWN = 64
_FEWEST_OF_A_PORT = 50
#: volumes of type tmpfs with a size, endpoint_mode and the order of updates came with this version of compose files
_NEEDED_VERSION = (3, 6)

# "hold" and "timeout resolve": the tasks are looked up twice a second. Swarm takes a task out of its DNS two seconds
# before it stops it, and enters a new one when it is healthy, so new connections follow in time.
#
# "retries" and "redispatch": a connection that a task refuses, because it ends or has not begun, goes to the next one.
# A task that fails so is asked twice a second from then on and gets no connections until it answers. Without an error
# nothing is asked (inter 1d): 20 proxies that check every task all the time would be a load of their own, and to some
# servers (MySQL) connections without a word are an attack.
#
# "-unchecked": where no task is known to answer, connections are led to one all the same. The only task of a service
# may serve already when a check fails that had begun with the address of the task before it. Each is tried once, and
# for less time than a silent connection has to stay open for a server to be thought behind it (probe.py).
#
# 15 minutes: after so long the routing mesh forgets an idle connection too, and after two one that is half closed.
#
# "maxconn": each port has its share, so that the clients of one cannot take what those of the others need. The one
# that has none left answers again when some of its connections end; together they are as many as there may be at all.
_GLOBAL = f"""\
global
  maxconn "${{CONNECTIONS}}"
  no strict-limits
  nbthread 1
  hard-stop-after {_STOP_SECONDS}s
defaults
  mode tcp
  maxconn "${{SHARE}}"
  balance roundrobin
  retries 100
  option redispatch 1
  timeout connect 2s
  timeout check 2s
  timeout client 15m
  timeout server 15m
  timeout client-fin 2m
  timeout server-fin 2m
resolvers swarm
  nameserver docker 127.0.0.11:53
  accepted_payload_size 8192
  resolve_retries 3
  timeout resolve 500ms
  timeout retry 500ms
  hold valid 500ms
  hold obsolete 0s
  hold nx 2s
  hold other 30s
  hold refused 30s
  hold timeout 30s
"""
_LISTENER = """\
frontend {name}
  bind :{listener}
  use_backend {name}-unchecked unless {{ nbsrv({name}) gt 0 }}
  default_backend {name}
backend {name}
  default-server check inter 1d fastinter 500ms downinter 500ms fall 2 rise 1
  default-server observe layer4 error-limit 1 on-error fastinter
  server-template task 1-{most_tasks} tasks.{stack}_{service}:{target} resolvers swarm init-addr none
backend {name}-unchecked
  retries 0
  timeout connect 400ms
  server-template task 1-{unchecked_tasks} tasks.{stack}_{service}:{target} resolvers swarm init-addr none
"""
# Some engines give 4096 file descriptors at most. HAProxy raises the soft limit itself; where even the fewest
# connections need more than the hard one, it warns of that and goes on, as it need not be strict.
_COMMAND = """\
limit=$(ulimit -H -n)
[ "$limit" != unlimited ] || limit=1048576
SHARE=$(((limit - {descriptors}) / 2 / {ports}))
[ "$SHARE" -lt {most} ] || SHARE={most}
[ "$SHARE" -gt {fewest} ] || SHARE={fewest}
export SHARE CONNECTIONS=$((SHARE * {ports}))
printf %s "$HAPROXY_CFG" >/tmp/haproxy.cfg && exec haproxy -db -f /tmp/haproxy.cfg
"""


def choose(mode: str, kernel_lacks: Iterable[str]) -> str:
    """Return mesh or proxy; ApiaryError if the mesh is asked for and the kernels cannot do it."""
    is_lacking = _NEEDED_FEATURE in kernel_lacks
    if mode == "mesh" and is_lacking:
        raise ApiaryError(
            f"stack_ingress is mesh, and a node's kernel lacks {_NEEDED_FEATURE} (stack_kernel_lacks): virtual IPs and "
            "the routing mesh would be there and answer nothing. Set stack_ingress to auto or proxy, or load the "
            f"module on the nodes: modprobe {_NEEDED_FEATURE}"
        )
    if mode == "auto":
        return "proxy" if is_lacking else "mesh"
    return mode


def transform(document: Mapping[str, Any], stack: str, image: str) -> dict[str, Any]:
    """Return *document* with the ports of the routing mesh published by a proxy from *image* instead.

    What cannot be done so is reported all at once, as an ApiaryError.
    """
    result = deepcopy(dict(document))
    result["version"] = _version(document["version"])
    proxied: list[Port] = []
    problems: list[str] = []
    for name, service in result["services"].items():
        deploy = service["deploy"] = dict(service.get("deploy") or {})
        deploy.setdefault("endpoint_mode", "dnsrr")
        ports, kept = _split(name, service.get("ports") or [])
        problems += _problems(ports)
        service.pop("ports", None)
        if kept:
            service["ports"] = kept
        if ports:
            deploy["endpoint_mode"] = "dnsrr"
            deploy["labels"] = {**_mapping(deploy.get("labels")), PORTS_LABEL: _label(ports)}
            proxied += ports
    if proxied and SERVICE in result["services"]:
        problems.append(
            f"services.{SERVICE}: the proxy that publishes ports has this name: give the service another one"
        )
    if proxied and not image:
        problems.append(
            "stack_ingress_image is empty: set it to an image with haproxy and a shell, such as haproxy:2.8, or have "
            "images/ingress built (image_list) and set it to that"
        )
    if problems:
        raise ApiaryError(
            "published ports cannot be served by a proxy (stack_ingress):\n"
            + "\n".join(f"- {line}" for line in problems)
        )
    if proxied:
        result["services"][SERVICE] = _proxy(result, stack, image, proxied)
    return result


def to_text(document: Mapping[str, Any]) -> str:
    """Return *document* as YAML that Docker's client reads as it is meant."""
    return yaml.dump(document, Dumper=_ComposeDumper, sort_keys=False, width=1 << 16, allow_unicode=True)


def wanted_ports(document: Mapping[str, Any]) -> list[Port]:
    """Return what *document* publishes under numbers, transformed or not: mode ingress is through mesh or proxy."""
    services = document["services"]
    own = [port for port in compose.published_ports(document) if PROXY_LABEL not in _labels_in(services[port.service])]
    return own + [port for name, service in services.items() for port in _parsed(name, _labels_in(service))]


def live_ports(name: str, service: Mapping[str, Any]) -> list[Port]:
    """Return what a live service publishes under numbers; that of a proxy belongs to the services behind it."""
    if is_proxy(service):
        return []
    published = [
        Port(
            name,
            port["PublishedPort"],
            port.get("TargetPort", 0),
            port.get("Protocol", "tcp"),
            port.get("PublishMode", "ingress"),
        )
        for port in (service.get("Endpoint") or {}).get("Ports") or []
        if port.get("PublishedPort")
    ]
    return published + _parsed(name, _labels_of(service))


def is_proxied(service: Mapping[str, Any]) -> bool:
    """Say whether a proxy publishes ports of the live *service*."""
    return PORTS_LABEL in _labels_of(service)


def is_proxy(service: Mapping[str, Any]) -> bool:
    """Say whether the live *service* is such a proxy."""
    return PROXY_LABEL in _labels_of(service)


def _split(name: str, entries: Iterable[Any]) -> tuple[list[Port], list[Any]]:
    """Return the ports that the mesh would publish, and the entries that stay as they are."""
    meshed: list[Port] = []
    kept = []
    for entry in entries:
        ports = compose.ports_of(name, entry)  # all of an entry have one mode
        if ports[0].mode == "ingress":
            meshed += ports
        else:
            kept.append(entry)
    return meshed, kept


def _problems(ports: Iterable[Port]) -> Iterable[str]:
    for port in ports:
        where = f"services.{port.service}.ports: {port.published or ''}:{port.target}/{port.protocol}"
        if port.protocol != "tcp":
            yield f"{where}: the proxy serves TCP only: publish this port with mode: host, where a task runs"
        elif port.published is None:
            yield f"{where}: a proxy cannot pick the number to publish at: write PUBLISHED:{port.target}"


def _proxy(document: Mapping[str, Any], stack: str, image: str, ports: Sequence[Port]) -> dict[str, Any]:
    numbered = list(enumerate(ports, _FIRST_LISTENER))
    configuration = _GLOBAL + "".join(
        _LISTENER.format(
            name=f"{port.service}-{port.published}",
            listener=listener,
            most_tasks=_MOST_TASKS,
            unchecked_tasks=_UNCHECKED_TASKS,
            stack=stack,
            service=port.service,
            target=port.target,
        )
        for listener, port in numbered
    )
    command = _COMMAND.format(
        ports=len(ports),
        descriptors=_DESCRIPTORS_OF_ITS_OWN + len(ports) * _DESCRIPTORS_OF_A_PORT,
        most=max(_CONNECTIONS // len(ports), _FEWEST_OF_A_PORT),
        fewest=_FEWEST_OF_A_PORT,
    )
    return {
        "image": image,
        "entrypoint": ["sh", "-c", _escaped(command)],
        "environment": {"HAPROXY_CFG": _escaped(configuration)},
        "read_only": True,
        "volumes": [{"type": "tmpfs", "target": "/tmp", "tmpfs": {"size": 1 << 20}}],  # noqa: S108 - in the container
        # HAProxy's signal for: take no new connection, end with the last one
        "stop_signal": "SIGUSR1",
        "stop_grace_period": f"{_STOP_SECONDS + 2}s",
        "ports": [
            {"target": listener, "published": port.published, "protocol": "tcp", "mode": "host"}
            for listener, port in numbered
        ],
        "networks": _networks(document, [document["services"][port.service] for port in ports]),
        "deploy": {
            "mode": "global",
            "endpoint_mode": "dnsrr",
            "labels": {PROXY_LABEL: "true"},
            "resources": {
                "limits": {"cpus": "0.5", "memory": _MEMORY},
                "reservations": {"memory": "16M"},
            },
            "restart_policy": {"condition": "any", "delay": "1s"},
            # A port of a node has one owner at a time.
            "update_config": {"order": "stop-first", "parallelism": 1, "failure_action": "rollback"},
        },
    }


def _networks(document: Mapping[str, Any], services: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the networks of *services*, and one that leads out of them, as a published port needs."""
    names = list(dict.fromkeys(name for service in services for name in service.get("networks") or ["default"]))
    declared = document.get("networks") or {}
    is_closed = all((declared.get(name) or {}).get("internal") for name in names)
    return [*names, "default"] if is_closed and "default" not in names else names


def _version(version: str) -> str:
    major, _, minor = version.partition(".")
    return version if (int(major), int(minor or 0)) >= _NEEDED_VERSION else ".".join(map(str, _NEEDED_VERSION))


def _mapping(labels: Any) -> dict[str, Any]:
    """Return labels in either notation, a mapping or a list of NAME=VALUE, as a mapping."""
    if isinstance(labels, Mapping):
        return dict(labels)
    return {name: value for name, _, value in (str(label).partition("=") for label in labels or [])}


def _labels_in(service: Mapping[str, Any]) -> dict[str, Any]:
    return _mapping((service.get("deploy") or {}).get("labels"))


def _labels_of(service: Mapping[str, Any]) -> Mapping[str, Any]:
    return service.get("Spec", {}).get("Labels") or {}


def _label(ports: Iterable[Port]) -> str:
    return ",".join(f"{port.published}:{port.target}" for port in ports)


def _parsed(name: str, labels: Mapping[str, Any]) -> list[Port]:
    return [
        Port(name, int(match[1]), int(match[2]))
        for match in re.finditer(r"(\d+):(\d+)", str(labels.get(PORTS_LABEL, "")))
    ]


def _escaped(text: str) -> str:
    """Return *text* as it must stand in a compose file, where a dollar sign begins a variable."""
    return text.replace("$", "$$")


class _ComposeDumper(yaml.SafeDumper):
    """Quotes every text that could be anything else, for readers that know other words for numbers and truth."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_PLAIN = re.compile(r"[A-Za-z_/][\w./-]*[\w./-]")


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None if _PLAIN.fullmatch(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_ComposeDumper.add_representer(str, _represent_text)
_ComposeDumper.add_multi_representer(str, _represent_text)  # Ansible marks texts by classes of its own

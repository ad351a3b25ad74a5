# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What becomes of a host's firewall: the nodes' ports open for nodes, and nothing else."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils import firewall

PEERS = ["192.0.2.2", "192.0.2.3"]
UFW = """\
Added user rules (see 'ufw status' for running firewall):
ufw allow 22/tcp
ufw allow from 192.0.2.2 to any port 2377,7946 proto tcp comment 'apiary-fleet'
ufw allow from 192.0.2.2 to any port 4789,7946 proto udp comment 'apiary-fleet'
ufw allow from 192.0.2.9 to any port 2377,7946 proto tcp comment 'apiary-fleet'
ufw allow from 192.0.2.8 to any port 2377,7946 proto tcp comment 'apiary-herd'
"""


def said(**parts: str) -> str:
    return "".join(f"--apiary-- {name}\n{text}\n" for name, text in parts.items())


def plan(text: str) -> tuple[list[str], str]:
    actions, script = firewall.plan(text, "fleet", PEERS)
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    return actions, script


def commands(script: str) -> list[str]:
    return script.splitlines()[2:]


def test_host_without_a_firewall_is_left_alone() -> None:
    assert plan("") == ([], "")


def test_ufw_gets_what_is_missing_and_loses_nodes_that_have_left() -> None:
    _actions, script = plan(said(ufw=UFW))
    assert commands(script) == [
        "ufw allow from 192.0.2.3 to any port 2377,7946 proto tcp comment apiary-fleet >/dev/null",
        "ufw allow from 192.0.2.3 to any port 4789,7946 proto udp comment apiary-fleet >/dev/null",
        "ufw delete allow from 192.0.2.9 to any port 2377,7946 proto tcp >/dev/null",
    ]


def test_ufw_that_is_open_is_left_alone() -> None:
    rules = "".join(
        f"ufw allow from {peer} to any port {ports} proto {protocol} comment 'apiary-fleet'\n"
        for peer in PEERS
        for protocol, ports in (("tcp", "2377,7946"), ("udp", "4789,7946"))
    )
    assert plan(said(ufw=rules)) == ([], "")


RULES = "\n".join(
    f'rule family="ipv4" source ipset="apiary-fleet" port port="{port}" protocol="{protocol}" accept'
    for port, protocol in (("2377", "tcp"), ("7946", "tcp"), ("7946", "udp"), ("4789", "udp"))
)


def test_firewalld_gets_a_set_of_nodes_and_rules_in_the_zone_of_the_address() -> None:
    actions, script = plan(said(firewalld="internal", entries="none", rules=""))
    lines = commands(script)
    assert lines[0] == "firewall-cmd --quiet --permanent --new-ipset=apiary-fleet --type=hash:net"
    assert "firewall-cmd --quiet --permanent --ipset=apiary-fleet --add-entry=192.0.2.3" in lines
    assert sum("--zone=internal --add-rich-rule=" in line for line in lines) == 4
    assert lines[-1] == "firewall-cmd --quiet --reload"
    assert "firewalld: open 7946/udp for nodes in the zone internal" in actions


def test_firewalld_follows_the_nodes() -> None:
    _actions, script = plan(said(firewalld="public", entries="192.0.2.2\n192.0.2.9", rules=RULES))
    assert commands(script) == [
        "firewall-cmd --quiet --permanent --ipset=apiary-fleet --add-entry=192.0.2.3",
        "firewall-cmd --quiet --permanent --ipset=apiary-fleet --remove-entry=192.0.2.9",
        "firewall-cmd --quiet --reload",
    ]


def test_firewalld_that_is_open_is_left_alone() -> None:
    assert plan(said(firewalld="public", entries="192.0.2.2\n192.0.2.3", rules=RULES)) == ([], "")


def chain(table: str = "filter", name: str = "input", family: str = "inet", **more: Any) -> dict[str, Any]:
    settings = {"hook": "input", "type": "filter", "policy": "accept", **more}
    return {"chain": {"family": family, "table": table, "name": name, **settings}}


def rule(table: str, name: str, handle: int, expr: list[Any], family: str = "inet", **more: Any) -> dict[str, Any]:
    return {"rule": {"family": family, "table": table, "chain": name, "handle": handle, "expr": expr, **more}}


def ruleset(*entries: dict[str, Any]) -> str:
    return json.dumps({"nftables": list(entries)})


CLOSED = {
    "a policy": [chain(policy="drop")],
    "a rule": [chain(), rule("filter", "input", 3, [{"match": {}}, {"drop": None}])],
    "a jump": [chain(), rule("filter", "input", 3, [{"jump": {"target": "closing"}}])],
}
OPEN = {
    "no rules": [],
    "a chain that lets all in": [chain(), rule("filter", "input", 3, [{"counter": {}}, {"accept": None}])],
    "a chain for what is forwarded": [chain(hook="forward", policy="drop")],
    "one that iptables keeps": [chain("filter", "INPUT", "ip", policy="drop")],
    "one for IPv6": [chain(family="ip6", policy="drop")],
}


@pytest.mark.parametrize("entries", CLOSED.values(), ids=CLOSED)
def test_nftables_is_opened_before_it_is_closed_by(entries: list[dict[str, Any]]) -> None:
    actions, script = plan(said(nftables=ruleset(*entries), file="/etc/nftables.conf", ours=""))
    accept = "insert rule inet filter input ip saddr { 192.0.2.2, 192.0.2.3 } udp dport { 4789, 7946 } accept comment"
    assert accept in script
    assert 'include "/etc/nftables-apiary-fleet.nft"' in script
    assert actions == [
        "nftables: open 2377/tcp, 7946/tcp, 7946/udp, 4789/udp for 192.0.2.2, 192.0.2.3 in inet filter input"
    ]


@pytest.mark.parametrize("entries", OPEN.values(), ids=OPEN)
def test_nftables_is_left_alone_with(entries: list[dict[str, Any]]) -> None:
    assert plan(said(nftables=ruleset(*entries), file="/etc/nftables.conf", ours="")) == ([], "")


def test_nftables_replaces_what_was_ours_in_one_step() -> None:
    ours = [rule("filter", "input", handle, [{"accept": None}], comment="apiary-fleet") for handle in (7, 8)]
    stale = (
        'insert rule inet filter input ip saddr { 192.0.2.9 } tcp dport { 2377, 7946 } accept comment "apiary-fleet"'
    )
    _actions, script = plan(said(nftables=ruleset(chain(policy="drop"), *ours), file="/etc/nftables.conf", ours=stale))
    step = script.partition("nft -f - <<'END'\n")[2].partition("END")[0].splitlines()
    assert [line.split()[0] for line in step] == ["delete", "delete", "insert", "insert"]


def test_nftables_that_is_open_is_left_alone() -> None:
    _actions, script = plan(said(nftables=ruleset(chain(policy="drop")), file="/etc/nftables.conf", ours=""))
    written = "\n".join(line for line in script.partition("cat >")[2].splitlines() if line.startswith("insert"))
    ours = [rule("filter", "input", handle, [{"accept": None}], comment="apiary-fleet") for handle in (7, 8)]
    again = said(nftables=ruleset(chain(policy="drop"), *ours), file="/etc/nftables.conf", ours=written)
    assert plan(again) == ([], "")


def test_name_of_a_set_is_one_that_the_kernel_takes() -> None:
    assert len(firewall.mark("a-cluster-with-quite-a-long-name-indeed")) == 31

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host's own firewall - ufw, firewalld or nftables - opened for the nodes of a swarm, and for nobody else.

What is ours in it carries the cluster's name, so that the rules of nodes that have left go with the next run.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from ansible_collections.apiary.swarm.plugins.module_utils.existing import sections
from ansible_collections.apiary.swarm.plugins.module_utils.port_test import PORTS

#: of a set of addresses in the kernel
_LONGEST_SET_NAME = 31
_HEAD = 'set -eu\nexport LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"\n'
#: where the rules are that come back after a restart of the host
_NFTABLES_FILES = ("/etc/nftables.conf", "/etc/sysconfig/nftables.conf")


def _ports(protocol: str) -> list[str]:
    return sorted({port.partition("/")[0] for port in PORTS if port.endswith(f"/{protocol}")}, key=int)


def mark(cluster: str) -> str:
    """Return the name that what is ours carries."""
    return f"apiary-{cluster}"[:_LONGEST_SET_NAME]


def look_script(cluster: str, address: str) -> str:
    """Return the script that has a host tell, as root, what its firewall is and what is in it."""
    name = shlex.quote(mark(cluster))
    return f"""\
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
say() {{ echo "--apiary-- $1"; }}
if command -v ufw >/dev/null && ufw status | grep -q '^Status: active'; then
  say ufw; ufw show added
elif command -v firewall-cmd >/dev/null && firewall-cmd --quiet --state; then
  interface=$(ip -o -4 address show to {shlex.quote(address)} | awk '{{ print $2 }}')
  zone=$(firewall-cmd --get-zone-of-interface="$interface" 2>/dev/null) || zone=$(firewall-cmd --get-default-zone)
  say firewalld; echo "$zone"
  say entries; firewall-cmd --permanent --ipset={name} --get-entries 2>/dev/null || echo none
  say rules; firewall-cmd --permanent --zone="$zone" --list-rich-rules
elif command -v nft >/dev/null; then
  say nftables; nft --json list ruleset
  say file; for file in {" ".join(_NFTABLES_FILES)}; do [ ! -e $file ] || {{ echo $file; break; }}; done
  say ours; cat /etc/nftables-{name}.nft 2>/dev/null
fi
true
"""


def plan(said: str, cluster: str, peers: Sequence[str]) -> tuple[list[str], str]:
    """Return what is to be done so that *peers* come in, in words, and the script that does it; nothing if they do."""
    parts = sections(said)
    name = mark(cluster)
    if "ufw" in parts:
        return _ufw(parts["ufw"], name, peers)
    if "firewalld" in parts:
        return _firewalld(parts, name, peers)
    if "nftables" in parts:
        return _nftables(parts, name, peers)
    return [], ""


def _script(actions: Sequence[str], commands: Sequence[str]) -> tuple[list[str], str]:
    return list(actions), _HEAD + "".join(f"{command}\n" for command in commands) if commands else ""


# ufw


def _ufw(added: str, name: str, peers: Sequence[str]) -> tuple[list[str], str]:
    wanted = [
        f"allow from {peer} to any port {','.join(_ports(protocol))} proto {protocol}"
        for peer in peers
        for protocol in ("tcp", "udp")
    ]
    rules = re.findall(rf"^ufw (allow .*) comment '{re.escape(name)}'$", added, re.MULTILINE)
    stale, missing = [rule for rule in rules if rule not in wanted], [rule for rule in wanted if rule not in rules]
    return _script(
        [*(f"ufw: {rule}" for rule in missing), *(f"ufw: no longer {rule}" for rule in stale)],
        [
            *(f"ufw {rule} comment {shlex.quote(name)} >/dev/null" for rule in missing),
            *(f"ufw delete {rule} >/dev/null" for rule in stale),
        ],
    )


# firewalld


def _firewalld(parts: Mapping[str, str], name: str, peers: Sequence[str]) -> tuple[list[str], str]:
    zone, entries = parts["firewalld"].strip(), parts["entries"].split()
    has_set = entries != ["none"]
    have = set(entries) if has_set else set()
    change = f"firewall-cmd --quiet --permanent --ipset={name}"
    commands = [] if has_set else [f"firewall-cmd --quiet --permanent --new-ipset={name} --type=hash:net"]
    commands += [f"{change} --add-entry={peer}" for peer in peers if peer not in have]
    commands += [f"{change} --remove-entry={entry}" for entry in sorted(have - set(peers))]
    actions = [f"firewalld: nodes are {', '.join(peers)}"] if commands else []
    for port in PORTS:
        number, _, protocol = port.partition("/")
        rule = f'rule family="ipv4" source ipset="{name}" port port="{number}" protocol="{protocol}" accept'
        if rule not in parts["rules"].splitlines():
            actions.append(f"firewalld: open {port} for nodes in the zone {zone}")
            commands.append(f"firewall-cmd --quiet --permanent --zone={zone} --add-rich-rule={shlex.quote(rule)}")
    return _script(actions, [*commands, "firewall-cmd --quiet --reload"] if commands else [])


# nftables


def _closed_chains(ruleset: str) -> Iterator[tuple[str, str, str]]:
    """Yield the chains (family, table, name) through which packets for the host itself go, and in which they may end.

    A packet has to be let through by every such chain. Those of the tables that iptables keeps are its own.
    """
    entries = json.loads(ruleset or "{}").get("nftables", [])
    rules = [entry["rule"] for entry in entries if "rule" in entry]
    for chain in (entry["chain"] for entry in entries if "chain" in entry):
        place = chain["family"], chain["table"], chain["name"]
        if chain.get("hook") != "input" or chain.get("type") != "filter" or place[0] not in ("inet", "ip"):
            continue
        if place[1:] == ("filter", "INPUT"):
            continue
        ends = any(
            {"drop", "reject", "jump", "goto"} & {key for step in rule["expr"] for key in step}
            for rule in rules
            if (rule["family"], rule["table"], rule["chain"]) == place
        )
        if chain.get("policy") == "drop" or ends:
            yield place


def _nftables(parts: Mapping[str, str], name: str, peers: Sequence[str]) -> tuple[list[str], str]:
    chains = list(_closed_chains(parts["nftables"]))
    if not chains:
        return [], ""
    sources = f"ip saddr {{ {', '.join(peers)} }}"
    rules = [
        f'{sources} {protocol} dport {{ {", ".join(_ports(protocol))} }} accept comment "{name}"'
        for protocol in ("tcp", "udp")
    ]
    text = "".join(f"insert rule {' '.join(chain)} {rule}\n" for chain in chains for rule in rules)
    ours = [
        (rule["family"], rule["table"], rule["chain"], rule["handle"])
        for rule in (entry["rule"] for entry in json.loads(parts["nftables"])["nftables"] if "rule" in entry)
        if rule.get("comment") == name
    ]
    in_place = [len([rule for rule in ours if rule[:3] == chain]) for chain in chains] == [len(rules)] * len(chains)
    if in_place and parts["ours"].strip() == text.strip():
        return [], ""
    file, own = parts["file"].strip(), f"/etc/nftables-{name}.nft"
    deletions = "".join(
        f"delete rule {family} {table} {chain} handle {handle}\n" for family, table, chain, handle in ours
    )
    # One transaction: at no moment are the nodes shut out.
    commands = [f"nft -f - <<'END'\n{deletions}{text}END"]
    if file:
        include = f'include "{own}"'
        commands += [
            f"cat >{own} <<'END'\n{text}END",
            f"grep -qxF {shlex.quote(include)} {file} || printf '%s\\n' {shlex.quote(include)} >>{file}",
        ]
    actions = [f"nftables: open {', '.join(PORTS)} for {', '.join(peers)} in {' '.join(chain)}" for chain in chains]
    if not file:
        actions.append(f"nftables: until the host restarts, as it has none of {', '.join(_NFTABLES_FILES)}")
    return _script(actions, commands)

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether the nodes' ports are open between hosts: a host listens and answers, the others ask it, with real packets.

What listens is perl, which every Debian has, or Python, which every system of the RHEL family has; what asks is bash.
"""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: what nodes use among themselves
PORTS = ("2377/tcp", "7946/tcp", "7946/udp", "4789/udp")
_LISTEN_SECONDS = 120
_TRIES = 6

_PERL = r"""
use strict; use IO::Socket::INET; use IO::Select; use POSIX ();
my ($address, $seconds, @ports) = @ARGV;
my ($select, %udp) = (IO::Select->new);
for my $port (@ports) {
  my ($number, $protocol) = split m{/}, $port;
  my @more = $protocol eq 'tcp' ? (Listen => 128, ReuseAddr => 1) : ();
  my $socket = IO::Socket::INET->new(LocalAddr => $address, LocalPort => $number, Proto => $protocol, @more);
  if (!$socket) { print "taken $port $!\n"; next }
  print "listens $port\n"; $select->add($socket); $udp{$socket} = $protocol eq 'udp';
}
$| = 1;
if (my $pid = fork) { print "process $pid\n"; exit }
POSIX::setsid(); open STDIN, '</dev/null'; open STDOUT, '>/dev/null'; open STDERR, '>/dev/null';
$SIG{ALRM} = sub { exit }; alarm $seconds;
while (1) {
  for my $socket ($select->can_read) {
    if ($udp{$socket}) { $socket->recv(my $asked, 64); $socket->send("apiary\n") }
    elsif (my $client = $socket->accept) { print $client "apiary\n"; close $client }
  }
}
"""

_PYTHON = r"""
import os, select, signal, socket, sys
address, seconds, ports = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
sockets = {}
for port in ports:
    number, protocol = port.split("/")
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    try:
        if protocol == "tcp":
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((address, int(number)))
        if protocol == "tcp":
            one.listen(128)
    except OSError as error:
        print("taken", port, error.strerror)
        continue
    print("listens", port)
    sockets[one] = protocol
sys.stdout.flush()
process = os.fork()
if process:
    print("process", process)
    sys.exit()
os.setsid()
nothing = os.open(os.devnull, os.O_RDWR)
for stream in range(3):
    os.dup2(nothing, stream)
signal.alarm(seconds)
while True:
    for one in select.select(list(sockets), [], [])[0]:
        if sockets[one] == "udp":
            one.sendto(b"apiary\n", one.recvfrom(64)[1])
        else:
            client = one.accept()[0]
            client.sendall(b"apiary\n")
            client.close()
"""

# All at once, in the background; a line for each that got no answer. A UDP packet may get lost, so it is sent again;
# and bash reads byte by byte, of which a packet gives the first alone.
_ASK = rf"""
ask() {{
  case $4 in
    udp) timeout {_TRIES + 4} bash -c '
      exec 3<>"/dev/udp/$0/$1"
      for try in {" ".join(map(str, range(_TRIES)))}; do
        echo apiary >&3
        if read -r -n 1 -t 1 answer <&3; then exit 0; fi
      done
      exit 1' "$2" "$3" ;;
    tcp) timeout {_TRIES + 4} bash -c '
      exec 3<>"/dev/tcp/$0/$1" || exit 1
      [ "$2" != answers ] || read -r answer <&3' "$2" "$3" "$5" ;;
  esac 2>/dev/null || echo "silent $1 $3/$4"
}}
"""


def helper(seen: Mapping[str, Any]) -> str:
    """Return the program that can listen on a host; empty if there is none."""
    known = ("perl", "python3", "/usr/libexec/platform-python")
    return next((tool for tool in known if tool in seen["tools"]), "")


def listen_script(tool: str, address: str, ports: Sequence[str] = PORTS) -> str:
    """Return the script that has a host listen at *address*, until it is ended or some time has passed."""
    text = _PERL if tool == "perl" else _PYTHON
    flag = "-e" if tool == "perl" else "-c"
    return f"export LC_ALL=C\n{shlex.join([tool, flag, text, address, str(_LISTEN_SECONDS), *ports])}\n"


def listening(said: str) -> dict[str, Any]:
    """Return what a host has said that was to listen."""
    process = re.search(r"^process (\d+)$", said, re.MULTILINE)
    return {
        "process": int(process[1]) if process else None,
        "ports": re.findall(r"^listens (\S+)$", said, re.MULTILINE),
        "taken": re.findall(r"^taken (\S+)", said, re.MULTILINE),
    }


def ask_script(targets: Iterable[Mapping[str, Any]]) -> str:
    """Return the script that has a host ask others; ``answers`` where what listens is ours."""
    asks = [
        shlex.join(["ask", target["name"], target["address"], *port.split("/"), "answers" if target["answers"] else ""])
        for target in targets
        for port in target["ports"]
    ]
    return _ASK + "".join(f"{ask} &\n" for ask in asks) + "wait\n"


def silent(said: str) -> dict[str, list[str]]:
    """Return the hosts that did not answer, with the ports."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, port in re.findall(r"^silent (\S+) (\S+)$", said, re.MULTILINE):
        found[name].append(port)
    return dict(found)


def findings(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong; *results* has for each host ``name``, ``firewall``, ``taken`` and ``silent``."""
    firewalls = {result["name"]: result["firewall"] for result in results}
    blocked: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        for name, ports in result["silent"].items():
            for port in ports:
                blocked[name][port].append(result["name"])
    found = [
        f"{result['name']}: {port} is taken there by another program, and a node needs it: end that "
        f"(ss -lnp 'sport = :{port.partition('/')[0]}' shows which it is)"
        for result in results
        for port in result["taken"]
        if port != "4789/udp"  # of the kernel, which shares it among its VXLANs
    ]
    for name, ports in blocked.items():
        askers: dict[str, list[str]] = defaultdict(list)
        for port in (port for port in PORTS if port in ports):
            askers[", ".join(sorted(ports[port]))].append(port)
        ways = " and ".join(f"at {', '.join(closed)} from {others}" for others, closed in askers.items())
        active = f", which has the firewall {' and '.join(firewalls[name])}," if firewalls.get(name) else ""
        found.append(f"{name}{active} cannot be reached {ways}")
    if blocked:
        found.append(
            f"nodes need {', '.join(PORTS)} among themselves: open them on the hosts that are named, and on the way; "
            "or have the hosts' own firewalls opened, with existing_machine_firewall: true"
        )
    return found

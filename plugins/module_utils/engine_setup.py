# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How an engine comes onto a host, and what its daemon.json becomes: scripts for sh, which root runs there."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.existing import family

DAEMON_JSON = "/etc/docker/daemon.json"
#: of each earlier daemon.json, in which nothing is overwritten: .~1~ and so on are older
BACKUP = f"{DAEMON_JSON}.before-apiary"
_LOG_LINES = 20

Seen = Mapping[str, Any]

# Its output is of use only where it fails.
_QUIETLY = f"""\
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() {{ "$@" >"$log" 2>&1 || {{ echo "$* failed:" >&2; tail -n {_LOG_LINES} "$log" >&2; exit 1; }}; }}
"""

# What an interrupted run has left must be finished first; and that one may still be at work, as a new host's first
# updates may. What is wrong then, the installation says.
_FINISH = """\
finish_installation() {
  for _ in $(seq 60); do
    if dpkg --configure -a >"$log" 2>&1 || ! grep -q lock "$log"; then break; fi
    sleep 5
  done
}
"""

# A package's configuration file that is there already stays.
_APT = f"""{_QUIETLY}{_FINISH}\
install_packages() {{
  quietly apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef \\
    -o Dpkg::Options::=--force-confold --yes --no-install-recommends install "$@"
}}
update() {{ apt-get -qq -o DPkg::Lock::Timeout=300 update >"$log" 2>&1 || cat "$log" >&2; }}
finish_installation
update
# Where the kernel has AppArmor, containers need its parser.
[ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" != Y ] || more=apparmor
"""

# Newer releases have the client in a package of its own.
_DEBIAN = f"""{_APT}\
if apt-cache show docker-cli >/dev/null 2>&1; then more="${{more:-}} docker-cli"; fi
install_packages docker.io ca-certificates ${{more:-}}
"""

_DEBIAN_DOCKER = f"""{_APT}\
install_packages ca-certificates curl
mkdir -p /etc/apt/keyrings
if [ ! -e "$key" ]; then
  quietly curl -fsSL "$url/$distribution/gpg" -o "$key.new"
  chmod 644 "$key.new"
  mv "$key.new" "$key"
fi
grep -qs docker /etc/apt/sources.list.d/docker.* ||
  echo "deb [arch=$(dpkg --print-architecture) signed-by=$key] $url/$distribution $codename stable" \\
    >/etc/apt/sources.list.d/docker.list
update
install_packages docker-ce docker-ce-cli containerd.io ${{more:-}}
"""

_RHEL_DOCKER = f"""{_QUIETLY}\
repository=/etc/yum.repos.d/docker-ce.repo
[ -e $repository ] || cat >$repository <<'END'
[docker-ce-stable]
name=Docker CE Stable
baseurl={{url}}/{{distribution}}/$releasever/$basearch/stable
enabled=1
gpgcheck=1
gpgkey={{url}}/{{distribution}}/gpg
END
if command -v dnf >/dev/null; then dnf='dnf --setopt=install_weak_deps=False'; else dnf=yum; fi
quietly $dnf -q -y install docker-ce docker-ce-cli containerd.io
"""


def installation(seen: Seen, source: str, url: str) -> tuple[str, str]:
    """Return what is done to install an engine, in words, and the script that does it."""
    release = seen["release"]
    if family(seen) == "rhel":  # whose distributions have none
        distribution = release["ID"] if release["ID"] in ("fedora", "rhel") else "centos"
        script = _RHEL_DOCKER.replace("{url}", url).replace("{distribution}", distribution)
        return "install the engine (docker-ce, from Docker's repository)", script
    if source == "distribution":
        return "install the engine (docker.io, from the distribution)", _DEBIAN
    ubuntu = release["ID"] == "ubuntu" or release["UBUNTU_CODENAME"]
    settings = {
        "url": url,
        "distribution": "ubuntu" if ubuntu else "debian",
        "codename": release["UBUNTU_CODENAME"] or release["VERSION_CODENAME"],
        "key": "/etc/apt/keyrings/docker.asc",
    }
    head = "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
    return "install the engine (docker-ce, from Docker's repository)", head + _DEBIAN_DOCKER


# The service

# After some failures in a row, systemd would refuse to try again.
_AFRESH = "{ systemctl reset-failed docker.service docker.socket 2>/dev/null || true; }"
# Its script gives up on an engine that takes longer than ten seconds, which then goes on answering.
_SYSV_STOP = """\
process=$(cat /var/run/docker.pid 2>/dev/null || true)
service docker stop >/dev/null || true
seconds=0
while [ -n "$process" ] && kill -0 "$process" 2>/dev/null; do
  seconds=$((seconds + 1))
  if [ "$seconds" -gt 100 ]; then
    echo "the engine, process $process, does not stop" >&2
    exit 1
  fi
  sleep 1
done
"""
_SERVICE = {
    "systemd": {
        # enabled too: a node is one again after a restart of its host
        "start": f"systemctl --quiet enable docker.service && {_AFRESH} && systemctl start docker.service",
        "restart": f"{_AFRESH} && systemctl restart docker.service",
        # the socket would start it again with the next client
        "stop": "systemctl stop docker.socket docker.service 2>/dev/null || systemctl stop docker.service",
    },
    "sysv": {
        "start": "service docker start >/dev/null",
        "restart": f"{_SYSV_STOP}service docker start >/dev/null",
        "stop": _SYSV_STOP,
    },
}


# An engine whose installation was interrupted looks like one that does not run.
_FINISHED = f"""{_QUIETLY}{_FINISH}\
if command -v dpkg >/dev/null && [ -n "$(dpkg --audit 2>/dev/null)" ]; then
  finish_installation
  quietly apt-get -qq -o DPkg::Lock::Timeout=300 --yes --no-install-recommends --fix-broken install
fi
"""


def service(init: str, verb: str) -> str:
    """Return the script that has the engine's service start, restart or stop."""
    before = _FINISHED if verb == "start" else 'export PATH="$PATH:/usr/sbin:/sbin"\n'
    return f"{before}{_SERVICE[init][verb]}\n"


def log_script(init: str) -> str:
    """Return the script that shows the end of the engine's log."""
    if init == "systemd":
        return f"journalctl --no-pager --unit docker.service --lines {_LOG_LINES} 2>/dev/null || true\n"
    return f"tail -n {_LOG_LINES} /var/log/docker.log 2>/dev/null || true\n"


def membership(user: str, group: int) -> str:
    """Return the script that lets a user use the engine's socket, by the group that may."""
    return (
        'export PATH="$PATH:/usr/sbin:/sbin"\n'
        f'usermod --append --groups "$(getent group {group} | cut -d : -f 1)" {shlex.quote(user)}\n'
    )


# daemon.json


def merged_daemon_json(text: str, wanted: Mapping[str, Any], *, overrides: bool) -> tuple[str, list[str]]:
    """Return daemon.json with what is wanted in it, and the names of what it has otherwise and keeps.

    What is there wins, unless *overrides*. A text that needs no change is returned as it is, byte for byte.
    """
    if not wanted:
        return text, []
    try:
        current = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise ApiaryError(
            f"{DAEMON_JSON} is no JSON ({error}), so existing_machine_daemon_json cannot be merged with it: correct it"
        ) from None
    if not isinstance(current, dict):
        raise ApiaryError(f"{DAEMON_JSON} holds no object, so existing_machine_daemon_json cannot be merged with it")
    merged, kept = _merged(current, wanted, "", overrides=overrides)
    return (text if merged == current and text.strip() else json.dumps(merged, indent=2) + "\n"), kept


def _merged(
    current: Mapping[str, Any], wanted: Mapping[str, Any], place: str, *, overrides: bool
) -> tuple[dict[str, Any], list[str]]:
    merged, kept = dict(current), []
    for key, value in wanted.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key], inner = _merged(merged[key], value, f"{place}{key}.", overrides=overrides)
            kept += inner
        elif key not in merged or overrides:
            merged[key] = value
        elif merged[key] != value:
            kept.append(f"{place}{key}")
    return merged, kept


# 23.0 and newer can check a file; an older engine's refusal to do so says nothing.
_VALIDATE = """\
if command -v dockerd >/dev/null; then
  said=$(dockerd --validate --config-file "$file.new" 2>&1) || case $said in
    *"unknown flag"*) ;;
    *) rm -f "$file.new"; echo "the engine refuses it: $said" >&2; exit 1 ;;
  esac
fi
"""


def writing_daemon_json(text: str) -> str:
    """Return the script that puts a new daemon.json in place of the old one, which is kept."""
    encoded = base64.b64encode(text.encode()).decode()
    return (
        'set -eu\nexport PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"\n'
        f"file={DAEMON_JSON}\nmkdir -p /etc/docker\n"
        f'echo {encoded} | base64 -d >"$file.new"\n{_VALIDATE}'
        f'[ ! -e "$file" ] || cp --backup=numbered --preserve "$file" {BACKUP}\n'
        'chmod 0644 "$file.new"\nmv "$file.new" "$file"\n'
    )


def without_passwords(text: str) -> str:
    """Return *text* as it may be shown: a proxy's URL may have a password in it."""
    return re.sub(r"://[^/@\s\"]+@", "://(hidden)@", text)


def restoring_daemon_json(had: bool) -> str:
    """Return the script that takes the change of daemon.json back."""
    return f"cp --preserve {BACKUP} {DAEMON_JSON}\n" if had else f"rm -f {DAEMON_JSON}\n"

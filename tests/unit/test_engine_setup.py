# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How an engine comes onto a host, and what its daemon.json becomes."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils import engine_setup
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError

URL = "https://download.docker.com/linux"


def system(name: str, like: str = "", codename: str = "", ubuntu: str = "", tool: str = "apt-get") -> dict[str, Any]:
    release = {"ID": name, "ID_LIKE": like, "VERSION_CODENAME": codename, "UBUNTU_CODENAME": ubuntu}
    return {"release": release, "tools": [tool]}


DEBIAN = system("debian", codename="bookworm")
ROCKY = system("rocky", "rhel centos fedora", tool="dnf")

#: system, source → what the script has in it
INSTALLED: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "debian": (DEBIAN, "distribution", ["install_packages docker.io"]),
    "ubuntu": (system("ubuntu", "debian", "noble", "noble"), "distribution", ["install_packages docker.io"]),
    "debian, from Docker": (
        DEBIAN,
        "docker",
        ["distribution=debian\n", "codename=bookworm\n", f"url={URL}\n", "install_packages docker-ce docker-ce-cli"],
    ),
    "mint, from Docker": (
        system("linuxmint", "ubuntu debian", "wilma", "noble"),
        "docker",
        ["distribution=ubuntu\n", "codename=noble\n"],
    ),
    "rocky": (ROCKY, "distribution", [f"baseurl={URL}/centos/$releasever", f"gpgkey={URL}/centos/gpg", "gpgcheck=1"]),
    "rhel": (system("rhel", "fedora", tool="dnf"), "docker", [f"baseurl={URL}/rhel/$releasever"]),
    "fedora": (system("fedora", tool="dnf"), "docker", [f"baseurl={URL}/fedora/$releasever"]),
}


@pytest.mark.parametrize(("seen", "source", "parts"), INSTALLED.values(), ids=INSTALLED)
def test_engine_is_installed_from(seen: dict[str, Any], source: str, parts: list[str]) -> None:
    words, script = engine_setup.installation(seen, source, URL)
    assert words.startswith("install the engine (docker")
    assert [part for part in parts if part not in script] == []


SCRIPTS = {
    **{name: engine_setup.installation(seen, source, URL)[1] for name, (seen, source, _) in INSTALLED.items()},
    **{f"{verb}, {init}": engine_setup.service(init, verb)
       for init in ("systemd", "sysv") for verb in ("start", "restart", "stop")},
    "log": engine_setup.log_script("systemd"),
    "group": engine_setup.membership("ann", 998),
    "daemon.json": engine_setup.writing_daemon_json("{}\n"),
    "old daemon.json": engine_setup.restoring_daemon_json(had=True),
}  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_script_is_one_that_every_sh_understands(script: str) -> None:
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    if shutil.which("shellcheck"):
        check = ["shellcheck", "--shell=dash", "--exclude=SC2086", "-"]  # a list of packages is to be split
        done = subprocess.run(check, input=script, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout


# daemon.json: there, wanted, overrides → becomes, kept
MERGED: dict[str, tuple[str, dict[str, Any], bool, Any, list[str]]] = {
    "nothing there": ("", {"log-driver": "local"}, False, {"log-driver": "local"}, []),
    "nothing wanted": ('{"a": 1}', {}, False, {"a": 1}, []),
    "added": ('{"a": 1}', {"b": 2}, False, {"a": 1, "b": 2}, []),
    "there already": ('{"a": 1}', {"a": 1}, False, {"a": 1}, []),
    "there otherwise": ('{"a": 1}', {"a": 2}, False, {"a": 1}, ["a"]),
    "overridden": ('{"a": 1}', {"a": 2}, True, {"a": 2}, []),
    "within": (
        '{"log-opts": {"max-size": "1m"}}',
        {"log-opts": {"max-size": "9m", "max-file": "3"}},
        False,
        {"log-opts": {"max-size": "1m", "max-file": "3"}},
        ["log-opts.max-size"],
    ),
    "a list is one value": ('{"dns": ["192.0.2.1"]}', {"dns": ["192.0.2.2"]}, False, {"dns": ["192.0.2.1"]}, ["dns"]),
}


@pytest.mark.parametrize(("text", "wanted", "overrides", "expected", "kept"), MERGED.values(), ids=MERGED)
def test_daemon_json_is_merged(text: str, wanted: Any, overrides: bool, expected: Any, kept: list[str]) -> None:
    merged, left = engine_setup.merged_daemon_json(text, wanted, overrides=overrides)
    assert (json.loads(merged), left) == (expected, kept)
    assert engine_setup.merged_daemon_json(merged, wanted, overrides=overrides)[0] == merged  # the second time


def test_daemon_json_that_needs_no_change_keeps_its_form() -> None:
    text = '{\n\t"a":1}'
    assert engine_setup.merged_daemon_json(text, {"a": 1}, overrides=False)[0] is text


@pytest.mark.parametrize("text", ["{", "[]", '"text"'])
def test_daemon_json_that_is_none_is_told(text: str) -> None:
    with pytest.raises(ApiaryError, match=r"/etc/docker/daemon.json (is no JSON|holds no object)"):
        engine_setup.merged_daemon_json(text, {"a": 1}, overrides=True)


def test_daemon_json_is_shown_without_the_passwords_of_proxies() -> None:
    shown = engine_setup.without_passwords('{"proxies": {"http-proxy": "http://ann:secret@proxy:3128"}}')
    assert "secret" not in shown
    assert "proxy:3128" in shown

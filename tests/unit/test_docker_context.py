# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Contexts of the Docker client, and lines for shells: written, left alone, taken back."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from ansible_collections.apiary.swarm.plugins.action import docker_context as action
from ansible_collections.apiary.swarm.plugins.module_utils import docker_context
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError


@pytest.fixture
def docker(tmp_path: Path) -> dict[str, Any]:
    client = tmp_path / "cluster" / "client"
    client.mkdir(parents=True)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (client / name).write_text(f"content of {name}")
    return {
        "docker_host": "tcp://127.0.99.101:2376",
        "tls": True,
        "validate_certs": True,
        "ca_path": str(client / "ca.pem"),
        "client_cert": str(client / "cert.pem"),
        "client_key": str(client / "key.pem"),
    }


PLAIN = {"docker_host": "tcp://192.168.59.31:4040"}


class Home:
    """A user's directory of the Docker client, and of a cluster."""

    def __init__(self, path: Path) -> None:
        self.config = path / "docker"
        self.access = path / "state" / "shop" / "access"

    def run(self, state: str = "present", *, check: bool = False, **given: Any) -> dict[str, Any]:
        made = action.ActionModule.__new__(action.ActionModule)
        made._task = MagicMock(check_mode=check, diff=False)
        params = {
            "name": "shop",
            "state": state,
            "cluster": "shop",
            "docker": {},
            "config_directory": str(self.config),
            "directory": str(self.access),
        }
        result: dict[str, Any] = made.outcome(params | given, {})
        return result

    def files(self) -> list[Path]:
        return sorted(path for path in self.config.parent.rglob("*") if path.is_file())


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_context_is_written_once_as_the_client_would(home: Home, docker: dict[str, Any]) -> None:
    result = home.run(docker=docker)
    assert result["actions"][0] == "write the context shop"
    (meta,) = home.config.glob("contexts/meta/*/meta.json")
    assert meta.parent.name == docker_context.identity("shop")
    assert json.loads(meta.read_text())["Endpoints"] == {
        "docker": {"Host": "tcp://127.0.99.101:2376", "SkipTLSVerify": False}
    }
    keys = home.config / "contexts" / "tls" / docker_context.identity("shop") / "docker"
    assert {path.name: path.read_text() for path in keys.iterdir()} == {
        name: f"content of {name}" for name in ("ca.pem", "cert.pem", "key.pem")
    }
    assert stat.S_IMODE((keys / "key.pem").stat().st_mode) == 0o600
    assert not home.run(docker=docker)["changed"]


def test_check_writes_nothing(home: Home, docker: dict[str, Any]) -> None:
    assert home.run(docker=docker, check=True)["changed"]
    assert home.files() == []


def test_renewed_certificate_is_taken_over(home: Home, docker: dict[str, Any]) -> None:
    home.run(docker=docker)
    Path(docker["client_cert"]).write_text("renewed")
    assert home.run(docker=docker)["actions"] == ["write the context shop"]
    (copy,) = home.config.glob("contexts/tls/*/docker/cert.pem")
    assert copy.read_text() == "renewed"


def test_endpoint_without_tls_has_no_keys(home: Home, docker: dict[str, Any]) -> None:
    home.run(docker=docker)
    home.run(docker=PLAIN)
    assert list(home.config.glob("contexts/tls/*/docker/*")) == []


@pytest.mark.skipif(not shutil.which("docker"), reason="no Docker client here")
def test_client_understands_the_context(home: Home, docker: dict[str, Any]) -> None:
    home.run(docker=docker)
    environment = {**os.environ, "DOCKER_CONFIG": str(home.config)}
    listed = subprocess.run(
        ["docker", "context", "inspect", "shop"], env=environment, capture_output=True, text=True, check=True
    )
    (found,) = json.loads(listed.stdout)
    assert found["Endpoints"]["docker"]["Host"] == "tcp://127.0.99.101:2376"
    assert sorted(found["TLSMaterial"]["docker"]) == ["ca.pem", "cert.pem", "key.pem"]


@pytest.mark.parametrize(
    ("metadata", "whose"), [({}, "that Apiary has not made"), ({"apiary.cluster": "other"}, "of the cluster other")]
)
def test_context_of_somebody_else_is_left_alone(
    home: Home, docker: dict[str, Any], metadata: dict[str, str], whose: str
) -> None:
    store = docker_context.Store(home.config)
    store.meta_path("shop").parent.mkdir(parents=True)
    store.meta_path("shop").write_text(json.dumps({"Name": "shop", "Metadata": metadata}))
    before = home.files()
    with pytest.raises(ApiaryError, match=f"there is a context {whose} of that name"):
        home.run(docker=docker)
    assert not home.run("absent")["changed"]
    assert home.files() == before


@pytest.mark.parametrize("name", ["default", "a", "my cluster", "../x"])
def test_name_that_the_client_does_not_take_is_refused(home: Home, docker: dict[str, Any], name: str) -> None:
    with pytest.raises(ApiaryError, match="access_context is"):
        home.run(docker=docker, name=name)


def test_context_is_taken_back_with_all_of_its_files(home: Home, docker: dict[str, Any]) -> None:
    home.run(docker=docker)
    assert home.run("absent", check=True)["changed"]
    assert home.files()
    result = home.run("absent")
    assert "unset DOCKER_HOST" in result["cluster_report"]
    assert home.files() == []
    assert not home.run("absent")["changed"]
    assert not home.access.parent.exists()


def test_context_that_was_alone_leaves_no_directories(home: Home, docker: dict[str, Any]) -> None:
    home.config.mkdir(parents=True)
    home.run(docker=docker)
    home.run("absent", docker=docker)
    assert list(home.config.iterdir()) == []


def test_directory_that_holds_something_stays(home: Home, docker: dict[str, Any]) -> None:
    home.run(docker=docker)
    other = home.config / "contexts" / "tls" / "another" / "docker" / "ca.pem"
    other.parent.mkdir(parents=True)
    other.write_text("theirs")
    home.run("absent", docker=docker)
    assert other.read_text() == "theirs"
    assert not (home.config / "contexts" / "meta").exists()


def test_endpoint_that_has_no_tls_any_more_leaves_no_directory_of_keys(home: Home, docker: dict[str, Any]) -> None:
    home.run(docker=docker)
    home.run(docker=PLAIN)
    assert [path.name for path in (home.config / "contexts").iterdir()] == ["meta"]


def test_cluster_directory_with_other_things_stays(home: Home, docker: dict[str, Any]) -> None:
    home.run(docker=docker)
    (home.access.parent / "pki").mkdir()
    home.run("absent")
    assert (home.access.parent / "pki").exists()


@pytest.mark.parametrize(("current", "left"), [("shop", None), ("mine", "mine")])
def test_client_is_not_left_with_a_context_that_is_gone(
    home: Home, docker: dict[str, Any], current: str, left: str | None
) -> None:
    home.run(docker=docker)
    settings = {"auths": {"registry.example.org": {"auth": "c2VjcmV0"}}, "currentContext": current}
    (home.config / "config.json").write_text(json.dumps(settings))
    home.run("absent")
    found = json.loads((home.config / "config.json").read_text())
    assert found.get("currentContext") == left
    assert found["auths"] == settings["auths"]


# Shells


@pytest.mark.parametrize("shell", [shell for shell in ("sh", "fish", "pwsh") if shutil.which(shell)])
def test_shell_is_pointed_at_the_cluster_and_back(home: Home, docker: dict[str, Any], shell: str) -> None:
    home.run(docker=docker)
    ending, read = {"sh": ("sh", "."), "fish": ("fish", "source"), "pwsh": ("ps1", ".")}[shell]
    show = f"{shutil.which('env')} | {shutil.which('grep')} ^DOCKER_ || {shutil.which('echo')} none"
    script = f"{read} '{home.access}/env.{ending}'\n{show}\n{read} '{home.access}/unset.{ending}'\n{show}\n"
    result = subprocess.run([shell, "-c", script], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert sorted(result.stdout.splitlines()) == [
        f"DOCKER_CERT_PATH={Path(docker['client_cert']).parent}",
        "DOCKER_HOST=tcp://127.0.99.101:2376",
        "DOCKER_TLS_VERIFY=1",
        "none",
    ], result.stderr


def test_lines_for_each_shell_are_what_its_file_has(home: Home, docker: dict[str, Any]) -> None:
    report = home.run(docker=docker)["cluster_report"]
    for ending in ("sh", "fish", "ps1"):
        for line in (home.access / f"env.{ending}").read_text().splitlines():
            assert f"    {line}\n" in report


def test_plain_endpoint_makes_shells_forget_tls(home: Home) -> None:
    home.run(docker=PLAIN)
    assert (home.access / "env.sh").read_text().splitlines() == [
        *("export DOCKER_HOST='tcp://192.168.59.31:4040'", "unset DOCKER_TLS_VERIFY", "unset DOCKER_CERT_PATH")
    ]


def test_odd_paths_are_quoted() -> None:
    docker = {"docker_host": "ssh://a@b", "validate_certs": True, "client_cert": "/ann's/$(reboot)/cert.pem"}
    assert docker_context.set_lines(docker, "sh")[2] == "export DOCKER_CERT_PATH='/ann'\\''s/$(reboot)'"
    assert docker_context.set_lines(docker, "fish")[2] == "set -gx DOCKER_CERT_PATH '/ann\\'s/$(reboot)'"
    assert docker_context.set_lines(docker, "PowerShell")[2] == "$Env:DOCKER_CERT_PATH = '/ann''s/$(reboot)'"


# To hand over


def test_exported_context_is_what_the_client_imports_and_always_the_same(docker: dict[str, Any]) -> None:
    files = {"ca.pem": b"1", "cert.pem": b"2", "key.pem": b"3"}
    archive = docker_context.exported("shop", "shop", docker, files)
    assert archive == docker_context.exported("shop", "shop", docker, files)
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        assert tar.getnames() == [
            *("meta.json", "tls", "tls/docker", "tls/docker/ca.pem", "tls/docker/cert.pem", "tls/docker/key.pem")
        ]
        assert {member.mode & 0o077 for member in tar} == {0}

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The scripts of images/redis, with a stand-in for Redis and a directory of the test in the place of /data."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

REDIS = Path(__file__).parents[2] / "images" / "redis"
#: says how it was called, and what came in
SERVER = '#!/bin/sh\necho "called with $*"\ncat\n'
#: has the answers that a test wrote down; who asks without the password gets none
CLI = """\
#!/bin/sh
[ "$REDISCLI_AUTH" = "$(cat "$REDIS_PASSWORD_FILE")" ] || exit 1
[ "$1" != -e ] || shift
cat "$HOME/$1"
"""


#: takes the right to write anywhere from root, who runs tests, too
ORDINARY = ("setpriv", "--inh-caps=-dac_override", "--bounding-set=-dac_override") if os.geteuid() == 0 else ()


@dataclass
class Container:
    home: Path

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        text = (
            (REDIS / script).read_text().replace("/data", str(self.home / "data")).replace("/redis/", f"{self.home}/")
        )
        environment = {
            "PATH": f"{self.home}/bin:{os.environ['PATH']}",
            "HOME": str(self.home),
            "REDIS_PASSWORD_FILE": str(self.home / "password"),
        }
        command = [*ORDINARY, "sh", "-c", text, script, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def password(self, content: bytes) -> None:
        (self.home / "password").write_bytes(content)

    def answers(self, **answers: str) -> None:
        for question, answer in answers.items():
            (self.home / question).write_text(answer)


@pytest.fixture
def container(tmp_path: Path) -> Container:
    made = Container(tmp_path)
    for name in ("bin", "data"):
        (tmp_path / name).mkdir()
    for path, text in {"bin/redis-server": SERVER, "bin/redis-cli": CLI}.items():
        (tmp_path / path).write_text(text)
        (tmp_path / path).chmod(0o755)
    (tmp_path / "cli").write_text((REDIS / "cli").read_text())
    (tmp_path / "cli").chmod(0o755)
    made.password(b"secret\n")
    return made


@pytest.mark.parametrize(
    ("password", "line"),
    [
        (b"secret", 'requirepass "secret"'),
        (b"secret\n", 'requirepass "secret"'),
        (b'a "b" \\c $d `e', 'requirepass "a \\"b\\" \\\\c $d `e"'),
    ],
)
def test_password_comes_in_on_standard_input_alone(container: Container, password: bytes, line: str) -> None:
    container.password(password)
    result = container.run("start", "--maxmemory", "9mb")
    assert result.stdout == f"called with {container.home}/redis.conf --maxmemory 9mb -\n{line}\n"


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        (None, "cannot be read"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"secret\nprotected-mode no", "not one line"),
        (b"secret\ttab", "not one line"),
        ("sécret".encode(), "not one line"),
    ],
)
def test_redis_does_not_start_without_a_password_that_is_one(
    container: Container, password: bytes | None, reason: str
) -> None:
    if password is None:
        (container.home / "password").unlink()
    else:
        container.password(password)
    result = container.run("start")
    assert (result.returncode, result.stdout) == (2, "")
    assert reason in result.stderr
    assert "cret" not in result.stderr.replace("secret redis_password", "")


def test_data_that_may_not_be_written_is_named(container: Container) -> None:
    (container.home / "data").chmod(0o500)
    result = container.run("start")
    assert result.returncode == 2
    assert "cannot write to" in result.stderr


def test_redis_begins_with_a_copy_that_lies_alone(container: Container) -> None:
    data = container.home / "data"
    (data / "dump.rdb").write_text("a copy")
    assert container.run("start").returncode == 0
    assert (data / "appendonlydir/appendonly.aof.1.base.rdb").read_text() == "a copy"
    assert "appendonly.aof.1.base.rdb seq 1 type b" in (data / "appendonlydir/appendonly.aof.manifest").read_text()


def test_copy_beside_the_data_is_left_alone(container: Container) -> None:
    data = container.home / "data"
    (data / "appendonlydir").mkdir()
    (data / "dump.rdb").write_text("an old copy")
    assert container.run("start").returncode == 0
    assert list((data / "appendonlydir").iterdir()) == []


@pytest.mark.parametrize(("answer", "healthy"), [("PONG", True), ("LOADING", False), ("NOAUTH", False), ("", False)])
def test_healthy_is_who_answers_to_the_password(container: Container, answer: str, healthy: bool) -> None:
    container.answers(ping=answer)
    assert (container.run("healthcheck").returncode == 0) == healthy


@pytest.mark.parametrize(
    ("before", "keys", "visits", "enough"),
    [
        ("", "0", "", True),
        ("1 keys, 42 visits", "1", "42", True),
        ("1 keys, 42 visits", "2", "43", True),
        ("1 keys, 42 visits", "1", "41", False),
        ("1 keys, 42 visits", "0", "", False),
        ("2 keys, 0 visits", "1", "", False),
        ("0 keys, 0 visits", "0", "", True),
    ],
)
def test_check_fails_where_there_is_less_than_before(
    container: Container, before: str, keys: str, visits: str, enough: bool
) -> None:
    container.answers(dbsize=keys, get=visits)
    result = container.run("check", *([before] if before else []))
    assert result.stdout == f"{keys} keys, {visits or 0} visits\n"
    assert (result.returncode == 0) == enough

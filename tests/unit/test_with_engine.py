# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""scripts/with-engine in a tree of its own, with stand-ins for what needs root: what it runs, says, returns, leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: answers as an engine does, at the socket that it is told
DOCKERD = f"""#!{sys.executable}
import http.server, json, os, socketserver, sys, time
if os.environ.get("STUB") == "dies":
    sys.exit("engine: no such device")
if os.environ.get("STUB") == "hangs":
    time.sleep(60)
class Handler(http.server.BaseHTTPRequestHandler):
    def address_string(self): return "client"
    def do_GET(self):
        body = json.dumps({{"ApiVersion": "1.41"}}).encode() if self.path.endswith("/version") else b"OK"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
host = sys.argv[sys.argv.index("--host") + 1] if "--host" in sys.argv else sys.argv[1]
socketserver.ThreadingUnixStreamServer(host.removeprefix("unix://"), Handler).serve_forever()
"""

#: ends, as the kernel would, what is still there when the first process has ended
UNSHARE = r"""#!/bin/bash
while [[ $1 != /* ]]; do shift; done
"$@"
status=$?
daemon=$(cat "$STUBS/dockerd.pid")
while kill -KILL "$daemon" 2>/dev/null; do sleep 0.05; done
exit $status
"""

SCRIPTS = {
    "dockerd": (
        '#!/bin/sh\necho $$ > "$STUBS/dockerd.pid"\necho "engine: starting"\n'
        f'exec {sys.executable} "$STUBS/engine.py" "$@"\n'
    ),
    "unshare": UNSHARE,
    "sudo": '#!/bin/sh\nexec "$@"\n',
    "mount": "#!/bin/sh\n",
    # the system's directories stay as they are
    "mkdir": '#!/bin/sh\ncase $1 in /etc/*|/opt/*|/run/*) exit 0 ;; esac\nexec /bin/mkdir "$@"\n',
    "rmdir": "#!/bin/sh\n",
    "chown": "#!/bin/sh\n",
    "ip": '#!/bin/sh\ncase $* in *route*) ;; *) echo "ip $*" >>"$STUBS/calls" ;; esac\n',
    "iptables": (
        '#!/bin/sh\ncase $* in *-S*) echo "-P FORWARD ${POLICY:-ACCEPT}"; exit ;; esac\n'
        'echo "iptables $*" >>"$STUBS/calls"\n[ "$2" != -D ] || [ "$(grep -c -e " $2 " "$STUBS/calls")" = 1 ]\n'
    ),
}


class Tree:
    """A tree with the script in it, where no engine answers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stubs = directory / "stubs"
        self.engine = directory / ".cache" / "engine"
        (directory / "scripts").mkdir()
        self.stubs.mkdir()
        self.script = directory / "scripts" / "with-engine"
        self.script.write_text((ROOT / "scripts" / "with-engine").read_text())
        self.script.chmod(0o755)
        (directory / ".venv").symlink_to(sys.prefix)
        (self.stubs / "engine.py").write_text(DOCKERD)
        for name, text in SCRIPTS.items():
            (self.stubs / name).write_text(text)
            (self.stubs / name).chmod(0o755)

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.script), *command],
            env={
                **os.environ,
                "PATH": f"{self.stubs}:{os.environ['PATH']}",
                "STUBS": str(self.stubs),
                "DOCKER_HOST": f"unix://{self.directory}/absent.sock",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*command, **environment)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors

    def calls(self) -> list[str]:
        path = self.stubs / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def engine_runs(self) -> bool:
        pid = (self.stubs / "dockerd.pid").read_text().strip()
        state = Path("/proc") / pid / "stat"
        return state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def answering(tree: Tree) -> Iterator[str]:
    """The address of an engine that answers."""
    socket = tree.directory / "other.sock"
    process = subprocess.Popen([sys.executable, str(tree.stubs / "engine.py"), f"unix://{socket}"])
    try:
        assert eventually(socket.exists)
        yield f"unix://{socket}"
    finally:
        process.kill()
        process.wait()


def test_engine_that_answers_is_used(tree: Tree, answering: str) -> None:
    status, output, errors = tree.run("sh", "-c", "echo $DOCKER_HOST; exit 3", DOCKER_HOST=answering)
    assert (status, output, errors) == (3, f"{answering}\n", "")
    assert not tree.engine.exists()


def test_without_one_an_engine_runs_for_the_command_and_is_cleared_away(tree: Tree) -> None:
    status, output, errors = tree.run("sh", "-c", "echo $DOCKER_HOST; stat -c %a ${DOCKER_HOST#unix://}; exit 3")
    socket = tree.engine / "docker.sock"
    assert (status, output) == (3, f"unix://{socket}\n600\n")
    assert f"running a Docker Engine for this command alone: DOCKER_HOST=unix://{socket}" in errors
    assert not tree.engine.exists()
    assert not tree.engine_runs()


def test_client_settings_for_another_engine_are_not_passed_on(tree: Tree) -> None:
    command = ("sh", "-c", "echo ${DOCKER_TLS_VERIFY-unset} ${DOCKER_CERT_PATH-unset}")
    status, output, _ = tree.run(*command, DOCKER_TLS_VERIFY="1", DOCKER_CERT_PATH=str(tree.directory))
    assert (status, output) == (0, "unset unset\n")


def test_commands_path_stays_as_it_was(tree: Tree) -> None:
    path = f"{tree.stubs}:/usr/bin:/bin"
    assert tree.run("sh", "-c", "echo $PATH", PATH=path)[1] == f"{path}\n"


def test_default_bridge_gets_a_range_of_its_own(tree: Tree) -> None:
    tree.run("true")
    assert any(call.startswith("ip address add 10.222.0.1/24 dev apiary-") for call in tree.calls())


@pytest.mark.parametrize(("policy", "added"), [("ACCEPT", 0), ("DROP", 1)])
def test_forwarding_is_allowed_only_where_it_would_be_dropped(tree: Tree, policy: str, added: int) -> None:
    tree.run("true", POLICY=policy)
    calls = [call for call in tree.calls() if call.startswith("iptables")]
    assert sum(" -I FORWARD " in call for call in calls) == added
    assert any(" -D FORWARD " in call for call in calls)


def test_term_stops_the_command_and_clears(tree: Tree) -> None:
    process = tree.start("sh", "-c", "trap 'echo tidied; exit 5' TERM; echo up; while :; do sleep 0.1; done")
    assert process.stdout and process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (5, "tidied\n")
    assert not tree.engine.exists()
    assert not tree.engine_runs()


def test_interrupted_command_still_has_its_engine_while_it_tidies_up(tree: Tree) -> None:
    tidy = "trap 'sleep 1; test -S ${DOCKER_HOST#unix://} && echo tidied; exit 6' INT"
    process = tree.start("bash", "-c", f"{tidy}; echo up; while :; do sleep 0.1; done")
    assert process.stdout and process.stdout.readline() == "up\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (6, "tidied\n")
    assert not tree.engine.exists()
    assert not tree.engine_runs()


def test_engine_that_cannot_start_says_why_and_the_command_does_not_run(tree: Tree) -> None:
    status, output, errors = tree.run("echo", "ran", STUB="dies")
    assert (status, output) == (1, "")
    assert "engine: no such device" in errors
    assert "the engine has ended" in errors
    assert not tree.engine.exists()


def test_engine_that_never_answers_shows_its_log(tree: Tree) -> None:
    status, output, errors = tree.run("echo", "ran", STUB="hangs", WITH_ENGINE_TIMEOUT="5")
    assert (status, output) == (1, "")
    assert "engine: starting" in errors
    assert "the engine does not answer" in errors
    assert not tree.engine.exists()
    assert not tree.engine_runs()


def test_engine_of_a_run_that_was_killed_clears_itself_away(tree: Tree) -> None:
    process = tree.start("sh", "-c", "echo up; exec sleep 30")
    assert process.stdout and process.stdout.readline() == "up\n"
    assert tree.engine_runs()
    process.kill()
    assert eventually(lambda: not tree.engine.exists())
    assert not tree.engine_runs()
    os.killpg(process.pid, signal.SIGKILL)  # the command
    process.wait()


def test_what_a_wholly_killed_run_has_left_is_cleared_by_the_next(tree: Tree) -> None:
    process = tree.start("sh", "-c", "echo up; exec sleep 30")
    assert process.stdout and process.stdout.readline() == "up\n"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    os.kill(int((tree.stubs / "dockerd.pid").read_text()), signal.SIGKILL)
    assert tree.engine.exists()
    status, _, errors = tree.run("true")
    assert status == 0
    assert "clearing away what a run that was killed has left" in errors
    assert not tree.engine.exists()


def test_second_run_in_a_tree_waits_for_the_first(tree: Tree) -> None:
    first = tree.start("sh", "-c", "echo up; sleep 2")
    assert first.stdout and first.stdout.readline() == "up\n"
    status, _, errors = tree.run("true")
    assert first.wait(timeout=20) == 0
    assert status == 0
    assert "waiting for another run to end" in errors


def test_other_systems_are_told_that_it_runs_one_on_linux_only(tree: Tree, answering: str) -> None:
    for tool in ("bash", "dirname", "cksum", "cut", "env", "sh"):
        (tree.stubs / tool).symlink_to(Path("/usr/bin") / tool)
    (tree.stubs / "uname").write_text("#!/bin/sh\necho Darwin\n")
    (tree.stubs / "uname").chmod(0o755)
    command = ("sh", "-c", "exit 3")
    status, _, errors = tree.run(*command, PATH=str(tree.stubs))
    assert (status, errors.splitlines()[-1]) == (
        1,
        "with-engine: no Docker Engine answers. This runs one on Linux only, and here is Darwin: start yours, "
        "or name it in DOCKER_HOST",
    )
    assert "not found" not in errors
    assert tree.run(*command, PATH=str(tree.stubs), DOCKER_HOST=answering) == (3, "", "")


def test_missing_engine_is_installed_by_setup(tree: Tree) -> None:
    setup = tree.directory / "scripts" / "setup"
    (tree.stubs / "dockerd").rename(tree.stubs / "later")
    setup.write_text('#!/bin/sh\necho "setup $*"\nmv "$STUBS/later" "$STUBS/dockerd"\n')
    setup.chmod(0o755)
    # only what the script needs, so that this system's engine is not found
    tools = "env bash sh dirname cksum cut cat tail flock sleep id uname install touch stat chmod setsid grep"
    for tool in [*tools.split(), "find", "sort", "xargs", "rm", "mv", "echo"]:
        for directory in ("/usr/bin", "/bin"):
            if not (tree.stubs / tool).exists() and (Path(directory) / tool).exists():
                (tree.stubs / tool).symlink_to(Path(directory) / tool)
    script = tree.script.read_text()
    tree.script.write_text(script.replace("export PATH=$PATH:/usr/sbin:/sbin", "export PATH=$PATH"))
    status, output, _ = tree.run("echo", "ran", PATH=str(tree.stubs))
    assert (status, output) == (0, "setup --engine\nran\n")

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""scripts/setup in a tree of its own, on systems that pretend: what it asks for, in whose words, with which tools."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: what POSIX has, and what macOS has besides (mktemp): no flock, realpath, sha256sum, stat or timeout
TOOLS = (
    *("awk", "cat", "cmp", "dirname", "env", "grep", "head", "id", "ls", "mkdir", "mktemp", "mv", "rm"),
    *("sed", "sh", "sleep", "tail", "tee", "tr"),
)
BUSYBOX = shutil.which("busybox")
SHELLS = ["sh", "bash --posix", *(["busybox sh"] if BUSYBOX else [])]

#: makes virtual environments of itself, and knows pip and ansible-galaxy as far as they are called
PYTHON = f"""#!/bin/sh
case $* in
  "-m venv --clear"*)
    mkdir -p "$4/bin"
    cat "$STUBS/python3" >"$4/bin/python"
    printf '#!/bin/sh\\nfor last; do :; done\\nmkdir -p "$last/ansible_collections/community/docker"\\n' \\
      >"$4/bin/ansible-galaxy"
    chmod 755 "$4/bin/python" "$4/bin/ansible-galaxy" ;;
  *"-m pip"*) ;;
  --version) echo "Python 3.x" ;;
  *) exec {sys.executable} "$@" ;;
esac
"""


class System:
    """A computer with a tree of Apiary: its tools, and what it calls itself."""

    def __init__(self, directory: Path, name: str) -> None:
        self.tree = directory / "tree"
        self.stubs = directory / "stubs"
        self.stubs.mkdir()
        (self.tree / "scripts").mkdir(parents=True)
        shutil.copytree(ROOT / "inventories", self.tree / "inventories")
        for file in ("pyproject.toml", "constraints.txt", "requirements.yml"):
            shutil.copy(ROOT / file, self.tree)
        script = (ROOT / "scripts" / "setup").read_text()
        # This computer's own interpreters and the tools of its administrator are no part of it.
        script = script.replace("/usr/bin/python3}", "}").replace("$PATH:/usr/sbin:/sbin", "$PATH")
        (self.tree / "scripts" / "setup").write_text(script)
        for tool in [*TOOLS, "chmod"]:
            self.add(tool, f'#!/bin/sh\nexec {shutil.which(tool)} "$@"\n')
        self.add("uname", f"#!/bin/sh\necho {name}\n")
        self.add("python3", PYTHON)

    def add(self, tool: str, script: str = "#!/bin/sh\n") -> None:
        (self.stubs / tool).write_text(script)
        (self.stubs / tool).chmod(0o755)

    def use_busybox(self) -> None:
        """Have no tools but BusyBox's."""
        assert BUSYBOX
        for tool in TOOLS:
            (self.stubs / tool).unlink()
        for applet in subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split():
            if not (self.stubs / applet).exists():
                (self.stubs / applet).symlink_to(BUSYBOX)

    def run(self, *arguments: str, interpreter: str = "sh", **environment: str) -> tuple[int, str]:
        name, *options = interpreter.split()
        done = subprocess.run(
            [shutil.which(name) or name, *options, "scripts/setup", *arguments],
            cwd=self.tree,
            env={"PATH": str(self.stubs), "STUBS": str(self.stubs), "ANSIBLE_GALAXY_SERVER_LIST": "own", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout


@pytest.fixture
def mac(tmp_path: Path) -> System:
    system = System(tmp_path, "Darwin")
    system.add("ssh")
    return system


@pytest.fixture
def linux(tmp_path: Path) -> System:
    return System(tmp_path, "Linux")


@pytest.mark.parametrize(("inventory", "shell"), [*(("virtualbox", shell) for shell in SHELLS), ("ssh", "sh")])
def test_mac_needs_nothing_but_ssh_and_python(mac: System, inventory: str, shell: str) -> None:
    status, output = mac.run(interpreter=shell, INVENTORY=inventory)
    assert (status, output.splitlines()[-2:]) == (
        0,
        ["setup: installed Ansible collections from Galaxy", "setup: done"],
    )
    assert (mac.tree / "collections/ansible_collections/community/docker").is_dir()
    assert mac.run(interpreter=shell, INVENTORY=inventory) == (0, "")
    assert [path.name for path in (mac.tree / ".cache").glob("setup.work.*")] == []


@pytest.mark.skipif(not BUSYBOX, reason="there is no busybox: 'scripts/setup --dev' installs it")
def test_tools_of_busybox_will_do(linux: System) -> None:
    linux.use_busybox()
    linux.add("ssh")
    status, output = linux.run(interpreter="busybox sh", INVENTORY="ssh")
    assert (status, output.splitlines()[-1]) == (0, "setup: done")
    assert linux.run(interpreter="busybox sh", INVENTORY="ssh") == (0, "")


def test_changed_requirements_are_installed(mac: System) -> None:
    mac.run(INVENTORY="ssh")
    with (mac.tree / "requirements.yml").open("a") as file:
        file.write("# more\n")
    assert "installing Python packages" in mac.run(INVENTORY="ssh")[1]


@pytest.mark.parametrize(("inventory", "role"), [("qemu", "qemu_machine"), ("containers", "container_machine")])
def test_first_line_says_what_is_for_linux_only(mac: System, inventory: str, role: str) -> None:
    status, output = mac.run(INVENTORY=inventory)
    assert status == 1
    assert output.splitlines()[0].startswith(f"setup: INVENTORY={inventory} needs Linux ({role}), and this is Darwin.")
    assert "INVENTORY=virtualbox" in output
    assert not (mac.tree / ".venv").exists()


def test_one_host_of_a_role_for_linux_is_enough(mac: System) -> None:
    hosts = mac.tree / "inventories/ssh/hosts.yml"
    hosts.write_text('workers: {hosts: {one: {"machine_provider": "qemu_machine"}}}\n')
    assert "needs Linux (qemu_machine)" in mac.run(INVENTORY="ssh")[1]
    hosts.write_text("# machine_provider: qemu_machine\n")
    assert mac.run(INVENTORY="ssh")[0] == 0


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("dnf", "sudo dnf install openssh-clients python3"),
        ("zypper", "sudo zypper install openssh-clients python313"),
        ("apk", "sudo apk add openssh-client-default python3"),
        ("pacman", "sudo pacman -S openssh python"),
        ("brew", "brew install openssh python@3.13"),
    ],
)
def test_what_is_missing_is_said_in_the_words_of_the_systems_package_manager(
    linux: System, manager: str, command: str
) -> None:
    (linux.stubs / "python3").unlink()
    linux.add(manager)
    status, output = linux.run(INVENTORY="ssh")
    assert status == 1
    assert "setup: these are missing here: ssh, python3 (3.11 or newer" in output
    assert f"  {command}\n" in output
    assert "mmdebstrap" not in output


def test_what_no_package_of_the_system_has_is_named(linux: System) -> None:
    linux.add("pacman")
    linux.add("ssh")
    _status, output = linux.run(INVENTORY="qemu")
    assert "  sudo pacman -S shadow qemu-system-x86\n" in output.replace(" e2fsprogs", "")
    assert "  and what Debian has in: mmdebstrap genext2fs\n" in output


def test_mac_without_homebrew_is_told_of_it(mac: System) -> None:
    (mac.stubs / "python3").unlink()
    status, output = mac.run(INVENTORY="virtualbox")
    assert status == 1
    assert "https://brew.sh" in output
    assert "  brew install python@3.13\n" in output


def test_system_of_no_known_manager_is_told_what_is_missing(linux: System) -> None:
    status, output = linux.run(INVENTORY="ssh")
    assert (status, output.splitlines()) == (
        1,
        [
            "setup: these are missing here: ssh",
            "setup: install them with this system's own package manager, then run this again",
        ],
    )


@pytest.mark.skipif(not Path("/etc/debian_version").exists(), reason="this is no Debian system")
class TestDebian:
    """With apt-get, on a system that is Debian's."""

    @pytest.fixture
    def debian(self, linux: System) -> System:
        linux.add("sudo", '#!/bin/sh\nexec "$@"\n')
        linux.add("dpkg")
        linux.add("apt-get", '#!/bin/sh\necho "$*" >>"$STUBS/calls"\n')
        return linux

    def asked(self, debian: System, **environment: str) -> set[str]:
        debian.run(**environment)
        line = next(line for line in (debian.stubs / "calls").read_text().splitlines() if " install " in line)
        return set(line.partition(" --no-install-recommends ")[2].split())

    def test_inventory_is_given_what_it_uses(self, debian: System) -> None:
        images = {"mmdebstrap", "uidmap"}
        assert self.asked(debian, INVENTORY="ssh") >= {"openssh-client", *images}
        (debian.stubs / "calls").unlink()
        assert self.asked(debian, INVENTORY="qemu") >= {"qemu-system-x86", "genext2fs", "e2fsprogs", *images}

    @pytest.mark.parametrize("line", ["image_base: python:3-slim", "image_list: []"])
    def test_images_of_others_need_no_tools_of_debian(self, debian: System, line: str) -> None:
        with (debian.tree / "inventories/ssh/group_vars/all.yml").open("a") as file:
            file.write(f"{line}\n")
        assert self.asked(debian, INVENTORY="ssh") & {"mmdebstrap", "uidmap", "qemu-system-x86"} == set()

    def test_tests_need_the_tools_of_all(self, debian: System) -> None:
        debian.run("--dev", INVENTORY="ssh")
        calls = (debian.stubs / "calls").read_text()
        assert all(package in calls for package in ("qemu-system-x86", "mmdebstrap", "shellcheck", "busybox-static"))


# What the scripts are written in


def calls_of(path: Path) -> str:
    """Return a script without comments and without the Python in it."""
    return "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))


@pytest.mark.parametrize(
    "tool", ["timeout ", "sha256sum", "realpath", "stat ", "type -P", "mapfile", "sed -i", "cksum", "date -d", "[[ "]
)
def test_setup_uses_what_all_systems_have(tool: str) -> None:
    assert tool not in calls_of(ROOT / "scripts" / "setup")


def test_second_setup_waits_for_the_first_without_flock(mac: System) -> None:
    (mac.tree / ".cache").mkdir()
    with (mac.tree / ".cache" / "setup.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = subprocess.Popen(
            ["sh", "scripts/setup"],
            cwd=mac.tree,
            env={**os.environ, "PATH": str(mac.stubs), "STUBS": str(mac.stubs), "INVENTORY": "ssh"}
            | {"ANSIBLE_GALAXY_SERVER_LIST": "own"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        assert process.stdout.readline() == "setup: waiting for another setup to end\n"
        assert not (mac.tree / ".venv").exists()
    output, _ = process.communicate(timeout=60)
    assert output.endswith("setup: done\n")

# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Setting the state of a process whose processor has more of it than the caller knows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.apiary.swarm.plugins.module_utils import xstate
from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError

#: traces a child, reads the first 576 bytes of its state, and sets these with the first register of the SSE changed
TRACER = """\
import ctypes, os, signal, sys

class Buffer(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("length", ctypes.c_ulong)]

ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
ptrace.restype = ctypes.c_long
TRACE_ME, KILL, GET, SET, STATE = 0, 8, 0x4204, 0x4205, 0x202

def ask(request, length, content=None):
    memory = ctypes.create_string_buffer(content or b"", length)
    buffer = Buffer(ctypes.addressof(memory), length)
    if ptrace(request, child, STATE, ctypes.byref(buffer)):
        sys.exit(os.strerror(ctypes.get_errno()))
    return memory.raw[:buffer.length]

child = os.fork()
if child == 0:
    ptrace(TRACE_ME, 0, None, None)
    os.kill(os.getpid(), signal.SIGSTOP)
os.waitpid(child, 0)
try:
    before = ask(GET, 1 << 16)
    if len(before) <= 576:
        sys.exit("the processor has no more than what is set")
    ask(SET, 576, before[:160] + b"1234567890abcdef" + before[176:512] + bytes([before[512] | 2]) + before[513:576])
    after = ask(GET, 1 << 16)
    assert after[160:176] == b"1234567890abcdef" and after[576:] == before[576:]
finally:
    ptrace(KILL, child, None, None)
    os.waitpid(child, 0)
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    if not shutil.which(xstate.COMPILER):
        pytest.skip("no C compiler: Debian has it in the package gcc")
    return xstate.library(tmp_path)


def trace(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", TRACER], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_linux_takes_no_part_of_a_state() -> None:
    assert trace().stderr == "Bad address\n"


def test_with_the_library_it_takes_a_part_and_keeps_the_rest(library: Path) -> None:
    run = trace(LD_PRELOAD=str(library))
    assert (run.returncode, run.stderr) == (0, "")


def test_it_is_compiled_once(library: Path) -> None:
    made = library.stat().st_mtime_ns
    assert xstate.library(library.parent) == library
    assert library.stat().st_mtime_ns == made
    assert list(library.parent.iterdir()) == [library]


def test_it_is_loaded_where_the_processor_asks_for_it(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xstate, "processor_has_amx", lambda: True)
    assert xstate.preloaded(library.parent) == ["env", f"LD_PRELOAD={library}"]
    monkeypatch.setattr(xstate, "processor_has_amx", lambda: False)
    assert xstate.preloaded(library.parent) == []


def test_without_a_compiler_the_kernel_has_to_do_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xstate, "processor_has_amx", lambda: True)
    monkeypatch.setattr(xstate, "COMPILER", "no-such-compiler")
    assert xstate.preloaded(tmp_path) == []
    with pytest.raises(ApiaryError, match="no-such-compiler is missing, which Debian has in the package gcc"):
        xstate.library(tmp_path)


def test_what_the_compiler_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text("#!/bin/sh\necho 'not today' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(xstate, "COMPILER", str(compiler))
    with pytest.raises(ApiaryError, match="does not compile: not today"):
        xstate.library(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []

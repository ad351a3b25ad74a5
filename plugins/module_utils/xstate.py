# Copyright: The Apiary developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What kernels of User Mode Linux before 6.13 need on processors with AMX: a ptrace that sets the whole state.

Such a processor's extended state is larger than what the kernel keeps of a process, and Linux takes it whole or not at
all: the kernel panics at its init's first instruction. So its calls are completed on their way by a library that is
loaded before it, and compiled here, for Debian has none.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from ansible_collections.apiary.swarm.plugins.module_utils.errors import ApiaryError
from ansible_collections.apiary.swarm.plugins.module_utils.files import private_directory
from ansible_collections.apiary.swarm.plugins.module_utils.qemu import find_tool

COMPILER = "cc"

#: It declares what it uses: a compiler is there without the headers of the C library more often than with them.
SOURCE = """\
struct buffer { unsigned char *start; unsigned long length; };
enum { GETREGSET = 0x4204, SETREGSET = 0x4205, X86_XSTATE = 0x202 };
typedef long call(long request, long process, void *address, void *data);

void *dlsym(void *handle, const char *name);
void *memcpy(void *to, const void *from, unsigned long length);

/* not on the stack, which is one of a kernel's: small */
static unsigned char whole[1 << 16];
static call *next;

__attribute__((constructor)) static void find(void) { next = (call *)dlsym((void *)-1L, "ptrace"); }

long ptrace(long request, long process, void *address, void *data) {
  struct buffer *part = data, all = {whole, sizeof whole};
  if (request != SETREGSET || (long)address != X86_XSTATE ||
      next(GETREGSET, process, address, &all) < 0 || part->length >= all.length)
    return next(request, process, address, data);
  memcpy(whole, part->start, part->length);
  return next(SETREGSET, process, address, &all);
}
"""


@cache
def processor_has_amx() -> bool:
    """Say whether this processor is one of those."""
    return "amx_tile" in Path("/proc/cpuinfo").read_text()


def library(directory: Path) -> Path:
    """Return the library, which is kept in the directory; ApiaryError if it cannot be compiled."""
    path = directory / f"xstate-{hashlib.sha256(SOURCE.encode()).hexdigest()[:12]}.so"
    if path.exists():
        return path
    with tempfile.TemporaryDirectory(dir=private_directory(directory), prefix="xstate.") as making:
        made = Path(making) / path.name
        command = [COMPILER, "-shared", "-fPIC", "-O1", "-nostdlib", "-x", "c", "-o", str(made), "-"]
        try:
            subprocess.run(command, input=SOURCE, text=True, capture_output=True, check=True)
        except FileNotFoundError:
            raise ApiaryError(f"{COMPILER} is missing, which Debian has in the package gcc") from None
        except subprocess.CalledProcessError as error:
            raise ApiaryError(f"{COMPILER} does not compile: {error.stderr.strip()}") from error
        made.replace(path)
    return path


def preloaded(directory: Path) -> list[str]:
    """Return the words before a kernel's command line that load the library, if one is of use here and can be had."""
    if not processor_has_amx() or not find_tool(COMPILER):
        return []  # a newer kernel does without
    return ["env", f"LD_PRELOAD={library(directory)}"]

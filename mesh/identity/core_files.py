"""Keys stay in the memory of the process that has them."""

import resource
import sys
from typing import Final

PR_SET_DUMPABLE: Final = 4
"""linux/prctl.h"""


def forbid() -> None:
    """From now on no core file of this process is written, and on Linux nobody but root reads its memory.

    The limit alone would not do: a program that the kernel gives cores to gets them whatever the limit. The other half
    also hides /proc/self/fd from whoever is not root, so a process that starts others may have to do without it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)

"""Memory of a process that writes to a thousand streams."""

import ctypes
import gc
from typing import Final

COLLECTED_AT: Final = (20_000, 5, 5)
"""Python's own first one, 700, is passed many times while a change goes out to a thousand proxies, and then all of
their streams are looked through. Neither a push nor the end of a stream leaves a circle; calls of gRPC leave a few
objects each."""

MMAP_THRESHOLD: Final = -3, 32 << 20
TRIM_THRESHOLD: Final = -1, 4 << 20
"""Parameters of mallopt(3), and bytes. A first configuration in a mesh of 1,000 services is 0.8 MB. By default glibc
gives each buffer of that size back to the kernel, and the next one is zeroed page by page: a third of what it costs to
send it."""


def settle() -> None:
    """To be called when a server has started.

    Circles of objects are looked for seldom, and not among what is there already. Up to 4 MB that are free are kept,
    where the C library has that choice.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED_AT)
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        for parameter, size in (MMAP_THRESHOLD, TRIM_THRESHOLD):
            mallopt(parameter, size)

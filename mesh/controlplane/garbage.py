"""When Python looks for circles of objects that nobody has any more."""

import gc
from typing import Final

THRESHOLDS: Final = (20_000, 5, 5)
"""Python's own first one, 700, is passed many times while a change goes out to a thousand proxies, and then all of
their streams are looked through. Neither a push nor the end of a stream leaves a circle; calls of gRPC leave a few
objects each."""


def collect_seldom() -> None:
    """From now on, and without what is there already. To be called when a server has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)

"""Who wants to know when something changes."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager


class Watchers:
    """Callbacks by key. Belongs to one event loop."""

    def __init__(self) -> None:
        self._by_key: defaultdict[Hashable, dict[Callable[[], None], None]] = defaultdict(dict)

    @contextmanager
    def watching(self, *keys: Hashable, changed: Callable[[], None]) -> Iterator[None]:
        """Within the block `changed` is called when one of `keys` is notified. It must not block."""
        for key in keys:
            self._by_key[key][changed] = None
        try:
            yield
        finally:
            for key in keys:
                del self._by_key[key][changed]
                if not self._by_key[key]:
                    del self._by_key[key]

    def notify(self, key: Hashable) -> None:
        for changed in self._by_key.get(key, ()):
            changed()

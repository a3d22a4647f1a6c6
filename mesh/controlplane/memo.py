"""Results that are remembered from one pass to the next."""

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memo(Generic[K, V]):
    """`make`, called once for equal keys, as long as each pass asks for them. What `make` raises is not remembered."""

    def __init__(self, make: Callable[[K], V]) -> None:
        self._make = make
        self._known: dict[K, V] = {}
        self._used: dict[K, V] = {}

    def get(self, key: K) -> V:
        if key not in self._used:
            self._used[key] = self._known[key] if key in self._known else self._make(key)
        return self._used[key]

    def end_pass(self) -> None:
        """Forgets what was not asked for since the last time."""
        self._known, self._used = self._used, {}

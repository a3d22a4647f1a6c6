"""Results that are remembered as long as somebody has them."""

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

K = TypeVar("K")
V = TypeVar("V")


class Memo(Generic[K, V]):
    """`make`, called once for equal keys as long as its result is in use; then it is forgotten, and so is the key.

    What `make` raises is not remembered.
    """

    def __init__(self, make: Callable[[K], V]) -> None:
        self._make = make
        self._known: WeakValueDictionary[K, V] = WeakValueDictionary()

    def get(self, key: K) -> V:
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._make(key)
        return found

    def __len__(self) -> int:
        """How many results are in use."""
        return len(self._known)

"""Resources of one type by name, and what is different from one time to the next: found out once for everybody."""

from collections.abc import Iterable, Mapping
from typing import Final
from weakref import ref

from mesh.snapshot.resource import Resource

PREDECESSORS: Final = 8
"""With so many one set is compared once. Most clients come from the one before; those that are slow, from any."""


class Named(dict[str, Resource]):
    """Resources of one type by name. Not to be changed once others have it."""

    __slots__ = ("__weakref__", "_compared")

    def __init__(self, resources: Mapping[str, Resource] | Iterable[tuple[str, Resource]] = ()) -> None:
        super().__init__(resources)
        self._compared: tuple[tuple[ref[Named], frozenset[str]], ...] = ()

    def differing(self, before: "Named") -> frozenset[str]:
        """The names of what is new here, is gone, or is not as it was."""
        for other, names in self._compared:
            if other() is before:
                return names
        # Most are the very same objects, which is quick to see.
        suspects = [name for name, one in self.items() if before.get(name) is not one]
        changed = (name for name in suspects if not _are_alike(self[name], before.get(name)))
        names = frozenset(changed) | (before.keys() - self.keys())
        alive = [one for one in self._compared if one[0]() is not None]
        self._compared = ((ref(before), names), *alive[: PREDECESSORS - 1])
        return names


def _are_alike(one: Resource, other: Resource | None) -> bool:
    return other is not None and (one.version, one.ttl) == (other.version, other.ttl)

"""Where streams read what a node should have, whoever decides it."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from mesh.model.workload import Locality
from mesh.snapshot.named import NOTHING, Named


@dataclass(frozen=True, slots=True)
class State:
    """What one node should have: type URL -> name -> resource.

    `versions` are versions of whole types, for who wants to choose them; a type without one gets a digest.
    """

    resources: Mapping[str, Named] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def of(self, type_url: str) -> Named:
        return self.resources.get(type_url, NOTHING)


class Source(Protocol):
    """Belongs to one event loop. What it has returned does not change any more."""

    def state(self, node_id: str, locality: Locality) -> State | None:
        """What the node should have now. None while nobody knows: such a node waits, and keeps what it has."""

    def version(self, node_id: str) -> str:
        """Digest of the node's configuration without endpoints; empty for none."""

    def watch(self, node_id: str, locality: Locality, changed: Callable[[], None]) -> AbstractContextManager[None]:
        """Within the block `changed` is called at each change of what the node should have. It must not block."""

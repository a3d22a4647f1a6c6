"""What each proxy should have: the control plane publishes it, and every stream reads the newest when it may send."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from mesh.model.workload import Locality
from mesh.snapshot.named import NOTHING, Named
from mesh.snapshot.resource import Resource
from mesh.snapshot.seal import Snapshot
from mesh.snapshot.types import ENDPOINT
from mesh.xds.source import State
from mesh.xds.watchers import Watchers


class Cache:
    """One snapshot per node, and one set of endpoints per locality, shared by all nodes there.

    Belongs to one event loop. Content equal to what is there changes nothing and wakes nobody.
    """

    def __init__(self) -> None:
        self._snapshots: dict[str, Snapshot] = {}
        self._endpoints: dict[Locality, Named] = {}
        self._states: dict[str, tuple[Locality, State]] = {}
        self._watchers = Watchers()

    def publish(self, node_id: str, snapshot: Snapshot) -> None:
        """`snapshot` is what the node should have from now on. Its endpoints should have been published before."""
        if self.version(node_id) != snapshot.version:
            self._snapshots[node_id] = snapshot
            self._states.pop(node_id, None)
            self._watchers.notify(node_id)

    def withdraw(self, node_id: str) -> None:
        """The node is told nothing more. It keeps what it has: this is no order to drop everything."""
        self._snapshots.pop(node_id, None)
        self._states.pop(node_id, None)

    def publish_endpoints(self, locality: Locality, assignments: Mapping[str, Resource]) -> None:
        """`assignments`, by cluster name, are all that there are for the nodes of `locality`."""
        if self._endpoints.get(locality) != assignments:
            self._endpoints[locality] = Named(assignments)
            self._states.clear()
            self._watchers.notify(locality)

    def withdraw_endpoints(self, locality: Locality) -> None:
        """Nobody is there any more. Whoever still is keeps what it has, too."""
        self._endpoints.pop(locality, None)
        self._states.clear()

    def state(self, node_id: str, locality: Locality) -> State | None:
        """What the node should have now, or None while nothing is published for it.

        The same object as long as it says the same, which is quick to see.
        """
        known = self._states.get(node_id)
        if known and known[0] is locality:
            return known[1]
        snapshot = self._snapshots.get(node_id)
        if snapshot is None:
            return None
        state = State({**snapshot.resources, ENDPOINT: self._endpoints.get(locality, NOTHING)})
        self._states[node_id] = locality, state
        return state

    def version(self, node_id: str) -> str:
        """Digest of the node's snapshot; empty for none."""
        snapshot = self._snapshots.get(node_id)
        return snapshot.version if snapshot else ""

    def watch(self, node_id: str, locality: Locality, changed: Callable[[], None]) -> AbstractContextManager[None]:
        """Within the block `changed` is called at each change of what the node should have. It must not block."""
        return self._watchers.watching(node_id, locality, changed=changed)

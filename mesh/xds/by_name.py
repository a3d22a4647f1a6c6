"""What gRPC clients without a sidecar are told about names that mean nothing."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager

from mesh.model.workload import Locality
from mesh.snapshot.named import NOTHING, Named
from mesh.snapshot.resource import Resource
from mesh.snapshot.seal import sealed
from mesh.snapshot.types import LISTENER
from mesh.translate.grpc_client import absent_listener
from mesh.xds.source import Source, State


class ByName:
    """What `source` has for the peer of one stream, and an answer for every listener besides that it asks for.

    Silence would be right, too, and costs each call 15 s: a gRPC client that has never had a listener waits so long
    before it believes that there is none. An answer makes its calls fail at once, and changes when the name means
    something.
    """

    def __init__(self, source: Source, asked: Callable[[str], AbstractSet[str]]) -> None:
        self._source = source
        self._asked = asked
        self._there: Mapping[str, Resource] = NOTHING
        self._absent: Mapping[str, Resource] = {}
        self._answers = NOTHING

    def state(self, node_id: str, locality: Locality) -> State | None:
        state = self._source.state(node_id, locality)
        if state is None:
            return None
        there = state.of(LISTENER)
        absent = self._asked(LISTENER) - there.keys()
        if there is not self._there or absent != self._absent.keys():
            self._there = there
            self._absent = {name: self._absent.get(name) or sealed(absent_listener(name)) for name in absent}
            self._answers = Named({**there, **self._absent})
        return State({**state.resources, LISTENER: self._answers}, state.versions) if absent else state

    def version(self, node_id: str) -> str:
        return self._source.version(node_id)

    def watch(self, node_id: str, locality: Locality, changed: Callable[[], None]) -> AbstractContextManager[None]:
        return self._source.watch(node_id, locality, changed)

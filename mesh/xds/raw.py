"""A source that somebody else fills, resource by resource: nothing is made and nothing is checked here."""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Final

from mesh.model.workload import Locality
from mesh.snapshot.resource import Resource, digest
from mesh.snapshot.types import ENDPOINT
from mesh.xds.source import State
from mesh.xds.watchers import Watchers

EVERY_NODE: Final = "*"


class RawStore:
    """Resources by node id, or for `EVERY_NODE`; a node's own goes before one of every node with its type and name.

    Each call is one change; one that changes nothing wakes nobody. A node for which nothing was set has nothing, which
    is a state like any other: its streams are answered, and do not wait.
    """

    def __init__(self) -> None:
        self._set: dict[str, State] = {}
        self._whole: dict[str, tuple[State, str]] = {}
        self._watchers = Watchers()

    def set(
        self,
        node_id: str,
        resources: Iterable[Resource],
        versions: Mapping[str, str] | None = None,
        replaced: Collection[str] = (),
    ) -> None:
        """Adds `resources`, or puts them in the place of those of the same type and name.

        `versions` are those of whole types; each holds until the type changes again. Of the types in `replaced` the
        node has nothing else from now on.
        """
        before = self._set.get(node_id, State())
        changed: dict[str, dict[str, Resource]] = {type_url: {} for type_url in replaced}
        for resource in resources:
            of_type = changed.setdefault(resource.type_url, dict(before.of(resource.type_url)))
            of_type[resource.name] = resource
        self._change(node_id, changed, versions or {})

    def remove(self, node_id: str, type_url: str, names: Collection[str], version: str = "") -> None:
        """Those of `names` that are not there are nothing to do. `version` is that of what is left of the type."""
        left = {name: one for name, one in self._set.get(node_id, State()).of(type_url).items() if name not in names}
        self._change(node_id, {type_url: left}, {type_url: version} if version else {})

    def clear(self, node_id: str = "") -> None:
        """Forgets what was set for `node_id`, or all that was ever set."""
        for one in [node_id] if node_id else list(self._set):
            if self._set.pop(one, None):
                self._notify(one)

    def state(self, node_id: str, locality: Locality) -> State:
        return self._of(node_id)[0]

    def version(self, node_id: str) -> str:
        return self._of(node_id)[1]

    def watch(self, node_id: str, locality: Locality, changed: Callable[[], None]) -> AbstractContextManager[None]:
        return self._watchers.watching(node_id, EVERY_NODE, changed=changed)

    def _change(self, node_id: str, changed: Mapping[str, Mapping[str, Resource]], versions: Mapping[str, str]) -> None:
        before = self._set.get(node_id, State())
        resources = {type_url: named for type_url, named in {**before.resources, **changed}.items() if named}
        kept = {type_url: version for type_url, version in before.versions.items() if type_url not in changed}
        after = State(resources, {**kept, **versions})
        if after != before:
            self._set[node_id] = after
            self._notify(node_id)

    def _notify(self, node_id: str) -> None:
        if node_id == EVERY_NODE:
            self._whole.clear()
        else:
            self._whole.pop(node_id, None)
        self._watchers.notify(node_id)

    def _of(self, node_id: str) -> tuple[State, str]:
        """State and version; made once after each change, and shared by all nodes that have nothing of their own."""
        key = node_id if node_id in self._set else EVERY_NODE
        if key not in self._whole:
            state = _merged(self._set.get(EVERY_NODE, State()), self._set.get(key, State()))
            self._whole[key] = (state, _version(state))
        return self._whole[key]


def _merged(of_every_node: State, own: State) -> State:
    types = of_every_node.resources.keys() | own.resources.keys()
    # A version that was chosen for what every node has is none of what this one has besides.
    versions = {url: version for url, version in of_every_node.versions.items() if not own.of(url)}
    return State(
        {type_url: {**of_every_node.of(type_url), **own.of(type_url)} for type_url in sorted(types)},
        {**versions, **own.versions},
    )


def _version(state: State) -> str:
    parts = [
        f"{type_url} {name} {named[name].version}"
        for type_url, named in state.resources.items()
        if type_url != ENDPOINT
        for name in sorted(named)
    ]
    return digest(*(part.encode() for part in parts)) if parts else ""

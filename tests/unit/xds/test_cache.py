"""Who is woken by what, and what it then reads."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from mesh.model.workload import Locality
from mesh.snapshot.resource import Resource
from mesh.snapshot.seal import Snapshot
from mesh.snapshot.types import CLUSTER, ENDPOINT
from mesh.xds.cache import Cache
from tests.unit.xds.proxy import a_state

HERE, THERE = Locality("r1", "z1"), Locality("r1", "z2")


def a_snapshot(version: str) -> Snapshot:
    return Snapshot(a_state({CLUSTER: {"a": version}}).resources, version)


def endpoints(**named: str) -> dict[str, Resource]:
    return dict(a_state({ENDPOINT: named}).of(ENDPOINT))


class Watched:
    """A cache, and who has been woken since somebody last looked."""

    def __init__(self, stack: ExitStack) -> None:
        self.cache = Cache()
        self._woken: list[str] = []
        for name, node, locality in (("a here", "a", HERE), ("b here", "b", HERE), ("b there", "b", THERE)):
            stack.enter_context(self.cache.watch(node, locality, lambda name=name: self._woken.append(name)))

    def woken(self) -> list[str]:
        woken, self._woken[:] = list(self._woken), []
        return woken


@pytest.fixture
def watched() -> Iterator[Watched]:
    with ExitStack() as stack:
        yield Watched(stack)


def test_a_snapshot_wakes_every_stream_of_its_node_and_no_other(watched: Watched) -> None:
    watched.cache.publish("b", a_snapshot("1"))

    assert watched.woken() == ["b here", "b there"]


def test_endpoints_wake_every_stream_of_their_locality_and_no_other(watched: Watched) -> None:
    watched.cache.publish_endpoints(HERE, endpoints(a="1"))

    assert watched.woken() == ["a here", "b here"]


def test_equal_content_wakes_nobody(watched: Watched) -> None:
    for _ in range(2):
        watched.cache.publish("a", a_snapshot("1"))
        watched.cache.publish_endpoints(THERE, endpoints(a="1"))

    assert watched.woken() == ["a here", "b there"]


def test_nobody_is_woken_after_the_end_of_a_watch() -> None:
    with ExitStack() as stack:
        watched = Watched(stack)

    watched.cache.publish("a", a_snapshot("1"))
    watched.cache.publish_endpoints(HERE, endpoints(a="1"))

    assert watched.woken() == []


def test_a_node_has_its_own_snapshot_and_the_endpoints_of_its_locality() -> None:
    cache = Cache()
    cache.publish_endpoints(HERE, endpoints(a="here"))
    cache.publish_endpoints(THERE, endpoints(a="there"))
    cache.publish("node", a_snapshot("1"))

    assert cache.state("node", HERE) == a_state({CLUSTER: {"a": "1"}, ENDPOINT: {"a": "here"}})
    assert cache.state("node", THERE) == a_state({CLUSTER: {"a": "1"}, ENDPOINT: {"a": "there"}})
    assert cache.version("node") == "1"


def test_a_node_without_a_snapshot_has_no_state_rather_than_an_empty_one() -> None:
    cache = Cache()
    cache.publish_endpoints(HERE, endpoints(a="1"))
    cache.publish("node", a_snapshot("1"))
    cache.withdraw("node")
    cache.withdraw("never there")

    assert cache.state("node", HERE) is None
    assert cache.version("node") == ""


def test_a_set_of_endpoints_that_its_publisher_changes_later_does_not_change_here() -> None:
    cache, published = Cache(), endpoints(a="1")
    cache.publish("node", a_snapshot("1"))
    cache.publish_endpoints(HERE, published)

    published.clear()

    state = cache.state("node", HERE)
    assert state is not None
    assert set(state.of(ENDPOINT)) == {"a"}

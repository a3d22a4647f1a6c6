"""gRPC clients ask for listeners by name: also for names that mean nothing."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from mesh.api.envoy.config.listener.v3 import listener_pb2
from mesh.api.envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from mesh.model.workload import NOWHERE, Locality
from mesh.snapshot.types import CLUSTER, LISTENER, ROUTE
from mesh.xds.by_name import ByName
from mesh.xds.source import State
from tests.unit.xds.proxy import SotwProxy, a_state

THERE = {LISTENER: {"stock": "1", "web": "1"}, CLUSTER: {"c": "1"}}


class Source:
    """Has one state for everybody."""

    def __init__(self, state: State | None) -> None:
        self.now = state

    def state(self, node_id: str, locality: Locality) -> State | None:
        return self.now

    def version(self, node_id: str) -> str:
        return "a version"

    def watch(self, node_id: str, locality: Locality, changed: Callable[[], None]) -> AbstractContextManager[None]:
        return nullcontext(changed())


def by_name(source: Source, *asked: str) -> ByName:
    return ByName(source, {LISTENER: frozenset(asked)}.__getitem__)


def test_what_is_there_is_told_as_it_is() -> None:
    source = Source(a_state(THERE))

    assert by_name(source, "stock").state("node", NOWHERE) is source.now


def test_a_name_that_means_nothing_gets_a_listener_without_a_virtual_host() -> None:
    state = by_name(Source(a_state(THERE)), "stock", "sotck").state("node", NOWHERE)
    assert state is not None
    listener = listener_pb2.Listener.FromString(state.of(LISTENER)["sotck"].value)
    manager = http_connection_manager_pb2.HttpConnectionManager()
    listener.api_listener.api_listener.Unpack(manager)

    assert state.of(LISTENER).keys() == {"stock", "web", "sotck"}
    assert state.of(CLUSTER).keys() == {"c"}
    assert manager.HasField("route_config")
    assert len(manager.route_config.virtual_hosts) == 0


def test_the_answer_changes_when_the_name_means_something() -> None:
    source = Source(a_state(THERE))
    client = by_name(source, "mail")
    before = client.state("node", NOWHERE)
    source.now = now = a_state({LISTENER: {"mail": "1"}})

    assert before is not None
    assert client.state("node", NOWHERE) is now


def test_what_else_is_there_is_told_as_it_becomes() -> None:
    source = Source(a_state(THERE))
    client = by_name(source, "stock", "sotck")
    client.state("node", NOWHERE)
    source.now = a_state({LISTENER: {"stock": "2"}})
    state = client.state("node", NOWHERE)

    assert state is not None
    assert state.of(LISTENER).keys() == {"stock", "sotck"}
    assert state.of(LISTENER)["stock"] is source.now.of(LISTENER)["stock"]


def test_an_answer_is_made_once_however_many_names_come_after_it() -> None:
    """A client asks for one name after the other, for as many as it likes."""
    asked = {"sotck"}
    client = ByName(Source(a_state(THERE)), lambda _: frozenset(asked))
    one = client.state("node", NOWHERE)
    asked.add("wbe")
    two = client.state("node", NOWHERE)

    assert one is not None
    assert two is not None
    assert two.of(LISTENER).keys() == {"stock", "web", "sotck", "wbe"}
    assert one.of(LISTENER)["sotck"] is two.of(LISTENER)["sotck"]


def test_nothing_is_made_again_while_nothing_changes() -> None:
    client = by_name(Source(a_state(THERE)), "sotck")
    one, two = client.state("node", NOWHERE), client.state("node", NOWHERE)

    assert one is not None
    assert two is not None
    assert one.of(LISTENER) is two.of(LISTENER)


def test_a_client_of_which_nobody_knows_waits() -> None:
    client = by_name(Source(None), "stock")
    seen: list[str] = []

    with client.watch("node", NOWHERE, lambda: seen.append("changed")):
        assert client.state("node", NOWHERE) is None
    assert (seen, client.version("node")) == (["changed"], "a version")


def test_a_client_that_asks_for_single_listeners_is_quiet_without_the_other_types() -> None:
    client = SotwProxy({LISTENER: {"stock": "1"}, ROUTE: {"r": "1"}, CLUSTER: {"c": "1"}})
    responses = client.ask(LISTENER, "stock")

    assert not client.stream.is_quiet(client.state)
    client.ack_all(responses)
    assert client.stream.is_quiet(client.state)
    assert client.stream.asked(LISTENER) == {"stock"}
    assert client.stream.asked(ROUTE) == frozenset()

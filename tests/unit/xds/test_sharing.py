"""What clients that know the same have in common, and that nothing is kept of what none of them has any more."""

import gc
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest

from mesh.api.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from mesh.snapshot.named import Named
from mesh.snapshot.resource import Resource
from mesh.snapshot.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from mesh.xds.delta import DeltaStream
from mesh.xds.known import Known, Step
from mesh.xds.messages import Content, Response
from mesh.xds.sotw import SotwStream
from mesh.xds.source import State
from mesh.xds.wire import DELTA, SOTW, Variant

NAMES = [f"n{number}" for number in range(20)]
TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE)
ZERO = timedelta()


class Client:
    """One that takes whatever it is told. All clients of a test have the very same state."""

    def __init__(self, variant: Variant[DeltaDiscoveryRequest] | Variant[DiscoveryRequest], number: int = 0) -> None:
        self.variant = variant
        self.stream: DeltaStream | SotwStream = (DeltaStream if variant is DELTA else SotwStream)(f"stream {number}")

    def connect(self, state: State, *more: str) -> None:
        for type_url in TYPES:
            names = [] if type_url in (CLUSTER, LISTENER) else [*NAMES, *more]
            self.request(type_url, names)
            self.settle(state)

    def request(self, type_url: str, names: list[str], response: Response | None = None) -> None:
        nonce = response.nonce if response else ""
        if isinstance(self.stream, DeltaStream):
            fresh = [] if response else names
            request = DeltaDiscoveryRequest(type_url=type_url, response_nonce=nonce, resource_names_subscribe=fresh)
            self.stream.receive(request, ZERO)
        else:
            version = response.version if response else ""
            sotw = DiscoveryRequest(type_url=type_url, response_nonce=nonce, resource_names=names, version_info=version)
            self.stream.receive(sotw, ZERO)

    def told(self, state: State) -> Response | None:
        return self.stream.next_response(state, ZERO)

    def ack(self, response: Response) -> None:
        names = [] if response.type_url in (CLUSTER, LISTENER) else NAMES
        self.request(response.type_url, names, response)

    def settle(self, state: State) -> None:
        while response := self.told(state):
            self.ack(response)


def a_state(changed: int = 0) -> State:
    """Everything is there, and each `changed` is another version of one name of each type."""
    return State(
        {
            type_url: Named((name, resource(type_url, name, changed if name == NAMES[0] else 0)) for name in NAMES)
            for type_url in TYPES
        }
    )


def resource(type_url: str, name: str, version: int) -> Resource:
    return Resource(name, type_url, b"x" * 100, str(version))


def next_state(state: State, number: int, type_url: str = ENDPOINT) -> State:
    name = NAMES[number % len(NAMES)]
    changed = Named({**state.of(type_url), name: resource(type_url, name, number)})
    return State({**state.resources, type_url: changed})


VARIANTS = pytest.mark.parametrize("variant", [DELTA, SOTW], ids=["delta", "sotw"])


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def memory() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@VARIANTS
@pytest.mark.parametrize("type_url", TYPES)
def test_clients_that_know_the_same_are_told_the_very_same_but_for_the_nonce(
    variant: Variant[DeltaDiscoveryRequest], type_url: str
) -> None:
    state = a_state()
    clients = [Client(variant, number) for number in range(3)]
    for client in clients:
        client.connect(state)
    later = next_state(state, 1, type_url)

    responses = [client.told(later) for client in clients]

    assert all(responses)
    assert len({id(response.content) for response in responses if response}) == 1
    assert len({response.nonce for response in responses if response}) == 3


@VARIANTS
def test_endpoints_that_are_the_very_same_follow_their_changed_cluster(
    variant: Variant[DeltaDiscoveryRequest],
) -> None:
    state = a_state()
    clients = [Client(variant, number) for number in range(2)]
    for client in clients:
        client.connect(state)
    later = next_state(state, 1, CLUSTER)

    told = [[client.told(later), client.told(later), client.told(later)] for client in clients]

    for clusters, endpoints, more in told:
        assert clusters
        assert endpoints
        assert [one.name for one in endpoints.resources] == [NAMES[1]]
        assert (clusters.type_url, endpoints.type_url, more) == (CLUSTER, ENDPOINT, None)
    assert told[0][1].content is told[1][1].content


def test_a_version_that_was_chosen_for_one_is_not_given_to_another_that_is_told_the_same() -> None:
    state = a_state()
    one, other = Client(SOTW, 1), Client(SOTW, 2)
    one.connect(state)
    other.connect(state)
    resources = next_state(state, 1, ROUTE).resources

    first = one.told(State(resources, {ROUTE: "mine"}))
    second = other.told(State(resources, {ROUTE: "yours"}))

    assert first
    assert second
    assert (first.version, second.version) == ("mine", "yours")


@VARIANTS
def test_who_has_been_refused_something_and_has_mended_it_knows_the_same_again(
    variant: Variant[DeltaDiscoveryRequest],
) -> None:
    state = a_state()
    one, other = Client(variant, 1), Client(variant, 2)
    one.connect(state)
    other.connect(state)
    other.request(ROUTE, [*NAMES, "more"])
    other.settle(state)
    other.request(ROUTE, NAMES)
    later = next_state(state, 1, ROUTE)
    other.settle(state)

    first, second = one.told(later), other.told(later)

    assert first
    assert second
    assert (first.content is second.content) == (variant is SOTW)  # delta: "more" is still asked for
    assert first.resources == second.resources


@VARIANTS
@pytest.mark.usefixtures("traced")
def test_a_client_costs_little_however_many_resources_it_has(variant: Variant[DeltaDiscoveryRequest]) -> None:
    state = a_state()
    first = Client(variant)
    first.connect(state)
    before = memory()

    clients = [Client(variant, number) for number in range(100)]
    for client in clients:
        client.connect(state)

    assert (memory() - before) / len(clients) < 5_000


@VARIANTS
def test_ten_thousand_changes_leave_nothing_behind_also_with_a_client_that_never_answers(
    variant: Variant[DeltaDiscoveryRequest],
) -> None:
    state = a_state()
    good, stuck = Client(variant, 1), Client(variant, 2)
    good.connect(state)
    stuck.connect(state)
    before: Counter[type] = Counter()
    for number in range(10_000):
        if number == 1_000:
            before = kept()
        state = next_state(state, number + 1, (ENDPOINT, CLUSTER, ROUTE)[number % 3])
        good.settle(state)
        stuck.told(state)

    assert kept() == before


def kept() -> Counter[type]:
    """How many there are of what is remembered."""
    gc.collect()
    return Counter(type(one) for one in gc.get_objects() if isinstance(one, Named | Known | Step | Content | Resource))


@pytest.mark.usefixtures("traced")
def test_a_client_with_names_of_its_own_costs_what_it_asks_for_and_others_nothing() -> None:
    state = a_state()
    neighbour = Client(DELTA, 1)
    neighbour.connect(state)
    before = memory()

    strange = Client(DELTA, 2)
    strange.connect(state, *(f"strange {number}" for number in range(10_000)))
    later = next_state(state, 1)
    assert strange.told(later)
    assert neighbour.told(later)
    del strange

    assert memory() - before < 100_000


def test_who_is_told_nothing_new_rests_on_what_is_new() -> None:
    state = a_state()
    client = Client(DELTA)
    client.connect(state)
    later = State({**state.resources, ENDPOINT: Named({**state.of(ENDPOINT), "not asked for": resource("", "x", 1)})})

    assert client.stream.rests(state)
    assert client.stream.rests(later)
    assert not client.stream.rests(next_state(later, 1))
    assert client.told(later) is None

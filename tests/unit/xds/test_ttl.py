"""Resources that live for a time, unless the client hears of them again."""

from datetime import timedelta

import pytest
from google.protobuf.any_pb2 import Any

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.discovery.v3 import discovery_pb2
from mesh.api.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest
from mesh.snapshot.named import Named
from mesh.snapshot.types import CLUSTER, ROUTE
from mesh.xds.delta import DeltaStream
from mesh.xds.source import State
from mesh.xds.wire import DELTA, SOTW
from tests.unit.xds.proxy import TTL_FEATURES, Proxy, SotwProxy, a_state, sent

TTL = timedelta(seconds=10)
Client = Proxy | SotwProxy
VARIANTS = pytest.mark.parametrize("client", [Proxy, SotwProxy], ids=["delta", "sotw"])


def living(client: type[Client], features: tuple[str, ...] = TTL_FEATURES) -> Client:
    proxy = client({ROUTE: {"a": "1"}}, features=features)
    proxy.ttl = TTL
    return proxy


@VARIANTS
def test_a_ttl_is_only_sent_to_clients_that_support_it(client: type[Client]) -> None:
    [able] = living(client).ask(ROUTE, "a")
    [unable] = living(client, features=()).ask(ROUTE, "a")

    assert [one.ttl for one in able.resources] == [TTL]
    assert [one.ttl for one in unable.resources] == [None]


def test_a_sotw_client_has_to_support_wrapped_resources_too() -> None:
    [response] = living(SotwProxy, features=TTL_FEATURES[:1]).ask(ROUTE, "a")

    assert [one.ttl for one in response.resources] == [None]


@VARIANTS
def test_a_heartbeat_comes_before_the_end_and_again_and_again(client: type[Client]) -> None:
    proxy = living(client)
    proxy.ack_all(proxy.ask(CLUSTER, "none"))
    proxy.ack_all(proxy.ask(ROUTE, "a"))
    assert proxy.stream.next_deadline() == TTL / 2
    assert proxy.wait(4.9) == []

    for _ in range(3):
        [beat] = proxy.wait(5)
        assert (beat.resources, [one.name for one in beat.heartbeats]) == ((), ["a"])
        assert proxy.stream.is_quiet(proxy.state)
        assert proxy.ack(beat) == []


def test_only_what_has_a_ttl_is_repeated() -> None:
    living, lasting = (a_state({ROUTE: {name: "1"}}, ttl=ttl).of(ROUTE) for name, ttl in (("a", TTL), ("b", None)))
    state, stream = State({ROUTE: Named({**living, **lasting})}), DeltaStream("stream")
    node = base_pb2.Node(client_features=TTL_FEATURES)
    stream.receive(DeltaDiscoveryRequest(node=node, type_url=ROUTE, resource_names_subscribe=["a", "b"]), timedelta())
    response = stream.next_response(state, timedelta())
    assert response
    stream.receive(DeltaDiscoveryRequest(type_url=ROUTE, response_nonce=response.nonce), timedelta())

    beat = stream.next_response(state, TTL / 2)

    assert beat
    assert [one.name for one in beat.heartbeats] == ["a"]


@VARIANTS
def test_a_change_behind_a_heartbeat_is_not_quiet(client: type[Client]) -> None:
    proxy = living(client)
    proxy.ack_all(proxy.ask(ROUTE, "a"))
    [beat] = proxy.wait(5)

    assert proxy.change(ROUTE, {"a": "2"}) == []
    assert not proxy.stream.is_quiet(proxy.state)

    proxy.ack_all(proxy.ack(beat))
    assert proxy.stream.is_quiet(proxy.state)


@VARIANTS
def test_resources_without_a_ttl_are_not_repeated(client: type[Client]) -> None:
    proxy = client({ROUTE: {"a": "1"}}, features=TTL_FEATURES)
    proxy.ack_all(proxy.ask(ROUTE, "a"))

    assert proxy.stream.next_deadline() is None
    assert proxy.wait(3600) == []


@VARIANTS
def test_a_ttl_that_is_taken_away_is_said_by_sending_the_resource(client: type[Client]) -> None:
    proxy = living(client)
    proxy.ack_all(proxy.ask(ROUTE, "a"))
    proxy.ttl = None

    [response] = proxy.responses()

    assert [(one.name, one.ttl) for one in response.resources] == [("a", None)]
    proxy.ack(response)
    assert proxy.wait(3600) == []


def test_a_delta_heartbeat_is_a_resource_without_a_body() -> None:
    proxy = living(Proxy)
    proxy.ack_all(first := proxy.ask(ROUTE, "a"))
    [beat] = proxy.wait(5)

    message = discovery_pb2.DeltaDiscoveryResponse.FromString(DELTA.encode(beat, "proa"))
    [resource] = message.resources
    assert (resource.name, resource.version, resource.ttl.ToTimedelta()) == ("a", "1", TTL)
    assert not resource.HasField("resource")
    whole = discovery_pb2.DeltaDiscoveryResponse.FromString(DELTA.encode(first[0], "proa"))
    assert whole.resources[0].ttl.ToTimedelta() == TTL


def test_a_sotw_resource_with_a_ttl_is_wrapped_and_others_are_not() -> None:
    proxy = living(SotwProxy)
    proxy.ack_all(first := proxy.ask(ROUTE, "a"))
    [beat] = proxy.wait(5)
    [plain] = SotwProxy({CLUSTER: {"a": "1"}}).ask(CLUSTER)

    assert unwrapped(SOTW.encode(first[0], "proa")).resource == Any(type_url=ROUTE, value=b"1")
    assert not unwrapped(SOTW.encode(beat, "proa")).HasField("resource")
    message = discovery_pb2.DiscoveryResponse.FromString(SOTW.encode(plain, "proa"))
    assert list(message.resources) == [Any(type_url=CLUSTER, value=b"1")]
    assert (message.type_url, message.version_info, message.nonce) == (CLUSTER, plain.version, plain.nonce)
    assert message.control_plane.identifier == "proa"
    assert sent(plain) == {"a": "1"}


def unwrapped(message: bytes) -> discovery_pb2.Resource:
    [packed] = discovery_pb2.DiscoveryResponse.FromString(message).resources
    wrapper = discovery_pb2.Resource()
    assert packed.Unpack(wrapper)
    return wrapper

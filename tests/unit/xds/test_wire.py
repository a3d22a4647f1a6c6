"""What goes over the wire, and who may be at its other end."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.discovery.v3 import discovery_pb2
from mesh.api.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from mesh.api.envoy.type.v3 import semantic_version_pb2
from mesh.errors import IdentityError, MeshError, ProtocolError
from mesh.model.workload import Locality
from mesh.snapshot.named import Named
from mesh.snapshot.resource import Resource
from mesh.snapshot.types import CLUSTER
from mesh.xds.messages import Content, Response
from mesh.xds.peer import Peer, admit
from mesh.xds.wire import DELTA, SOTW
from tests.unit.xds.proxy import Proxy, SotwProxy

SHOP = "spiffe://proa.local/ns/shop/sa/orders"
PROVEN = {"peer_spiffe_id": [SHOP.encode()]}


def test_a_response_says_all_that_the_protocol_asks_for() -> None:
    [response] = Proxy({CLUSTER: {"a": "1"}}).ask(CLUSTER, "a", "ghost")

    message = DeltaDiscoveryResponse.FromString(DELTA.encode(response, "proa/1"))

    [resource] = message.resources
    assert (resource.name, resource.version, resource.resource.value) == ("a", "1", b"1")
    assert message.type_url == resource.resource.type_url == CLUSTER
    assert message.removed_resources == ["ghost"]
    assert (message.nonce, message.system_version_info) == (response.nonce, response.version)
    assert message.control_plane.identifier == "proa/1"


@pytest.mark.parametrize("client", [Proxy, SotwProxy], ids=["delta", "sotw"])
def test_what_is_said_on_two_streams_is_encoded_once_and_signed_twice(client: type[Proxy | SotwProxy]) -> None:
    variant: Any = DELTA if client is Proxy else SOTW
    kind: Any = discovery_pb2.DeltaDiscoveryResponse if client is Proxy else discovery_pb2.DiscoveryResponse
    [first] = client({CLUSTER: {"a": "1"}}).ask(CLUSTER, "a")
    second = Response("another", first.content)
    [other] = [replace(first.content, version="2")]

    messages = [kind.FromString(variant.encode(one, "proa")) for one in (first, second, Response("more", other))]

    assert [message.nonce for message in messages] == [first.nonce, "another", "more"]
    assert messages[0].resources == messages[1].resources == messages[2].resources
    assert first.content.size == 1


@pytest.mark.parametrize("variant", [DELTA, SOTW], ids=["delta", "sotw"])
def test_what_is_one_proxys_own_is_joined_with_what_others_have(variant: Any) -> None:
    kind = {DELTA: DeltaDiscoveryResponse, SOTW: discovery_pb2.DiscoveryResponse}[variant]
    shared = Named((name, Resource(name, CLUSTER, name.encode(), "1")) for name in "ac")
    for _ in range(3):
        for own in ("b", "d"):
            whole = Named.joined(shared, Named({own: Resource(own, CLUSTER, b"own", own)}))
            content = Content(CLUSTER, "v", tuple(whole.values()), whole=whole)

            message = kind.FromString(variant.encode(Response("n", content), "proa"))

            values = [(one.resource if variant is DELTA else one).value for one in message.resources]
            assert sorted(values) == [b"a", b"c", b"own"]
            assert (content.size, message.nonce) == (5, "n")
    assert set(shared.bodies) == {variant.name}
    assert set(whole.parts[1].bodies.values()) == {b""}


@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 20_000, 3_000_000])
@pytest.mark.parametrize("ttl", [None, timedelta(seconds=1.5)], ids=["for ever", "for a time"])
def test_resources_of_any_size_are_in_a_response_as_they_are(size: int, ttl: timedelta | None) -> None:
    made = [Resource(name, CLUSTER, b"x" * size, "1", ttl=ttl) for name in ("a", "name " * 50)]
    content = Content(CLUSTER, "v", tuple(made))

    delta = discovery_pb2.DeltaDiscoveryResponse.FromString(DELTA.encode(Response("n", content), "proa"))
    sotw = discovery_pb2.DiscoveryResponse.FromString(SOTW.encode(Response("n", content), "proa"))

    bodies = [one.resource for one in delta.resources]
    assert [(one.name, one.version, one.ttl.ToTimedelta()) for one in delta.resources] == [
        (one.name, one.version, one.ttl or timedelta()) for one in made
    ]
    assert bodies == [AnyMessage(type_url=CLUSTER, value=one.value) for one in made]
    assert [unwrapped(one) for one in sotw.resources] == (list(delta.resources) if ttl else bodies)


def unwrapped(message: AnyMessage) -> AnyMessage | discovery_pb2.Resource:
    wrapper = discovery_pb2.Resource()
    return wrapper if message.Unpack(wrapper) else message


def test_bytes_that_are_no_request_are_refused() -> None:
    with pytest.raises(ProtocolError, match="DeltaDiscoveryRequest"):
        DELTA.decode(b"\xff\xff\xff")
    with pytest.raises(ProtocolError, match="a DiscoveryRequest"):
        SOTW.decode(b"\xff\xff\xff")


def test_a_request_is_what_its_bytes_say() -> None:
    request = DeltaDiscoveryRequest(type_url=CLUSTER, resource_names_subscribe=["a"])

    assert DELTA.decode(request.SerializeToString()) == request


def test_a_peer_is_who_its_certificate_says_at_the_place_that_its_node_says() -> None:
    node = base_pb2.Node(
        id="shop/orders/orders-0",
        locality=base_pb2.Locality(region="r1", zone="z1"),
        user_agent_build_version=base_pb2.BuildVersion(
            version=semantic_version_pb2.SemanticVersion(major_number=1, minor_number=40, patch=0)
        ),
    )

    peer = admit(node, PROVEN, {"shop/orders/orders-0": SHOP}.get)

    assert peer == Peer("shop/orders/orders-0", SHOP, Locality("r1", "z1"), "1.40.0")


def test_a_client_that_is_no_envoy_may_say_its_version_in_words() -> None:
    node = base_pb2.Node(id="a", user_agent_version="1.85.1-dev")

    assert admit(node, PROVEN, {"a": SHOP}.get).envoy_version == "1.85.1-dev"


@pytest.mark.parametrize(
    ("node_id", "proven", "error", "words"),
    [
        pytest.param("", PROVEN, ProtocolError, "no node id", id="nobody"),
        pytest.param("ghost", PROVEN, IdentityError, "no agent has attached", id="a node that is not attached"),
        pytest.param("a", {}, IdentityError, "says nothing", id="no SPIFFE id"),
        pytest.param("other", PROVEN, IdentityError, SHOP, id="the node of somebody else"),
    ],
)
def test_others_are_refused_with_the_reason(
    node_id: str, proven: dict[str, list[bytes]], error: type[MeshError], words: str
) -> None:
    recorded = {"a": SHOP, "other": "spiffe://proa.local/ns/shop/sa/other"}

    with pytest.raises(error, match=words):
        admit(base_pb2.Node(id=node_id), proven, recorded.get)

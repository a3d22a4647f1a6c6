"""Snapshots: equal content, equal versions; contradictions are refused."""

import pytest

from mesh.api.envoy.config.cluster.v3 import cluster_pb2
from mesh.api.envoy.config.core.v3 import base_pb2, grpc_service_pb2
from mesh.api.envoy.config.route.v3 import route_components_pb2, route_pb2
from mesh.errors import SnapshotError
from mesh.snapshot.references import references
from mesh.snapshot.resource import Resource, digest, resource
from mesh.snapshot.seal import by_name, part, seal
from mesh.snapshot.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from mesh.translate.resources import Resources
from mesh.translate.wrappers import typed_config
from tests.unit.translate.scenarios import SCENARIOS

GRPC = SCENARIOS["grpc"]


def test_equal_config_has_an_equal_version_and_other_config_another() -> None:
    one, again = seal(part(GRPC.shared), part(GRPC.own)), seal(part(GRPC.shared), part(GRPC.own))
    other = seal(part(SCENARIOS["retry"].shared), part(SCENARIOS["retry"].own))

    assert one == again
    assert one.version != other.version
    assert one.of(LISTENER).keys() == {"inbound/8080", "outbound", "upstream/stock"}
    assert one.of(ENDPOINT) == {}


def test_a_resource_is_bytes_with_the_digest_of_them() -> None:
    sealed = resource("a", cluster_pb2.Cluster(name="a"))

    assert sealed.type_url == CLUSTER
    assert cluster_pb2.Cluster.FromString(sealed.value).name == "a"
    assert sealed.version == digest(sealed.value)


def test_a_digest_knows_where_its_parts_end() -> None:
    assert digest(b"ab", b"c") != digest(b"a", b"bc")


def test_two_resources_of_one_name_are_refused() -> None:
    once = Resources(clusters=(cluster_pb2.Cluster(name="a"),))
    twice = Resources(clusters=(cluster_pb2.Cluster(name="a"), cluster_pb2.Cluster(name="a")))

    with pytest.raises(SnapshotError, match="a: two resources of one type have this name"):
        part(twice)
    with pytest.raises(SnapshotError, match="a: two resources of one type have this name"):
        seal(part(once), part(once))


def test_one_resource_that_is_listed_twice_is_refused_too() -> None:
    one = Resource("a", "type", b"1", "1")

    with pytest.raises(SnapshotError, match="a: two resources of one type have this name"):
        by_name((one, one))


@pytest.mark.parametrize(
    ("shared", "message"),
    [
        pytest.param(
            Resources(clusters=GRPC.shared.clusters),
            "Listener inbound/8080: it names RouteConfiguration inbound/8080, which is not there",
            id="a listener without its routes",
        ),
        pytest.param(
            Resources(routes=GRPC.shared.routes),
            "RouteConfiguration outbound: it names Cluster shop/stock/50051, which is not there",
            id="a route without its cluster",
        ),
    ],
)
def test_a_reference_to_what_is_not_there_is_refused(shared: Resources, message: str) -> None:
    with pytest.raises(SnapshotError, match=message):
        seal(part(shared), part(GRPC.own))


def test_a_tcp_listener_needs_its_cluster_too() -> None:
    tcp = SCENARIOS["tcp"]
    with pytest.raises(SnapshotError, match="it names Cluster app/5432"):
        seal(part(tcp.shared), part(Resources(listeners=tcp.own.listeners)))


def test_weighted_clusters_and_mirrors_are_references() -> None:
    action = route_components_pb2.RouteAction
    weighted = route_components_pb2.WeightedCluster(
        clusters=[route_components_pb2.WeightedCluster.ClusterWeight(name=name) for name in "ab"]
    )
    route = route_components_pb2.Route(
        route=action(weighted_clusters=weighted, request_mirror_policies=[action.RequestMirrorPolicy(cluster="c")])
    )
    host = route_components_pb2.VirtualHost(routes=[route])

    assert set(references(route_pb2.RouteConfiguration(name="r", virtual_hosts=[host]))) == {
        (CLUSTER, "a"),
        (CLUSTER, "b"),
        (CLUSTER, "c"),
    }


def test_references_are_found_in_maps_and_in_packed_messages() -> None:
    names = set(references(GRPC.own.listeners[0]))

    assert {(ROUTE, "inbound/8080"), (CLUSTER, "telemetry")} == names
    assert list(references(grpc_service_pb2.GrpcService(initial_metadata=[{"key": "a", "value": "b"}]))) == []
    typed = {"a": typed_config(route_components_pb2.RouteAction(cluster="c"))}
    assert list(references(base_pb2.Metadata(typed_filter_metadata=typed))) == [(CLUSTER, "c")]

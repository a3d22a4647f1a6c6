"""What workloads imply."""

import pytest

from mesh.model.address import Address
from mesh.model.documents import Documents, Key, key_of
from mesh.model.names import Identity, Target
from mesh.model.shape import shape_of
from mesh.model.topology import Topology, topology_of
from mesh.model.workload import Protocol
from tests.builders import a_document, a_policy, a_workload, documents, workload


def test_workloads_of_one_service_are_one_service_with_versions() -> None:
    mesh = documents(
        a_workload("orders", "port: 1, serviceAccount: clerk"),
        a_workload("orders-next", "service: orders, version: v2, ports: [{port: 1}, {port: 2, appProtocol: tcp}]"),
    )
    service = topology_of(mesh).service("shop", "orders")

    assert service is not None
    assert [(port.number, port.protocol) for port in service.ports] == [(1, Protocol.GRPC), (2, Protocol.TCP)]
    clerk, orders = Identity("proa.local", "shop", "clerk"), Identity("proa.local", "shop", "orders")
    assert service.identities_of() == (clerk, orders)
    assert service.identities_of("v1") == (clerk,)
    assert service.identities_of("v2") == (orders,)
    assert service.identities_of("v3") == ()


def test_of_two_workloads_that_disagree_on_a_port_the_first_by_name_counts() -> None:
    mesh = documents(
        a_workload("b", "service: s, ports: [{port: 1, appProtocol: tcp}]"),
        a_workload("a", "service: s, ports: [{port: 1, appProtocol: http}]"),
    )
    service = topology_of(mesh).service("shop", "s")

    assert service is not None
    assert [port.protocol for port in service.ports] == [Protocol.HTTP]


@pytest.mark.parametrize(
    ("service", "port", "target"),
    [
        pytest.param("orders", None, Target("shop", "orders", 7), id="the first port"),
        pytest.param("orders", 3, Target("shop", "orders", 3), id="a port by number"),
        pytest.param("orders", 4, None, id="a port that is not there"),
        pytest.param("nobody", None, None, id="a service that is not there"),
    ],
)
def test_a_caller_names_a_service_and_perhaps_a_port(service: str, port: int | None, target: Target | None) -> None:
    topology = topology_of(documents(a_workload("orders", "ports: [{port: 7}, {port: 3}]")))

    assert topology.target("shop", service, port) == target


def test_a_mesh_without_workloads_has_no_services() -> None:
    assert topology_of(Documents()) == Topology()


def test_a_shape_leaves_out_upstreams_that_are_not_there() -> None:
    mesh = documents(
        a_workload("a", "port: 1, upstreams: [{service: b}, {service: nobody}]"), a_workload("b", "port: 2")
    )

    assert shape_of(workload(mesh, "a"), topology_of(mesh)).upstreams == (Target("shop", "b", 2),)
    assert shape_of(workload(mesh, "b"), topology_of(mesh)).upstreams is None


def test_equal_documents_are_equal_in_any_order() -> None:
    texts = [
        a_workload("a"),
        a_policy("p", "{targetRefs: [{kind: Service, name: a}]}"),
        a_document("Mesh", "default", namespace="default"),
    ]
    there, back = documents(*texts), documents(*reversed(texts))

    assert [key_of(w) for w in there.workloads] == [key_of(w) for w in back.workloads] == [Key("Workload", "shop", "a")]
    assert topology_of(there) == topology_of(back)
    assert str(key_of(there.mesh)) == "Mesh/default/default"


def test_addresses_are_read_as_they_are_written() -> None:
    assert str(Address.parse("127.0.0.1:80")) == "127.0.0.1:80"


@pytest.mark.parametrize("text", ["80", ":80", "host:", "host:http", "host:-1", "host:65536", "host:٣"])
def test_what_is_no_address_is_told_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        Address.parse(text)


def test_which_protocols_speak_http2() -> None:
    assert [protocol for protocol in Protocol if protocol.speaks_http2] == [Protocol.GRPC, Protocol.HTTP2]

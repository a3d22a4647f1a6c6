"""Which documents a resource was made from."""

import pytest

from mesh.controlplane.provenance import Provenance, client_provenance, provenance
from mesh.model.documents import Documents
from mesh.model.names import NOBODY
from mesh.model.shape import client_shape
from mesh.model.topology import topology_of
from mesh.policy.view import view_for
from mesh.snapshot.seal import part, seal
from mesh.snapshot.types import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, RUNTIME
from mesh.translate.resources import instance_resources, resources_for
from tests.builders import (
    a_document,
    a_grpc_route,
    a_policy,
    a_view,
    a_workload,
    an_instance,
    documents,
    workload,
)
from tests.unit.translate.scenarios import SCENARIOS

FOR_EVERY_PROXY = {RUNTIME, EXTENSION}

SHOP = documents(
    a_workload("web", "port: 8080, upstreams: [{service: stock}]"),
    a_workload("stock"),
    a_workload("stock-canary", "port: 50051, service: stock, version: v2"),
    a_workload("mail"),
    a_policy("of-service", "{targetRefs: [{kind: Service, name: stock}], retry: {numRetries: 3}}"),
    a_policy("of-port", "{targetRefs: [{kind: Service, name: stock, sectionName: grpc}], retry: {numRetries: 4}}"),
    a_policy("of-mail", "{targetRefs: [{kind: Service, name: mail}], retry: {numRetries: 5}}"),
)


def provenance_of(name: str, mesh: Documents = SHOP) -> Provenance:
    return provenance(workload(mesh, name), topology_of(mesh), mesh)


def made_from(type_url: str, name: str, of: str = "web") -> list[str]:
    return [origin.key.name for origin in provenance_of(of)[type_url, name]]


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_resource_of_a_proxy_has_documents_behind_it(name: str) -> None:
    mesh = SCENARIOS[name].mesh
    snapshot = seal(part(resources_for(a_view(mesh, "web"))), part(instance_resources(an_instance(mesh, "web"))))

    unknown = {
        (type_url, resource)
        for type_url, named in snapshot.resources.items()
        for resource in named
        if type_url not in FOR_EVERY_PROXY
    } - provenance_of("web", mesh).keys()

    assert unknown == set()


@pytest.mark.parametrize("type_url", [CLUSTER, ENDPOINT])
def test_a_service_is_what_its_workloads_say(type_url: str) -> None:
    assert made_from(type_url, "shop/stock/50051") == ["stock", "stock-canary"]


def test_routes_are_made_from_policies_before_all_else() -> None:
    assert made_from(ROUTE, "upstream/shop/stock/50051") == ["of-port", "of-service", "stock", "stock-canary"]


def test_the_routes_of_the_outbound_port_are_made_from_all_that_the_proxy_may_call() -> None:
    assert made_from(ROUTE, "outbound") == ["of-port", "of-service", "stock", "stock-canary", "web"]
    assert made_from(ROUTE, "outbound", of="mail")[:3] == ["of-mail", "of-port", "of-service"]


def test_routes_are_made_from_the_grants_that_let_them_lead_elsewhere() -> None:
    to = "{from: [{group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: shop}], to: [{group: '', kind: %s}]}"
    mesh = documents(
        a_workload("web", "port: 8080, upstreams: [{service: stock}]"),
        a_workload("stock"),
        a_workload("far", namespace="east"),
        a_grpc_route("r", "{backendRefs: [{name: far, namespace: east, port: 50051}]}", "stock"),
        a_document("ReferenceGrant", "services", to % "Service", "east"),
        a_document("ReferenceGrant", "secrets", to % "Secret", "east"),
        a_document("ReferenceGrant", "nowhere", to % "Service", "west"),
    )

    origins = provenance_of("web", mesh)[ROUTE, "upstream/shop/stock/50051"]

    assert [origin.key.name for origin in origins] == ["r", "services", "far", "stock"]


@pytest.mark.parametrize(
    ("type_url", "name"),
    [
        (LISTENER, "inbound/8080"),
        (LISTENER, "outbound"),
        (LISTENER, "upstream/stock"),
        (ROUTE, "inbound/8080"),
        (CLUSTER, "app/8080"),
    ],
)
def test_what_is_the_proxys_own_comes_from_its_own_workload(type_url: str, name: str) -> None:
    assert made_from(type_url, name) == ["web"]


def test_what_is_out_of_scope_is_not_in_it() -> None:
    assert (CLUSTER, "shop/mail/50051") not in provenance_of("web")


def test_an_origin_says_where_the_document_is_written() -> None:
    [origin] = provenance_of("web")[LISTENER, "outbound"]

    assert (str(origin.key), origin.where) == ("Workload/shop/web", "mesh.yaml:1")


def test_what_a_grpc_client_has_is_made_from_what_it_calls_and_from_no_document_of_its_own() -> None:
    found = client_provenance("elsewhere", topology_of(SHOP), SHOP)
    view = view_for(client_shape("elsewhere"), topology_of(SHOP), SHOP)
    named = part(resources_for(view)).resources.items()

    assert {(url, name) for url, of_type in named for name in of_type} - {(CLUSTER, NOBODY)} <= found.keys()
    behind = [origin.key.name for origin in found[LISTENER, "stock.shop"]]
    assert behind == ["of-port", "of-service", "stock", "stock-canary"]

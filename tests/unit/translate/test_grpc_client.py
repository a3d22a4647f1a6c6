"""What is promised of the resources of gRPC clients without a sidecar, each by name."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mesh.model.names import Target, upstream_routes_name
from mesh.model.schema import Method, Schema
from mesh.model.shape import Role, client_shape
from mesh.model.topology import topology_of
from mesh.policy.view import ProxyView, view_for
from mesh.snapshot.seal import part, seal
from mesh.snapshot.types import CLUSTER, LISTENER, ROUTE
from mesh.translate.grpc_client import client_cluster, client_listener, client_nobody, client_routes
from mesh.translate.resources import instance_resources, resources_for
from tests.builders import a_document, a_grpc_route, a_policy, a_workload, an_instance, documents
from tests.unit.translate.scenarios import as_json

STOCK = Target("shop", "stock", 50051)
_RETRY = (
    "{targetRefs: [{kind: Service, name: stock}],"
    "retry: {numRetries: 3, retryOn: {triggers: [unavailable]}, allowUnsafe: true}}"
)
_PLAIN = documents(a_workload("stock", "port: 50051, serviceAccount: clerk"))
_RETRIED = documents(a_workload("stock", "port: 50051, serviceAccount: clerk"), a_policy("retry", _RETRY))


def view(mesh: Any = _PLAIN) -> ProxyView:
    return view_for(client_shape("shop"), topology_of(mesh), mesh)


def cluster(mesh: Any = _PLAIN) -> dict[str, Any]:
    [destination] = view(mesh).destinations
    return as_json(client_cluster(destination))


def action(mesh: Any) -> dict[str, Any]:
    [host] = view(mesh).virtual_hosts
    [virtual_host] = as_json(client_routes(host))["virtual_hosts"]
    [route] = virtual_host["routes"]
    assert virtual_host["domains"] == ["*"]
    found: dict[str, Any] = route["route"]
    return found


def test_a_listener_has_the_name_that_is_dialled_and_leads_to_the_routes_of_what_it_means() -> None:
    listener = as_json(client_listener(("stock.shop:50051", STOCK)))
    manager = listener["api_listener"]["api_listener"]

    assert listener["name"] == "stock.shop:50051"
    assert manager["rds"]["route_config_name"] == upstream_routes_name(STOCK)
    assert [one["name"] for one in manager["http_filters"]] == ["envoy.filters.http.router"]
    assert "address" not in listener


def test_routes_know_the_retries_of_grpc_and_no_more() -> None:
    assert action(_PLAIN) == {"cluster": "shop/stock/50051"}
    assert action(_RETRIED)["retry_policy"] == {
        "retry_on": "unavailable",
        "num_retries": 3,
        "retry_back_off": {"base_interval": "0.050s", "max_interval": "0.500s"},
    }


def test_a_deadline_has_room_for_what_the_library_takes_away() -> None:
    limit = "{methods: [{method: {service: a.B, method: C}, timeouts: {request: 3s}}],"
    policy = a_policy("limit", limit + "targetRefs: [{kind: Service, name: stock}]}")
    [host] = view(documents(a_workload("stock"), policy)).virtual_hosts
    [limited, other] = as_json(client_routes(host))["virtual_hosts"][0]["routes"]

    assert set(limited["route"]["max_stream_duration"].values()) == {"5s"}
    assert "max_stream_duration" not in other["route"]


@pytest.mark.parametrize(("methods", "routes"), [(100, 100 * 64 + 64 + 3), (200, 64 + 3)])
def test_the_methods_of_a_schema_make_no_list_without_end(methods: int, routes: int) -> None:
    """With 64 rules for headers each method would stand in it 64 times."""
    matches = ", ".join(f"{{headers: [{{name: a, value: '{number}'}}]}}" for number in range(64))
    route = a_grpc_route("r", f"{{matches: [{matches}], backendRefs: [{{name: stock, port: 50051}}]}}", "stock")
    mesh = documents(a_workload("stock"), route, a_policy("retry", _RETRY))
    schema = Schema.of(Method("a.B", f"M{number}") for number in range(methods))
    [host] = view_for(client_shape("shop"), topology_of(mesh, {("shop", "stock", "v1"): schema}), mesh).virtual_hosts

    made = as_json(client_routes(host))["virtual_hosts"][0]["routes"]

    assert len(made) == routes
    assert [("max_stream_duration" in one["route"], "retry_policy" in one["route"]) for one in made[-routes:][:1]] == [
        (methods == 100, methods == 100)
    ]


def test_a_route_shares_calls_by_weight_and_what_cannot_be_called_is_the_share_of_nobody() -> None:
    backend = "{{group: '', kind: Service, name: {}, port: 50051, weight: {}}}"
    to = f"{{backendRefs: [{backend.format('stock', 3)}, {backend.format('sotck', 1)}]}}"
    spec = f"{{parentRefs: [{{group: '', kind: Service, name: stock}}], rules: [{to}]}}"
    route = a_document("GRPCRoute", "r", spec)
    [host] = view(documents(a_workload("stock"), route)).virtual_hosts
    [first, *_] = as_json(client_routes(host))["virtual_hosts"][0]["routes"]

    shares = [(one["name"], one["weight"]) for one in first["route"]["weighted_clusters"]["clusters"]]
    assert shares == [("shop/stock/50051", 3), ("nobody", 1)]


def test_calls_are_kept_together_by_a_header_and_not_by_a_cookie() -> None:
    wish = (
        "{{targetRefs: [{{kind: Service, name: stock}}], loadBalancer: {{type: ConsistentHash, consistentHash: {}}}}}"
    )
    stock = a_workload("stock")
    by_header = documents(stock, a_policy("p", wish.format("{type: Header, header: {name: x-user}}")))
    by_cookie = documents(stock, a_policy("p", wish.format("{type: Cookie, cookie: {name: session}}")))

    assert cluster(by_header)["lb_policy"] == cluster(by_cookie)["lb_policy"] == "RING_HASH"
    assert action(by_header)["hash_policy"] == [{"header": {"header_name": "x-user"}, "terminal": True}]
    assert "hash_policy" not in action(by_cookie)


def test_calls_are_kept_together_as_the_backends_of_their_own_route_want_it() -> None:
    wish = "{targetRefs: [{kind: Service, name: NAME}], loadBalancer: {type: ConsistentHash, consistentHash: BY}}"
    policies = [
        a_policy(name, wish.replace("NAME", name).replace("BY", f"{{type: Header, header: {{name: x-{name}}}}}"))
        for name in ("stock", "old")
    ]
    rules = (
        "{matches: [{method: {service: a.Old}}], backendRefs: [{name: old, port: 50051}]}, "
        "{backendRefs: [{name: stock, port: 50051}]}"
    )
    mesh = documents(
        a_workload("stock"),
        a_workload("old"),
        *policies,
        a_grpc_route("r", rules, "stock"),
    )
    host = next(one for one in view(mesh).virtual_hosts if one.target.service == "stock")
    routes = as_json(client_routes(host))["virtual_hosts"][0]["routes"]

    keys_by = {
        one["route"]["cluster"]: [by["header"]["header_name"] for by in one["route"]["hash_policy"]] for one in routes
    }
    assert keys_by == {"shop/old/50051": ["x-old"], "shop/stock/50051": ["x-stock"]}


def test_a_route_to_nobody_is_one_to_the_cluster_of_nobody() -> None:
    """Without a cluster a client would refuse all routes of the service."""
    route = a_grpc_route("r", "{backendRefs: [{name: sotck, port: 50051}]}", "stock")
    [host] = view(documents(a_workload("stock"), route)).virtual_hosts

    assert as_json(client_routes(host))["virtual_hosts"][0]["routes"][0]["route"]["cluster"] == "nobody"


def test_a_client_ejects_by_success_rate_alone_and_half_at_most() -> None:
    """By default gRPC would eject by the percentage of failures, too, and NOT_FOUND is one."""
    assert cluster()["outlier_detection"] == {
        "interval": "5s",
        "base_ejection_time": "10s",
        "max_ejection_time": "60s",
        "max_ejection_percent": 50,
        "enforcing_success_rate": 100,
        "enforcing_failure_percentage": 0,
    }


def test_nobody_is_a_cluster_of_its_own_that_nobody_can_answer_for() -> None:
    nobody = as_json(client_nobody("nobody"))
    [locality] = nobody["load_assignment"]["endpoints"]
    [endpoint] = locality["lb_endpoints"]

    assert endpoint["endpoint"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 0}
    assert "transport_socket" in nobody


def test_whoever_answers_must_prove_the_account_of_the_service_in_the_field_that_grpc_reads() -> None:
    context = cluster()["transport_socket"]["typed_config"]["common_tls_context"]

    assert context["validation_context"] == {
        "ca_certificate_provider_instance": {"instance_name": "proa"},
        "match_subject_alt_names": [{"exact": "spiffe://proa.local/ns/shop/sa/clerk"}],
    }
    assert context["tls_certificate_provider_instance"] == {"instance_name": "proa"}


def test_nothing_is_asked_of_a_client_that_would_make_it_refuse_the_cluster() -> None:
    assert cluster().get("lb_policy", "ROUND_ROBIN") == "ROUND_ROBIN"
    assert cluster()["circuit_breakers"]["thresholds"] == [{"max_requests": 10_000}]
    assert not {"tls_params", "alpn_protocols", "combined_validation_context"} & set(keys(cluster()))
    assert not {"sds_config", "tls_certificate_sds_secret_configs", "transport_socket_matches"} & set(keys(cluster()))


def test_a_client_has_a_listener_for_each_name_and_nothing_of_a_sidecar() -> None:
    shared, own = (
        resources_for(view()),
        instance_resources(replace(an_instance(_PLAIN, "stock"), role=Role.GRPC_CLIENT)),
    )
    snapshot = seal(part(shared), part(own))

    assert {"stock", "stock:50051", "stock.shop.svc.cluster.local:50051"} <= snapshot.of(LISTENER).keys()
    assert {url for url, named in snapshot.resources.items() if named} == {CLUSTER, LISTENER, ROUTE}


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield key
            yield from keys(part)
    elif isinstance(value, list):
        for part in value:
            yield from keys(part)

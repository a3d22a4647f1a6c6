"""Which rule decides over a call: who it is for, which comes first, and what becomes of a backend that is not there."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.model.documents import Documents
from mesh.model.names import Target
from mesh.model.route import GrpcMatch, GRPCRoute, HttpMatch, HTTPRoute, MethodMatch
from mesh.model.topology import topology_of
from mesh.policy.routing import Route, Share, bound_routes, fits, in_order, routes_to
from tests.builders import a_document, a_grpc_route, a_workload, an_http_route, documents

ORDERS, V2 = Target("shop", "orders", 50051), Target("shop", "orders", 50051, "v2")
SHOP = (a_workload("orders"), a_workload("orders-v2", "service: orders, version: v2, port: 50051"),
        a_workload("web", "ports: [{port: 80, appProtocol: http}, {port: 81, appProtocol: http2}]"))  # fmt: skip
TO_ORDERS, TO_WEB = "backendRefs: [{name: orders, port: 50051}]", "backendRefs: [{name: web, port: 80}]"


def routes(
    *texts: str, target: Target = ORDERS, caller: str = "shop", mesh: Documents | None = None
) -> tuple[Route, ...]:
    mesh = mesh or documents(*SHOP, *texts)
    topology = topology_of(mesh)
    port = topology.port(target)
    assert port
    return routes_to(target, port, caller, mesh, topology)


def shares(*texts: str, **where: Any) -> tuple[Share, ...]:
    """Of the first route."""
    return routes(*texts, **where)[0].shares


def test_without_a_route_everything_goes_where_it_was_sent() -> None:
    assert routes() == (Route(GrpcMatch(), (Share(ORDERS),)),)
    assert routes(target=Target("shop", "web", 80)) == (Route(HttpMatch(), (Share(Target("shop", "web", 80)),)),)


def test_a_route_takes_the_place_of_that_but_for_health_and_reflection() -> None:
    said, *always = routes(a_grpc_route("a", f"{{matches: [{{method: {{service: a.B}}}}], {TO_ORDERS}}}"))

    assert (said.match, said.origin) == (GrpcMatch(MethodMatch("a.B")), "GRPCRoute shop/a")
    assert all(route.shares == (Share(ORDERS),) and not route.origin for route in always)
    assert [route.match.method.service for route in always if isinstance(route.match, GrpcMatch)] == [
        "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"
    ]  # fmt: skip
    assert len(routes(an_http_route("a", f"{{{TO_WEB}}}"), target=Target("shop", "web", 80))) == 1


def test_backends_are_services_or_versions_of_them() -> None:
    found = shares(
        a_grpc_route("a", "{backendRefs: [{name: orders, port: 50051, weight: 9}, {name: orders-v2, port: 50051}]}")
    )

    assert found == (Share(ORDERS, 9), Share(V2))


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("{name: gone, port: 50051}", id="no such service"),
        pytest.param("{name: orders-v3, port: 50051}", id="no such version"),
        pytest.param("{name: orders, port: 1}", id="no such port"),
        pytest.param("{name: orders-v2, port: 1}", id="no such port of a version"),
        pytest.param("{name: web, port: 80}", id="HTTP/1.1 cannot carry gRPC"),
        pytest.param("{name: cart, namespace: other, port: 50051}", id="not granted"),
    ],
)
def test_what_is_not_there_keeps_its_share(backend: str) -> None:
    elsewhere = a_workload("cart", namespace="other")
    mixed, alone = (
        shares(elsewhere, a_grpc_route("a", f"{{backendRefs: [{others}{backend}]}}"))
        for others in ("{name: orders, port: 50051, weight: 3}, ", "")
    )

    assert mixed == (Share(ORDERS, 3), Share(None))
    assert alone == ()


def test_a_grant_opens_a_namespace() -> None:
    grant = a_document(
        "ReferenceGrant", "g", '{from: [{group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: shop}],'
        'to: [{group: "", kind: Service}]}', namespace="other"
    )  # fmt: skip
    route = a_grpc_route("a", "{backendRefs: [{name: cart, namespace: other, port: 50051}]}")

    assert shares(a_workload("cart", namespace="other"), grant, route) == (Share(Target("other", "cart", 50051)),)


def test_no_weight_is_no_share() -> None:
    assert shares(a_grpc_route("a", "{backendRefs: [{name: orders, port: 50051, weight: 0}]}")) == ()
    assert shares(a_grpc_route("a", "{}")) == ()


def test_mirrors_that_lead_nowhere_are_left_out() -> None:
    mirrors = ", ".join(
        f"{{type: RequestMirror, requestMirror: {{backendRef: {{name: {name}, port: 50051}}, percent: {percent}}}}}"
        for name, percent in (("orders-v2", 5), ("gone", 5), ("orders", 0))
    )

    [copies] = {route.copies for route in routes(a_grpc_route("a", f"{{filters: [{mirrors}], {TO_ORDERS}}}"))[:1]}

    assert [(one.target, one.numerator, one.denominator) for one in copies] == [(V2, 5, 100)]
    assert routes(a_grpc_route("a", f"{{filters: [{mirrors}], {TO_ORDERS}}}"))[0].targets == (ORDERS, V2)


def consumer(name: str, rules: str) -> str:
    """A route of the namespace `web` for a service of the namespace `shop`."""
    text = a_grpc_route(name, rules, namespace="web")
    return text.replace('kind: Service, name: orders', 'kind: Service, name: orders, namespace: shop')  # fmt: skip


def test_routes_of_the_service_are_for_all_callers_and_those_of_callers_for_themselves() -> None:
    produced = a_grpc_route("a", "{matches: [{method: {service: a.A}}]}")
    consumed = consumer("b", "{matches: [{method: {service: b.B}}]}")

    def first(caller: str) -> object:
        return routes(produced, consumed, caller=caller)[0].match

    assert first("shop") == first("third") == GrpcMatch(MethodMatch("a.A"))
    assert first("web") == GrpcMatch(MethodMatch("b.B"))


@pytest.mark.parametrize(
    ("parent", "bound"),
    [
        ("", [81, 82]),
        (", port: 81", [81]),
        (", sectionName: second", [82]),
        (", port: 81, sectionName: second", []),
    ],
)
def test_a_parent_may_name_one_port(parent: str, bound: list[int]) -> None:
    spec = f'{{parentRefs: [{{group: "", kind: Service, name: two{parent}}}], rules: [{{}}]}}'
    ports = "ports: [{port: 80, appProtocol: http}, {port: 81, name: first}, {port: 82, name: second}]"
    mesh = documents(a_workload("two", ports), a_document("GRPCRoute", "a", spec))

    found = [port for port in (80, 81, 82) if routes(mesh=mesh, target=Target("shop", "two", port))[0].origin]

    assert found == bound


def test_where_both_kinds_fit_grpc_routes_count() -> None:
    both = (a_grpc_route("g", f"{{{TO_ORDERS}}}", "web"), an_http_route("h", f"{{{TO_WEB}}}"))

    assert [routes(*both, target=Target("shop", "web", port))[0].origin for port in (80, 81)] == [
        "HTTPRoute shop/h",
        "GRPCRoute shop/g",
    ]


GRPC_ORDER = [
    "{method: {service: a.Long, method: M}}",
    "{method: {service: a.Long}, headers: [{name: a, value: b}]}",
    "{method: {service: a.Long}}",
    "{method: {service: a.B, method: Long}}",
    "{method: {service: a.B, method: M}}",
    "{method: {method: M}}",
    "{method: {type: RegularExpression, service: 'a.*'}, headers: [{name: a, value: b}]}",
    "{method: {type: RegularExpression, service: 'a.*'}}",
    "{method: {type: RegularExpression, service: a}}",
    "{headers: [{name: a, value: b}, {name: c, value: d}]}",
    "{headers: [{name: a, value: b}]}",
    "{}",
]
HTTP_ORDER = [
    "{path: {type: Exact, value: /a}, method: GET}",
    "{path: {type: Exact, value: /a}}",
    "{path: {type: RegularExpression, value: '/a+'}}",
    "{path: {value: /a/b}}",
    "{path: {value: /a}, method: GET}",
    "{path: {value: /a}, headers: [{name: a, value: b}]}",
    "{path: {value: /a}, queryParams: [{name: a, value: b}, {name: c, value: d}]}",
    "{path: {value: /a}, queryParams: [{name: a, value: b}]}",
    "{path: {value: /a}}",
    "{method: GET}",
    "{}",
]


@given(st.permutations(GRPC_ORDER), st.permutations(HTTP_ORDER), st.integers(1, 11))
def test_precedence_is_that_of_gateway_api_whatever_the_order(grpc: list[str], http: list[str], cut: int) -> None:
    """The same over one rule, over several of them, and over several routes."""
    first, second = (", ".join(f"{{matches: [{one}]}}" for one in part) for part in (grpc[:cut], grpc[cut:]))
    mesh = documents(
        *SHOP,
        a_grpc_route("a", first),
        a_grpc_route("b", second),
        an_http_route("c", f"{{matches: [{', '.join(http)}]}}"),
    )
    wanted_grpc = documents(a_grpc_route("w", f"{{matches: [{', '.join(GRPC_ORDER)}]}}")).routes[0].rules[0].matches
    wanted_http = documents(an_http_route("w", f"{{matches: [{', '.join(HTTP_ORDER)}]}}")).routes[0].rules[0].matches

    assert [route.match for route in routes(mesh=mesh)[:-3]] == list(wanted_grpc)
    assert [route.match for route in routes(mesh=mesh, target=Target("shop", "web", 80))] == list(wanted_http)


def test_of_equal_matches_the_older_route_counts_then_the_first_by_name_then_as_written() -> None:
    mesh = documents(*SHOP, *(a_grpc_route(name, "{name: one}, {name: two, matches: [{}, {}]}") for name in "cab"))
    aged = [replace(route, created="2026" if route.name == "b" else "2027") for route in mesh.routes]

    def order(found: Iterable[GRPCRoute | HTTPRoute]) -> list[str]:
        return [route.origin[-1] for route in routes(mesh=replace(mesh, routes=tuple(found)))[:-3]]

    assert order(aged) == order(reversed(aged)) == list("bbbaaaccc")
    assert in_order([]) == ()
    assert (
        bound_routes(mesh.routes[0].parents[0], topology_of(mesh).service("shop", "orders").ports[0].protocol, "x", ())
        == ()
    )  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("match", "fitting"),
    [
        (MethodMatch(), ["/a.B/C", "/a.B/D", "/a.BC/CD", "/x.B/C"]),
        (MethodMatch("a.B"), ["/a.B/C", "/a.B/D"]),
        (MethodMatch(method="C"), ["/a.B/C", "/x.B/C"]),
        (MethodMatch("a.B", "C"), ["/a.B/C"]),
        (MethodMatch(method="C", regex=True), ["/a.B/C", "/x.B/C"]),
        (MethodMatch("[ax].B", "D?", regex=True), ["/a.B/D"]),
        (MethodMatch("a", "C|", regex=True), []),
    ],
)
def test_a_method_that_is_known_fits_as_a_whole_or_not(match: MethodMatch, fitting: list[str]) -> None:
    paths = ["/a.B/C", "/a.B/D", "/a.BC/CD", "/x.B/C"]

    assert [path for path in paths if fits(match, path)] == fitting

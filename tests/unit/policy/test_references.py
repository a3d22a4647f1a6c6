"""What routes and policies name: services, versions, ports, methods; refused with the nearest name."""

import pytest

from mesh.model.schema import Idempotency, Method, Schema
from mesh.model.topology import Topology, topology_of
from mesh.policy.check import conflicts, remarks, unsafe
from mesh.policy.references import some, unknown_methods, unresolved
from tests.builders import a_document, a_grpc_route, a_policy, a_workload, an_http_route, documents

SHOP = (
    a_workload("orders"),
    a_workload("orders-v2", "service: orders, version: v2, port: 50051"),
    a_workload("web", "ports: [{port: 80, appProtocol: http}, {name: both, port: 81, appProtocol: http2}]"),
    a_workload("db", "ports: [{port: 5432, appProtocol: tcp}]"),
    a_workload("worker", "ports: []"),
)
PLACE = Method("shop.v1.Orders", "PlaceOrder")
READ = Method("shop.v1.Orders", "GetOrder", idempotency=Idempotency.NO_SIDE_EFFECTS)
WATCH = Method("shop.v1.Orders", "Watch", server_streaming=True)
SCHEMA = Schema.of([PLACE, READ, WATCH])


def topology(schema: Schema | None = None) -> Topology:
    known = {("shop", "orders", version): schema for version in ("v1", "v2")} if schema else {}
    return topology_of(documents(*SHOP), known)


def backend(ref: str) -> str:
    return a_grpc_route("r", f"{{backendRefs: [{ref}]}}")


def parent(ref: str, kind: str = "GRPCRoute") -> str:
    return a_document(kind, "r", f'{{parentRefs: [{{group: "", kind: Service, {ref}}}]}}')


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (
            backend("{name: orders-v3, port: 50051}"),
            (
                "rules.0: there is no service orders-v3 in namespace shop, nor a version of that name. "
                "Did you mean orders-v2?"
            ),
        ),
        (
            backend("{name: zebra, port: 50051}"),
            (
                "rules.0: there is no service zebra in namespace shop, nor a version of that name. "
                "Services and versions there: db, db-v1, orders, and 6 more"
            ),
        ),
        (backend("{name: orders-v2, port: 1}"), "rules.0: orders-v2 does not have port 1. Its ports: 50051"),
        (backend("{name: worker, port: 1}"), "rules.0: worker does not have port 1. Its ports: none"),
        (
            backend("{name: web, port: 80}"),
            "rules.0: port 80 of web does not speak what GRPCRoute is for. Name another port",
        ),
        (
            an_http_route("r", "{backendRefs: [{name: db, port: 5432}]}"),
            "rules.0: port 5432 of db does not speak what HTTPRoute is for. Name another port",
        ),
        (
            parent("name: ordres"),
            "parentRefs: there is no service ordres in namespace shop. Did you mean orders?",
        ),
        (parent("name: web, port: 9"), "parentRefs: service web has no such port. Its ports: 80 (http), 81 (both)"),
        (parent("name: worker"), "parentRefs: service worker has no such port. Its ports: none"),
        (
            parent("name: web, port: 80"),
            (
                "parentRefs: no port of service web that is meant is grpc or http2, as GRPCRoute needs. "
                "Name another port, or give it another appProtocol"
            ),
        ),
        (
            parent("name: orders", "HTTPRoute"),
            (
                "parentRefs: no port of service orders that is meant is http or http2, as HTTPRoute needs. "
                "Name another port, or give it another appProtocol"
            ),
        ),
    ],
)
def test_a_route_names_what_is_there(document: str, problem: str) -> None:
    assert [str(error) for error in unresolved(documents(document), topology())] == [f"mesh.yaml:1: {problem}"]


def test_a_route_that_names_what_is_there_is_no_problem() -> None:
    mesh = documents(
        backend("{name: orders, port: 50051}, {name: orders-v2, port: 50051}"),
        an_http_route("h", "{backendRefs: [{name: web, port: 81}]}"),
    )

    assert unresolved(mesh, topology()) == unknown_methods(mesh, topology(SCHEMA)) == ()
    assert remarks(mesh, topology(), ()) == ()


def test_a_service_that_is_named_twice_is_judged_once() -> None:
    mesh = documents(backend("{name: gone, port: 1}, {name: gone, port: 1}"))

    assert len(unresolved(mesh, topology())) == 1


def method_of_route(method: str) -> str:
    return a_grpc_route("r", f"{{matches: [{{method: {method}}}], backendRefs: [{{name: orders, port: 50051}}]}}")


def method_of_policy(service: str, method: str) -> str:
    one = f"{{method: {{service: {service}, method: {method}}}}}"
    return a_policy("p", f"{{targetRefs: [{{kind: Service, name: orders}}], methods: [{one}]}}")


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (
            method_of_route("{service: shop.v1.Orders, method: PlaceOder}"),
            "rules.0: service orders has no method shop.v1.Orders/PlaceOder. Did you mean shop.v1.Orders/PlaceOrder?",
        ),
        (
            method_of_route("{service: shop.v1.Order}"),
            "rules.0: service orders has no gRPC service shop.v1.Order. Did you mean shop.v1.Orders?",
        ),
        (
            method_of_policy("zebra.Zoo", "Feed"),
            "methods: service orders has no method zebra.Zoo/Feed. gRPC services there: shop.v1.Orders",
        ),
    ],
)
def test_a_method_is_one_that_the_schema_has(document: str, problem: str) -> None:
    mesh = documents(document)

    assert [str(error) for error in unknown_methods(mesh, topology(SCHEMA))] == [f"mesh.yaml:1: {problem}"]
    assert unknown_methods(mesh, topology()) == ()
    assert unknown_methods(mesh, topology(Schema.of([PLACE], complete=False))) == ()


@pytest.mark.parametrize(
    "method",
    [
        "{service: shop.v1.Orders, method: PlaceOrder}", "{service: shop.v1.Orders}", "{method: Any}",
        "{type: RegularExpression, service: 'a.*'}", "{service: grpc.health.v1.Health, method: Check}",
    ],
)  # fmt: skip
def test_other_ways_to_match_are_not_checked(method: str) -> None:
    assert unknown_methods(documents(method_of_route(method)), topology(SCHEMA)) == ()


def retrying(retry: str, methods: str = "") -> str:
    return a_policy("p", f"{{targetRefs: [{{kind: Service, name: orders}}], retry: {retry}{methods}}}")


DANGEROUS = "{retryOn: {triggers: [unavailable, connect-failure]}}"
OF_READ = ", methods: [{method: {service: shop.v1.Orders, method: GetOrder}, retry: %s}]"
OF_PLACE = ", methods: [{method: {service: shop.v1.Orders, method: PlaceOrder}, retry: %s}]"


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        pytest.param(retrying(DANGEROUS), "shop.v1.Orders/PlaceOrder, shop.v1.Orders/Watch", id="the whole service"),
        pytest.param(retrying("{}", OF_PLACE % DANGEROUS), "shop.v1.Orders/PlaceOrder", id="a method"),
        pytest.param(
            retrying(DANGEROUS, OF_PLACE % "{retryOn: {triggers: [connect-failure]}}"),
            "shop.v1.Orders/Watch",
            id="all but a method that says something else",
        ),
    ],
)
def test_retries_that_may_do_harm_are_refused(policy: str, names: str) -> None:
    [error] = unsafe(documents(policy), topology(SCHEMA))

    assert error.problem == (
        f"retry.retryOn: unavailable can run a call twice, and no proto says that this does no harm to {names}"
    )
    assert error.remedy == "Name the methods that it is for under `methods:`, or write `allowUnsafe: true`"


@pytest.mark.parametrize(
    "policy",
    [
        retrying("{numRetries: 3}"),
        retrying("{retryOn: {triggers: [connect-failure, refused-stream, reset-before-request]}}"),
        retrying("{retryOn: {triggers: [unavailable]}, allowUnsafe: true}"),
        retrying("{retryOn: {triggers: [unavailable]}, disabled: true}"),
        retrying("{}", OF_READ % DANGEROUS),
        retrying("{allowUnsafe: true}", OF_PLACE % DANGEROUS),
        a_policy("p", "{targetRefs: [{kind: Service, name: orders}]}"),
    ],
)
def test_retries_that_do_no_harm_are_not(policy: str) -> None:
    assert unsafe(documents(policy), topology(SCHEMA)) == ()
    assert remarks(documents(policy), topology(SCHEMA), ()) == ()


def test_what_waits_for_a_schema_is_said() -> None:
    everything = a_policy(
        "p",
        "{targetRefs: [{kind: Service, name: orders}, {kind: Service, name: web}, {kind: Service, name: gone}],"
        "timeouts: {request: 1s}, retry: {perRetry: {timeout: 1s}, retryOn: {triggers: [unavailable]}}"
        f"{OF_READ % '{disabled: true}'}}}",
    )

    unchecked, *found = remarks(documents(everything), topology(), ())

    assert unchecked.problem == "the methods that it names are not checked: no schema is known of service orders, web"
    begin = "the methods of service orders are not known yet, and until then "
    assert [error.problem.removeprefix(begin) for error in found] == [
        "timeouts.request limits none of them",
        "retry.perRetry.timeout limits a try of none",
        "retry.retryOn is left to what cannot run a call twice",
    ]
    assert unsafe(documents(everything), topology()) == ()


@pytest.mark.parametrize(("method", "said"), [("GetOrder", 0), ("GetOrders", 1)])
def test_a_method_that_is_not_among_those_that_are_known_is_told_when_there_may_be_more(method: str, said: int) -> None:
    name = f"{{service: shop.v1.Orders, method: {method}}}"
    policy = a_policy("p", f"{{targetRefs: [{{kind: Service, name: orders}}], methods: [{{method: {name}}}]}}")
    some = topology(Schema(SCHEMA.methods, complete=False))

    for document in (policy, a_grpc_route("r", f"{{matches: [{{method: {name}}}], {TO_ORDERS}}}")):
        mesh = documents(document)
        found = remarks(mesh, some, ())
        assert len(found) == said
        assert unknown_methods(mesh, some) == ()
        assert len(unknown_methods(mesh, topology(SCHEMA))) == said
        assert remarks(mesh, topology(SCHEMA), ()) == ()
        for one in found:
            assert "service orders does not tell all it has, and method shop.v1.Orders/GetOrders is not among" in str(
                one
            )
            assert one.remedy == "Did you mean shop.v1.Orders/GetOrder?"


@pytest.mark.parametrize(
    ("names", "shown"),
    [([], "none"), (["a"], "a"), (["a", "b", "c"], "a, b, c"), (["a", "b", "c", "d"], "a, b, c, and 1 more")],
)
def test_three_names_stand_in_a_message(names: list[str], shown: str) -> None:
    assert some(names) == shown


TO_ORDERS = "backendRefs: [{name: orders, port: 50051}]"


def test_a_limit_of_unary_calls_for_a_stream_is_told() -> None:
    one = "{method: {service: shop.v1.Orders, method: %s}, timeouts: {request: 1s}}"
    both = f"methods: [{one % 'Watch'}, {one % 'GetOrder'}]"

    mesh = documents(a_policy("p", f"{{targetRefs: [{{kind: Service, name: orders}}], {both}}}"))

    [error] = remarks(mesh, topology(SCHEMA), ())

    assert unsafe(mesh, topology(SCHEMA)) == ()
    assert error.problem == "methods: shop.v1.Orders/Watch is a stream, which timeouts.request does not limit"
    never = "methods: [{method: {service: shop.v1.Orders, method: Watch}, retry: {disabled: true}}]"
    policy = a_policy("p", f"{{targetRefs: [{{kind: Service, name: orders}}], {never}}}")
    assert remarks(documents(policy), topology(SCHEMA), ()) == ()


def test_rules_that_answer_nothing_and_names_that_mean_nothing_are_told() -> None:
    grpc = backend("{name: orders, port: 50051, weight: 0}").replace("rules:", "hostnames: [a.test], rules:")
    http = an_http_route("h", "{}, {filters: [{type: RequestRedirect, requestRedirect: {}}]}")

    found = remarks(documents(grpc, http, a_grpc_route("none", "")), topology(), ())

    assert [error.problem for error in found] == [
        "rules: there are none, so every call gets UNIMPLEMENTED",
        "hostnames says nothing for calls to a Service, as Gateway API has it",
        "rules.0: all weights are 0, so the calls that fit get UNAVAILABLE",
        "rules.0: there are no backendRefs, so the calls that fit get 500",
    ]


def test_where_copies_go_must_be_there_too() -> None:
    mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: gone, port: 50051}}}"
    route = a_grpc_route("r", f"{{filters: [{mirror}], backendRefs: [{{name: orders, port: 50051}}]}}")

    [error] = unresolved(documents(route), topology())

    assert "rules.0: there is no service gone in namespace shop" in str(error)


def test_a_backend_elsewhere_needs_a_grant() -> None:
    elsewhere = a_workload("cart", namespace="other")
    route = backend("{name: cart, namespace: other, port: 50051}")
    grant = a_document(
        "ReferenceGrant", "g", "{from: [{group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: shop}],"
        'to: [{group: "", kind: Service, name: cart}]}', namespace="other",
    )  # fmt: skip
    mesh = documents(*SHOP, elsewhere, route, grant)

    [error] = remarks(mesh, topology_of(mesh), ())

    assert "other/cart:50051 is in another namespace, and no ReferenceGrant there lets this route use it" in str(error)
    assert remarks(mesh, topology_of(mesh), mesh.grants) == unresolved(mesh, topology_of(mesh)) == ()


def test_where_both_kinds_route_a_port_the_http_route_is_told() -> None:
    consumer = an_http_route("there", "{}", namespace="web").replace("name: web}]", "name: web, namespace: shop}]")
    both = (a_grpc_route("g", "{}", "web"), an_http_route("h", "{}"), consumer)
    mesh = documents(*SHOP, *both, an_http_route("else", "{}", "gone"))

    [error] = conflicts(mesh, topology_of(mesh))

    assert error.problem == "GRPCRoute g (mesh.yaml:26) routes port 81 of service web already"


def test_policies_may_disagree_in_every_field() -> None:
    spec = (
        "{targetRefs: [{kind: Service, name: orders}], timeouts: {request: 1s},"
        "methods: [{method: {service: a.B, method: C}, retry: {disabled: true}}],"
        "loadBalancer: {type: ConsistentHash, consistentHash: {type: Header, header: {name: a}}}}"
    )
    mesh = documents(a_policy("a", spec), a_policy("b", spec))

    assert [error.problem.partition(" of service orders ")[0] for error in conflicts(mesh, topology())] == [
        "timeouts.request", "retry.disabled of a.B/C", "loadBalancer"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("match", "said"),
    [
        pytest.param("{service: shop.v1.Orders, method: GetOrdr}", 1, id="a method"),
        pytest.param("{service: shop.v1.Ordrs}", 1, id="a service"),
        pytest.param("{type: RegularExpression, service: 'shop.*'}", 0, id="an expression, which may mean anything"),
        pytest.param("{service: grpc.health.v1.Health}", 0, id="what every service has"),
    ],
)
def test_methods_of_a_service_without_a_schema_are_said_to_be_unchecked(match: str, said: int) -> None:
    route = a_grpc_route("r", f"{{matches: [{{method: {match}}}], {TO_ORDERS}}}")

    found = [error for error in remarks(documents(route), topology(), ()) if "not checked" in error.problem]

    assert [str(error) for error in found] == [
        (
            "mesh.yaml:1: the methods that it names are not checked: no schema is known of service orders. "
            "Switch on server reflection there, or use `proa schema push`"
        )
    ] * said
    assert not [error for error in remarks(documents(route), topology(SCHEMA), ()) if "not checked" in error.problem]


def test_methods_of_a_service_that_is_not_there_are_said_to_be_nothing_but_that() -> None:
    route = a_grpc_route("r", f"{{matches: [{{method: {{service: a.B}}}}], {TO_ORDERS}}}", "gone")

    assert remarks(documents(route), topology(), ()) == ()


GRANT = "{from: [{group: %s, kind: %s, namespace: web}], to: [{group: '%s', kind: %s, name: %s}]}"


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        (("gateway.networking.k8s.io", "GRPCRoute", "", "Service", "orders"), ""),
        (("gateway.networking.k8s.io", "HTTPRoute", "core", "Service", "orders-v2"), ""),
        (
            ("gateway.networking.k8s.io", "GrpcRoute", "", "Service", "orders"),
            (
                "from.0: kind GrpcRoute of group 'gateway.networking.k8s.io' refers to nothing here. "
                "Kinds that do: GRPCRoute and HTTPRoute of gateway.networking.k8s.io"
            ),
        ),
        (
            ("proa.mesh", "GRPCRoute", "", "Service", "orders"),
            (
                "from.0: kind GRPCRoute of group 'proa.mesh' refers to nothing here. "
                "Kinds that do: GRPCRoute and HTTPRoute of gateway.networking.k8s.io"
            ),
        ),
        (
            ("gateway.networking.k8s.io", "GRPCRoute", "apps", "Service", "orders"),
            "to.0: nothing here refers to kind Service of group 'apps'. Routes refer to kind Service of group \"\"",
        ),
        (
            ("gateway.networking.k8s.io", "GRPCRoute", "", "Secret", "orders"),
            "to.0: nothing here refers to kind Secret of group ''. Routes refer to kind Service of group \"\"",
        ),
        (
            ("gateway.networking.k8s.io", "GRPCRoute", "", "Service", "ordres"),
            "to.0: there is no service ordres in namespace shop. Did you mean orders?",
        ),
    ],
)
def test_a_grant_that_lets_nobody_do_anything_is_told(parts: tuple[str, ...], problem: str) -> None:
    mesh = documents(a_document("ReferenceGrant", "g", GRANT % parts))
    there = topology_of(documents(*SHOP, a_workload("orders-v2", "service: orders, version: v2, port: 50051")))

    assert [str(error) for error in remarks(mesh, there, ())] == ([f"mesh.yaml:1: {problem}"] if problem else [])


def test_a_grant_for_every_service_is_none_too_many() -> None:
    grant = GRANT.replace(", name: %s", "") % ("gateway.networking.k8s.io", "GRPCRoute", "", "Service")

    assert remarks(documents(a_document("ReferenceGrant", "g", grant)), topology(), ()) == ()

"""A mesh with many methods routed, and how long the view of a sidecar that may call them all takes to translate."""

import time
from collections.abc import Iterator

from mesh.model.schema import Idempotency, Method, Schema
from mesh.policy.view import ProxyView
from mesh.translate.resources import resources_for
from tests.builders import a_grpc_route, a_policy, a_view, a_workload, documents

NAMESPACE = "bench"
PORT = 50051
AT_ONCE = 10
"""Methods of one gRPC service, which one GRPCRoute routes."""


def mesh_of(methods: int, retried: int) -> tuple[str, ...]:
    """`web` calls `orders`, which has so many methods, each with a rule of its own; the last ones are retried more."""
    every = [names(n) for n in range(methods)]
    routes = (
        a_grpc_route(f"r{n}", rules("orders", every[n : n + AT_ONCE]), namespace=NAMESPACE)
        for n in range(0, methods, AT_ONCE)
    )
    return (
        a_workload("web", f"port: {PORT}, upstreams: [{{service: orders}}]", NAMESPACE),
        a_workload("orders", f"port: {PORT}", NAMESPACE),
        a_policy("p", retries("orders", every[-retried:]), NAMESPACE),
        *routes,
    )


def path_of(n: int) -> str:
    return "/{}/{}".format(*names(n))


def names(n: int) -> tuple[str, str]:
    return f"bench.orders.v1.Service{n // AT_ONCE}", f"Method{n % AT_ONCE}"


def rules(service: str, methods: list[tuple[str, str]]) -> str:
    backend = f"backendRefs: [{{name: {service}, port: {PORT}}}]"
    return ", ".join(f"{{matches: [{{method: {called(one)}}}], {backend}}}" for one in methods)


def retries(service: str, methods: list[tuple[str, str]]) -> str:
    """Something else than what is retried without a policy."""
    often = "retry: {numRetries: 3, retryOn: {triggers: [unavailable]}, allowUnsafe: true}"
    said = ", ".join(f"{{method: {called(one)}, {often}}}" for one in methods)
    return f"{{targetRefs: [{{kind: Service, name: {service}}}], methods: [{said}]}}"


def called(one: tuple[str, str]) -> str:
    return "{{service: {}, method: {}}}".format(*one)


def view_of(services: int, methods: int) -> ProxyView:
    """Of each service the schema is known, every method is routed, and one has a policy of its own."""
    calls = {f"s{n}": [(f"bench.s{n}.v1.Service", f"Method{m}") for m in range(methods)] for n in range(services)}
    mesh = documents(*_services(calls))
    schemas = {(NAMESPACE, name, "v1"): Schema.of(map(_method, every)) for name, every in calls.items()}
    return a_view(mesh, "web", schemas)


def translating(view: ProxyView) -> float:
    """Seconds of CPU. That others use the machine is not in it."""
    began = time.process_time()
    made = resources_for(view)
    took = time.process_time() - began
    assert made.routes
    return took


def _services(calls: dict[str, list[tuple[str, str]]]) -> Iterator[str]:
    yield a_workload("web", f"port: {PORT}", NAMESPACE)
    for name, every in calls.items():
        yield a_workload(name, f"port: {PORT}", NAMESPACE)
        yield a_grpc_route(name, rules(name, every), name, NAMESPACE)
        yield a_policy(name, retries(name, every[:1]), NAMESPACE)


def _method(one: tuple[str, str]) -> Method:
    """Of each idempotency level some, by their number, since their defaults differ."""
    levels = tuple(Idempotency)
    return Method(*one, idempotency=levels[int(one[1][-1]) % len(levels)])

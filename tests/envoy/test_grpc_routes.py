"""GRPCRoute and call policies by what a real Envoy does with calls."""

import asyncio
from collections import Counter
from pathlib import Path

import grpc
import pytest

from mesh.model.schema import Idempotency, Method
from tests.builders import a_grpc_route, a_policy, a_workload
from tests.envoy.routed import cluster, routed
from tests.mesh.running import patience

pytestmark = pytest.mark.envoy

SHOP = (
    a_workload("web", "upstreams: [{service: stock}]"),
    a_workload("stock"),
    a_workload("stock-v2", "service: stock, version: v2, port: 50051"),
)
ALL, V2 = cluster("stock"), cluster("stock", "v2")
TO_ALL, TO_V2 = "backendRefs: [{name: stock, port: 50051}]", "backendRefs: [{name: stock-v2, port: 50051}]"
TAKE = Method("shop.Stock", "Take")


def route(rules: str, name: str = "r") -> str:
    return a_grpc_route(name, rules, "stock")


def policy(spec: str) -> str:
    return a_policy("p", f"{{targetRefs: [{{kind: Service, name: stock}}], {spec}}}")


async def test_calls_go_by_method_and_header(tmp_path: Path) -> None:
    rules = (
        f"{{matches: [{{method: {{service: shop.Stock}}, headers: [{{name: x-canary, value: '1'}}]}}], {TO_V2}}},"
        f"{{matches: [{{method: {{service: shop.Stock, method: Take}}}}], {TO_V2}}},"
        f"{{matches: [{{method: {{type: RegularExpression, service: 'shop[.]S.*', method: 'Lo+k'}}}}], {TO_V2}}},"
        f"{{matches: [{{method: {{service: shop.Stock}}}}], {TO_ALL}}}"
    )
    async with routed(tmp_path, [*SHOP, route(rules)], "stock", ALL, V2, methods=[TAKE]) as envoy:
        asked = [
            ("shop.Stock/Take",),
            ("shop.Shelf/Look",),
            ("shop.Stock/Give",),
            ("shop.Stock/Give", ("x-canary", "1")),
        ]
        answers = [(await envoy.call(*one))["name"] for one in asked]  # type: ignore[arg-type]
        nowhere = await envoy.status("other.Service/Take")
        health = await envoy.call("grpc.health.v1.Health/Check")

    assert answers == ["stock/50051/v2", "stock/50051/v2", "stock/50051", "stock/50051/v2"]
    assert nowhere == ("UNIMPLEMENTED", "no rule of the routes of stock fits this call")
    assert health["name"] == "stock/50051"


async def test_a_tree_routes_a_thousand_methods(tmp_path: Path) -> None:
    methods = [Method("shop.Stock", f"M{n}") for n in range(1000)]
    rules = f"{{matches: [{{method: {{service: shop.Stock, method: M7}}}}], {TO_V2}}}, {{{TO_ALL}}}"
    async with routed(tmp_path, [*SHOP, route(rules)], "stock", ALL, V2, methods=methods) as envoy:
        answers = [(await envoy.call(f"shop.Stock/M{n}"))["name"] for n in (6, 7, 8, 999)]
        unknown = await envoy.call("shop.Stock/New")
        with_query = await envoy.status("shop.Stock/M7?x")

    assert answers == ["stock/50051", "stock/50051/v2", "stock/50051", "stock/50051"]
    assert unknown["name"] == "stock/50051"
    assert with_query[0] == "UNIMPLEMENTED"


async def test_what_is_too_much_for_a_tree_is_decided_by_policy(tmp_path: Path) -> None:
    methods = [Method("shop.Stock", f"M{n}") for n in range(200)]
    matches = ", ".join(f"{{headers: [{{name: x-n, value: '{n}'}}]}}" for n in range(60))
    rules = (
        f"{{matches: [{matches}], {TO_V2}}}, {{matches: [{{method: {{service: shop.Stock, method: M7}}}}], {TO_ALL}}}"
    )
    hang = Method("shop.Stock", "Hang")
    limited = policy("methods: [{method: {service: shop.Stock, method: Hang}, timeouts: {request: 300ms}}]")
    async with routed(tmp_path, [*SHOP, route(rules), limited], "stock", ALL, V2, methods=[*methods, hang]) as envoy:
        answers = [(await envoy.call(f"shop.Stock/M{n}", ("x-n", "59")))["name"] for n in (6, 199)]
        by_method = await envoy.call("shop.Stock/M7", ("x-n", "59"))
        nowhere = await envoy.status("shop.Stock/M8")
        with_query = await envoy.status("shop.Stock/M7?x")
        late = await envoy.status("shop.Stock/Hang", ("x-n", "1"))

    assert {*answers} == {"stock/50051/v2"}
    assert by_method["name"] == "stock/50051"
    assert (nowhere[0], with_query[0], late[0]) == ("UNIMPLEMENTED", "UNIMPLEMENTED", "DEADLINE_EXCEEDED")


async def test_weights_are_kept_and_a_backend_that_is_not_there_keeps_its_share(tmp_path: Path) -> None:
    backends = (("stock", 60), ("stock-v2", 20), ("gone", 20))
    shares = ", ".join(f"{{name: {name}, port: 50051, weight: {weight}}}" for name, weight in backends)
    async with routed(tmp_path, [*SHOP, route(f"{{backendRefs: [{shares}]}}")], "stock", ALL, V2) as envoy:
        found: Counter[str] = Counter()
        for _ in range(500):
            status, _message = await envoy.status("shop.Stock/Take")
            found[status] += 1
        calls = [service.calls["Take"] for service in envoy.services.values()]

    assert set(found) == {"OK", "UNAVAILABLE"}
    assert 60 <= found["UNAVAILABLE"] <= 140
    assert 250 <= calls[0] <= 350
    assert 60 <= calls[1] <= 140


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            "{backendRefs: [{name: stock, port: 50051, weight: 0}]}",
            "GRPCRoute shop/r has no backend here that could answer",
        ),
        ("{backendRefs: [{name: gone, port: 50051}]}", "GRPCRoute shop/r has no backend here that could answer"),
        ("{}", "GRPCRoute shop/r has no backend here that could answer"),
        (f"{{{TO_V2}}}", "no healthy upstream"),
    ],
    ids=["no weight", "not there", "no backends", "no endpoints"],
)
async def test_without_a_backend_calls_are_unavailable(rule: str, message: str, tmp_path: Path) -> None:
    async with routed(tmp_path, [*SHOP, route(rule)], "stock", ALL) as envoy:
        assert await envoy.status("shop.Stock/Take") == ("UNAVAILABLE", message)


async def test_headers_are_changed_and_calls_mirrored(tmp_path: Path) -> None:
    rule = (
        "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: 100%}],"
        "add: [{name: b, value: c}], remove: [gone]}},"
        "{type: ResponseHeaderModifier,"
        "responseHeaderModifier: {add: [{name: x-mesh, value: here}], remove: [x-from]}},"
        "{type: RequestMirror, requestMirror: {backendRef: {name: stock-v2, port: 50051}}}],"
        "backendRefs: [{name: stock, port: 50051, filters:"
        "[{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: share, value: all}]}}]}]}"
    )
    async with routed(tmp_path, [*SHOP, route(rule)], "stock", ALL, V2) as envoy:
        call = envoy.channel.unary_unary("/shop.Stock/Take")(b"", metadata=[("a", "x"), ("b", "x"), ("gone", "x")])  # type: ignore[type-var]
        answered = {key: str(value) for key, value in await call.initial_metadata()}
        answer = await envoy.call("shop.Stock/Take", ("a", "x"), ("b", "x"), ("gone", "x"))
        await envoy.services[V2].called("Take", times=2)

    headers = answer["headers"]
    assert answer["name"] == "stock/50051"
    assert (headers["a"], headers["share"], "gone" in headers) == ("100%", "all", False)
    assert "c" in headers["b"]
    assert (answered["x-mesh"], "x-from" in answered) == ("here", False)


async def test_a_share_of_the_calls_is_mirrored(tmp_path: Path) -> None:
    mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: stock-v2, port: 50051}, percent: 20}}"
    async with routed(tmp_path, [*SHOP, route(f"{{filters: [{mirror}], {TO_ALL}}}")], "stock", ALL, V2) as envoy:
        for _ in range(300):
            await envoy.call("shop.Stock/Take")
        assert 25 <= envoy.services[V2].calls["Take"] <= 100


async def test_deadlines_are_kept_capped_passed_on_and_given_to_those_without(tmp_path: Path) -> None:
    limited = policy("timeouts: {request: 50s}")
    async with routed(tmp_path, [*SHOP, limited], "stock", ALL, methods=[TAKE]) as envoy:
        short = (await envoy.call("shop.Stock/Take", timeout=20))["left"]
        long = (await envoy.call("shop.Stock/Take", timeout=100))["left"]
        none = await envoy.channel.unary_unary("/shop.Stock/Take")(b"")  # type: ignore[type-var]
        unknown = (await envoy.call("shop.Stock/Else", timeout=100))["left"]

    # A deadline is written with three digits, rounded up: 20 s may be 20.1 s.
    assert 10 < short <= 21
    assert 40 < long <= 51
    assert b'"name"' in none
    assert unknown > 90


async def test_an_expired_deadline_is_deadline_exceeded(tmp_path: Path) -> None:
    """And not UNAVAILABLE, which callers would try again."""
    hang, watch = Method("shop.Stock", "Hang"), Method("shop.Stock", "Watch", server_streaming=True)
    limited = policy("timeouts: {request: 300ms}")
    async with routed(tmp_path, [*SHOP, limited], "stock", ALL, methods=[hang, watch]) as envoy:
        await envoy.call("shop.Stock/Else")  # to connect may take longer
        by_the_mesh = await envoy.status("shop.Stock/Hang", timeout=100)
        assert envoy.services[ALL].calls["Hang"] == 1
        with pytest.raises(grpc.aio.AioRpcError) as without:
            await envoy.channel.unary_unary("/shop.Stock/Hang")(b"")  # type: ignore[type-var]

        # The same policy does not end a stream, which is silent for longer.
        stream = envoy.channel.unary_stream("/shop.Stock/Watch")(b"")
        assert await stream.read()
        await asyncio.sleep(0.6)
        envoy.services[ALL].beat.set()
        assert await stream.read()
        stream.cancel()

    assert by_the_mesh[0] == without.value.code().name == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("service", ["shop.Stock", "shop.Unknown"])
async def test_a_stream_that_is_silent_at_first_outlives_every_timeout(service: str, tmp_path: Path) -> None:
    late = Method("shop.Stock", "Late", server_streaming=True)
    limited = policy("timeouts: {request: 200ms}, retry: {perRetry: {timeout: 200ms}}")
    async with routed(tmp_path, [*SHOP, limited], "stock", ALL, methods=[late]) as envoy:
        stream = envoy.channel.unary_stream(f"/{service}/Late")(b"")
        await envoy.services[ALL].called("Late", times=1)
        await asyncio.sleep(0.6)
        envoy.services[ALL].beat.set()
        assert await stream.read()
        stream.cancel()


@pytest.mark.parametrize("limit", ["streamIdle", "maxStreamDuration"])
async def test_streams_end_when_they_are_silent_or_as_old_as_they_may_be(limit: str, tmp_path: Path) -> None:
    watch, mesh = Method("shop.Stock", "Watch", server_streaming=True), [*SHOP, policy(f"timeouts: {{{limit}: 500ms}}")]
    async with routed(tmp_path, mesh, "stock", ALL, methods=[watch]) as envoy:
        await envoy.call("shop.Stock/Else")  # to connect may take longer
        stream = envoy.channel.unary_stream("/shop.Stock/Watch")(b"")
        assert await stream.read()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            async with asyncio.timeout(5 * patience()):
                await stream.read()

    # Once something has been answered, Envoy has no other way to end a stream.
    # Envoy can only reset what has begun to answer; the service knows of the age, too, and may be the first to end it.
    assert ended.value.code().name in (("INTERNAL",) if limit == "streamIdle" else ("INTERNAL", "DEADLINE_EXCEEDED"))


@pytest.mark.parametrize(
    ("idempotency", "spec", "attempts"),
    [
        (Idempotency.UNKNOWN, "", 1),
        (Idempotency.IDEMPOTENT, "", 3),
        (Idempotency.NO_SIDE_EFFECTS, "", 3),
        (Idempotency.UNKNOWN, "retry: {retryOn: {triggers: [unavailable]}}", 1),
        (Idempotency.UNKNOWN, "retry: {retryOn: {triggers: [unavailable]}, allowUnsafe: true}", 3),
        (Idempotency.NO_SIDE_EFFECTS, "retry: {numRetries: 4}", 5),
        (Idempotency.NO_SIDE_EFFECTS, "retry: {disabled: true}", 1),
        (
            Idempotency.NO_SIDE_EFFECTS,
            "methods: [{method: {service: shop.Stock, method: Fail}, retry: {numRetries: 1}}]",
            2,
        ),
    ],
)
async def test_only_what_does_no_harm_is_tried_again(
    idempotency: Idempotency, spec: str, attempts: int, tmp_path: Path
) -> None:
    fail = Method("shop.Stock", "Fail", idempotency=idempotency)
    mesh = [*SHOP, policy(spec or "timeouts: {request: 5s}")]
    async with routed(tmp_path, mesh, "stock", ALL, methods=[fail]) as envoy:
        assert await envoy.status("shop.Stock/Fail") == ("UNAVAILABLE", "as asked")
        assert envoy.services[ALL].calls["Fail"] == attempts


async def test_a_stream_is_never_tried_again_after_its_first_message(tmp_path: Path) -> None:
    """Not even where a policy asks for all there is; before it, only where a policy asks."""
    broken, failed = (
        Method("shop.Stock", name, server_streaming=True, idempotency=Idempotency.NO_SIDE_EFFECTS)
        for name in ("Break", "Fail")
    )
    asked = policy("retry: {retryOn: {triggers: [unavailable, reset, cancelled, internal]}, allowUnsafe: true}")
    for mesh, attempts in ((SHOP, 1), ((*SHOP, asked), 3)):
        async with routed(tmp_path, mesh, "stock", ALL, methods=[broken, failed]) as envoy:
            stream = envoy.channel.unary_stream("/shop.Stock/Break")(b"")
            assert await stream.read()
            with pytest.raises(grpc.aio.AioRpcError, match="as asked"):
                await stream.read()
            assert await envoy.status("shop.Stock/Fail") == ("UNAVAILABLE", "as asked")
            assert envoy.services[ALL].calls == {"Break": 1, "Fail": attempts}


async def test_a_service_that_is_down_is_not_buried_in_retries(tmp_path: Path) -> None:
    """Of 200 calls at once at most a fifth is tried again at a time, whatever a policy says."""
    fail = Method("shop.Stock", "Fail", idempotency=Idempotency.IDEMPOTENT)
    seconds = round(patience())
    asked = policy(f"retry: {{numRetries: 10, perRetry: {{backOff: {{baseInterval: {seconds}s}}}}}}")
    async with routed(tmp_path, [*SHOP, asked], "stock", ALL, methods=[fail]) as envoy:
        calls = [asyncio.create_task(envoy.status("shop.Stock/Fail", timeout=seconds)) for _ in range(200)]
        answers = {(await call)[0] for call in calls}
        attempts = envoy.services[ALL].calls["Fail"]

    assert answers <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert 200 < attempts <= 300

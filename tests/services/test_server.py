"""What the kit promises of a process: health, reflection, errors, deadlines, and an end that loses no call."""

import asyncio
import time

import grpc
import pytest
from bookstore.catalog.v1.catalog_pb2 import GetBookRequest, ListBooksRequest, SearchBooksRequest
from bookstore.catalog.v1.catalog_pb2_grpc import CatalogServiceStub
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

CATALOG = "bookstore.catalog.v1.CatalogService"


async def listed(channel):
    """The names that reflection lists."""
    [response] = [
        response
        async for response in ServerReflectionStub(channel).ServerReflectionInfo(
            iter([ServerReflectionRequest(list_services="")])
        )
    ]
    return {service.name for service in response.list_services_response.service}


async def test_health_is_serving_for_the_server_and_its_services(bookstore, refused):
    health = HealthStub(bookstore.catalog.channel)

    for name in ("", CATALOG):
        assert (await health.Check(HealthCheckRequest(service=name))).status == HealthCheckResponse.SERVING
    assert (await refused(health.Check(HealthCheckRequest(service="nobody")))).code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_the_services(bookstore):
    assert await listed(bookstore.orders.channel) == {
        "bookstore.orders.v1.OrderService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_reflection_can_be_switched_off(start, refused):
    probe = await start("probe", REFLECTION="off")

    assert (await refused(listed(probe.channel))).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_running_call_is_finished_after_sigterm_and_new_ones_are_refused(start, refused):
    probe = await start("probe")
    watch = HealthStub(probe.channel).Watch(HealthCheckRequest())
    assert (await watch.read()).status == HealthCheckResponse.SERVING
    running = asyncio.ensure_future(CatalogServiceStub(probe.channel).GetBook(GetBookRequest(book_id=700)))
    assert (await CatalogServiceStub(probe.channel).GetBook(GetBookRequest(book_id=0))).book.id == 0

    stopped = asyncio.create_task(probe.stop())

    assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
    async with grpc.aio.insecure_channel(probe.address) as channel:
        late = await refused(CatalogServiceStub(channel).GetBook(GetBookRequest(book_id=0)))
    assert late.code() is grpc.StatusCode.UNAVAILABLE
    assert not running.done()
    assert (await running).book.id == 700
    assert await stopped == 0
    assert [line["event"] for line in probe.log] == ["serving", "stopping", "stopped"]


async def test_who_watches_health_does_not_hold_up_the_stop(start):
    probe = await start("probe", GRACE_SECONDS="60")
    watch = HealthStub(probe.channel).Watch(HealthCheckRequest(service=CATALOG))
    assert (await watch.read()).status == HealthCheckResponse.SERVING

    async with asyncio.timeout(10):
        assert await probe.stop() == 0


async def test_a_call_that_takes_too_long_ends_with_the_grace(start, refused):
    probe = await start("probe", GRACE_SECONDS="0.2")
    running = asyncio.ensure_future(CatalogServiceStub(probe.channel).GetBook(GetBookRequest(book_id=60_000)))
    await CatalogServiceStub(probe.channel).GetBook(GetBookRequest(book_id=0))

    async with asyncio.timeout(10):
        assert await probe.stop() == 0
    assert (await refused(running)).code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


async def test_what_nobody_foresaw_is_internal_and_told_only_to_the_log(start, refused):
    probe = await start("probe")
    catalog = CatalogServiceStub(probe.channel)
    search = catalog.SearchBooks(SearchBooksRequest())
    await search.read()

    for error in (await refused(catalog.ListBooks(ListBooksRequest())), await refused(search.read())):
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "hunter2" not in error.details()
        assert "RuntimeError" not in error.details()

    await probe.stop()
    failures = [line for line in probe.log if line["event"] == "call_failed"]
    assert {line["method"] for line in failures} == {f"/{CATALOG}/ListBooks", f"/{CATALOG}/SearchBooks"}
    assert all("password=hunter2" in line["traceback"] for line in failures)


async def test_an_unknown_method_is_unimplemented(bookstore, refused):
    call = bookstore.catalog.channel.unary_unary(f"/{CATALOG}/BurnBook")

    assert (await refused(call(b""))).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_callee_gets_what_is_left_of_the_deadline(start):
    last = await start("probe")
    middle = await start("probe", UPSTREAM=last.address)
    first = await start("probe", UPSTREAM=middle.address)
    await CatalogServiceStub(first.channel).GetBook(GetBookRequest(book_id=0))  # all are connected

    answer = await CatalogServiceStub(first.channel).GetBook(GetBookRequest(book_id=0), timeout=9)

    # Two margins less; on the wire gRPC rounds each timeout up, here to 10 ms.
    assert 3 < float(answer.book.title) <= 9 - 2 * 0.02 + 2 * 0.01


async def test_a_call_without_deadline_gets_the_default_one(start):
    last = await start("probe")
    first = await start("probe", UPSTREAM=last.address)
    await CatalogServiceStub(first.channel).GetBook(GetBookRequest(book_id=0))  # all are connected

    assert (await CatalogServiceStub(last.channel).GetBook(GetBookRequest(book_id=0))).book.title == "none"
    assert 4 < float((await CatalogServiceStub(first.channel).GetBook(GetBookRequest(book_id=0))).book.title) <= 5.01


async def test_a_service_answers_before_its_caller_gives_up(start, refused):
    last = await start("probe")
    first = await start("probe", UPSTREAM=last.address)
    await CatalogServiceStub(first.channel).GetBook(GetBookRequest(book_id=0))  # all are connected

    started = time.monotonic()
    error = await refused(CatalogServiceStub(first.channel).GetBook(GetBookRequest(book_id=5000), timeout=0.5))

    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - started < 4, "far less than the callee takes"


async def test_an_upstream_that_is_away_is_unavailable_without_its_address(start, refused):
    probe = await start("probe", UPSTREAM="127.0.0.1:9")

    error = await refused(CatalogServiceStub(probe.channel).GetBook(GetBookRequest(book_id=0)))

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "127.0.0.1" not in error.details()


async def test_an_upstream_that_fails_otherwise_is_internal(start, refused):
    inventory = await start("inventory")  # which does not speak the probe's API
    probe = await start("probe", UPSTREAM=inventory.address)

    error = await refused(CatalogServiceStub(probe.channel).GetBook(GetBookRequest(book_id=0)))

    assert error.code() is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    ("name", "environment", "message"),
    [
        pytest.param(
            "orders", {"CATALOG_ADDR": "here"}, "orders: CATALOG_ADDR: 'here' is not an address", id="address"
        ),
        pytest.param(
            "catalog", {"DATA_DIR": "/dev/null/x"}, "catalog: /dev/null/x/catalog.db: the database", id="folder"
        ),
        pytest.param(
            "inventory", {"FAIL_EVERY": "-1"}, "inventory: FAIL_EVERY: '-1' is not a whole number", id="number"
        ),
    ],
)
async def test_a_service_that_cannot_start_says_why_in_one_line(spawned, name, environment, message):
    code, said = await spawned(name, **environment)

    assert code == 1
    assert said.startswith(message)


async def test_a_port_in_use_is_an_error_and_not_shared(start, spawned):
    probe = await start("probe")
    port = probe.address.rpartition(":")[2]

    code, said = await spawned("catalog", PORT=port)

    assert code == 1
    assert said.startswith(f"catalog: {probe.address}: this address cannot be listened on. ")

"""The inventory: its store alone, then the running service, also two on one file."""

import asyncio
import itertools

import grpc
import pytest
from bookstore.inventory.v1.inventory_pb2 import (
    RESERVATION_STATE_HELD,
    RESERVATION_STATE_RELEASED,
    AddStockRequest,
    GetStockRequest,
    ReleaseRequest,
    ReservationLine,
    ReserveRequest,
    WatchStockRequest,
)
from bookstore.inventory.v1.inventory_pb2_grpc import InventoryServiceStub
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from inventory.faults import FailEvery
from inventory.seed import seed
from inventory.store import TABLES, Copies, Stock

from kit.errors import AlreadyExists, NotFound, Unmet

NEW_BOOKS = itertools.count(1000)


@pytest.fixture
async def copies(open_database):
    return Copies(await open_database(TABLES, seed))


@pytest.fixture
def inventory(bookstore):
    return InventoryServiceStub(bookstore.inventory.channel)


@pytest.fixture
async def book(inventory):
    """A book of this test alone, with 10 copies."""
    book_id = next(NEW_BOOKS)
    await inventory.AddStock(AddStockRequest(book_id=book_id, quantity=10))
    return book_id


def reserve(key, **quantities):
    """`reserve("k", b1=2)`: two copies of book 1."""
    lines = [ReservationLine(book_id=int(book[1:]), quantity=quantity) for book, quantity in quantities.items()]
    return ReserveRequest(idempotency_key=key, lines=lines)


async def stock(inventory, book_id):
    found = (await inventory.GetStock(GetStockRequest(book_id=book_id))).stock
    return found.available, found.reserved


def test_every_third_time_fails():
    faults = FailEvery(3)

    assert [faults.due() for _ in range(7)] == [False, False, True, False, False, True, False]
    assert not any(FailEvery(0).due() for _ in range(7))


async def test_a_reservation_holds_all_its_copies(copies):
    reservation = await copies.reserve("k", {1: 2, 13: 3}, "r-1")

    assert (reservation.id, reservation.held) == ("r-1", True)
    assert await copies.stock([1, 13]) == {1: Stock(1, 99_998, 2), 13: Stock(13, 0, 3)}


async def test_a_reservation_that_cannot_hold_all_holds_none(copies):
    with pytest.raises(Unmet) as caught:
        await copies.reserve("k", {1: 2, 13: 4, 99: 1}, "r-1")

    assert [violation.subject for violation in caught.value.violations] == ["books/13", "books/99"]
    assert (await copies.stock([1]))[1] == Stock(1, 100_000, 0)
    assert (await copies.reserve("k", {1: 2}, "r-2")).held  # the key is free


async def test_the_same_key_reserves_once(copies):
    first = await copies.reserve("k", {1: 2, 2: 1}, "r-1")

    assert await copies.reserve("k", {2: 1, 1: 2}, "r-2") == first
    with pytest.raises(AlreadyExists):
        await copies.reserve("k", {1: 3}, "r-3")
    assert (await copies.stock([1]))[1] == Stock(1, 99_998, 2)


async def test_a_release_gives_back_once(copies):
    await copies.reserve("k", {1: 2}, "r-1")

    assert [(await copies.release("r-1")).held for _ in range(2)] == [False, False]
    assert (await copies.stock([1]))[1] == Stock(1, 100_000, 0)
    assert not (await copies.reserve("k", {1: 2}, "r-2")).held  # and the key does not reserve again
    with pytest.raises(NotFound):
        await copies.release("r-2")


async def test_many_at_once_on_two_handles_never_oversell(open_database):
    shops = [Copies(await open_database(TABLES, seed)) for _ in range(2)]
    await shops[0].add(500, 40)

    outcomes = await asyncio.gather(
        *(shops[turn % 2].reserve(f"k{turn}", {500: 3}, f"r{turn}") for turn in range(30)),
        return_exceptions=True,
    )

    held = [outcome for outcome in outcomes if not isinstance(outcome, Unmet)]
    assert len(held) == 13
    assert (await shops[1].stock([500]))[500] == Stock(500, 1, 39)


async def test_two_processes_on_one_file_never_oversell_and_each_sees_the_other(start):
    stubs = [InventoryServiceStub((await start("inventory")).channel) for _ in range(2)]
    await stubs[0].AddStock(AddStockRequest(book_id=500, quantity=40))

    # Each key is sent to both, as a retry to another instance would be.
    calls = [stub.Reserve(reserve(f"k{turn}", b500=3)) for turn in range(20) for stub in stubs]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    held = {outcome.reservation.id for outcome in outcomes if not isinstance(outcome, grpc.aio.AioRpcError)}
    codes = {outcome.code() for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)}
    assert (len(held), codes) == (13, {grpc.StatusCode.FAILED_PRECONDITION})
    assert [await stock(stub, 500) for stub in stubs] == [(1, 39), (1, 39)]


async def test_a_refused_reservation_says_of_which_book_there_are_not_enough(inventory, refused, book):
    error = await refused(inventory.Reserve(reserve("short", **{f"b{book}": 11})))

    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    info, failure = error_details_pb2.ErrorInfo(), error_details_pb2.PreconditionFailure()
    details = rpc_status.from_call(error).details
    assert details[0].Unpack(info)
    assert details[1].Unpack(failure)
    assert (info.reason, info.domain) == ("OUT_OF_STOCK", "bookstore.inventory.v1")
    assert [(each.subject, each.description) for each in failure.violations] == [
        (f"books/{book}", "11 wanted, 10 available")
    ]


async def test_reserve_and_release_move_copies(inventory, book):
    made = (await inventory.Reserve(reserve(f"move-{book}", **{f"b{book}": 4}))).reservation
    assert made.state == RESERVATION_STATE_HELD
    assert await stock(inventory, book) == (6, 4)

    released = (await inventory.Release(ReleaseRequest(reservation_id=made.id))).reservation
    assert released.state == RESERVATION_STATE_RELEASED
    assert await stock(inventory, book) == (10, 0)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        pytest.param(reserve("", b1=1), "idempotency_key", id="no key"),
        pytest.param(reserve("x" * 129, b1=1), "idempotency_key", id="a long key"),
        pytest.param(reserve("k"), "lines", id="no line"),
        pytest.param(reserve("k", **{f"b{book}": 1 for book in range(1, 22)}), "lines", id="too many lines"),
        pytest.param(reserve("k", b1=1, b01=1), "lines", id="a book twice"),
        pytest.param(reserve("k", b1=1, b2=0), "lines[1].quantity", id="no copies"),
    ],
)
async def test_a_bad_reservation_names_its_field(inventory, refused, request_, field):
    error = await refused(inventory.Reserve(request_))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    bad = error_details_pb2.BadRequest()
    assert rpc_status.from_call(error).details[1].Unpack(bad)
    assert [violation.field for violation in bad.field_violations] == [field]


@pytest.mark.parametrize(("book_id", "quantity"), [(0, 1), (1, 0), (1, 1_000_001)])
async def test_a_bad_delivery_is_refused(inventory, refused, book_id, quantity):
    error = await refused(inventory.AddStock(AddStockRequest(book_id=book_id, quantity=quantity)))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_watch_sends_the_stock_and_then_its_changes(inventory, book):
    watch = inventory.WatchStock(WatchStockRequest(book_ids=[book]), timeout=10)
    assert (await watch.read()).stock.available == 10

    await inventory.Reserve(reserve(f"watch-{book}", **{f"b{book}": 3}))

    assert (await watch.read()).stock.available == 7
    watch.cancel()


async def test_a_watch_of_all_books_sends_all(inventory):
    watch = inventory.WatchStock(WatchStockRequest(), timeout=10)

    assert [(await watch.read()).stock.book_id for _ in range(21)] == [*range(1, 21), 42]
    watch.cancel()


async def test_a_watch_of_an_unknown_book_is_not_found(inventory, refused):
    error = await refused(inventory.WatchStock(WatchStockRequest(book_ids=[1, 77])).read())

    assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watch_ends_when_the_server_stops(start, refused):
    process = await start("inventory", GRACE_SECONDS="60")
    watch = InventoryServiceStub(process.channel).WatchStock(WatchStockRequest(book_ids=[42]))
    await watch.read()

    async with asyncio.timeout(10):
        assert await process.stop() == 0
    assert (await refused(watch.read())).code() is grpc.StatusCode.UNAVAILABLE


async def test_with_fail_every_each_third_reserve_is_unavailable_and_nothing_else(start, refused):
    inventory = InventoryServiceStub((await start("inventory", FAIL_EVERY="3")).channel)
    outcomes = await asyncio.gather(
        *(inventory.Reserve(reserve(f"k{turn}", b1=1)) for turn in range(9)), return_exceptions=True
    )

    failed = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
    assert [error.code() for error in failed] == [grpc.StatusCode.UNAVAILABLE] * 3
    assert await stock(inventory, 1) == (99_994, 6)


def field_line(name, value):
    """A header as HPACK writes it without tables: literal, never indexed."""
    return b"\x10" + bytes([len(name)]) + name + bytes([len(value)]) + value


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


async def frames_of(address, path, message):
    """What a server answers to one call, on the wire: (kind, flags) of each frame of its stream."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    headers = {b":method": b"POST", b":scheme": b"http", b":path": path, b":authority": b"test", b"te": b"trailers"}
    headers |= {b"content-type": b"application/grpc"}
    block = b"".join(field_line(name, value) for name, value in headers.items())
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(1, 4, 1, block))
    writer.write(frame(0, 1, 1, b"\0" + len(message).to_bytes(4) + message))
    seen = []
    while not seen or not seen[-1][1] & 1:  # END_STREAM
        head = await reader.readexactly(9)
        await reader.readexactly(int.from_bytes(head[:3]))
        if int.from_bytes(head[5:9]) == 1 and head[3] in {0, 1}:
            seen.append((head[3], head[4]))
    writer.close()
    await writer.wait_closed()
    return [kind for kind, _ in seen]


async def test_a_failure_on_purpose_is_one_header_frame_so_that_a_proxy_may_retry_it(start):
    data, headers = 0, 1
    process = await start("inventory", FAIL_EVERY="2")
    message = reserve("k", b1=1).SerializeToString()
    path = b"/bookstore.inventory.v1.InventoryService/Reserve"

    async with asyncio.timeout(10):
        assert await frames_of(process.address, path, message) == [headers, data, headers]
        assert await frames_of(process.address, path, message) == [headers]

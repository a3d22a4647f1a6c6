"""Orders: the model and store alone, then the service with a real catalog and a real inventory, without a mesh."""

import asyncio
import itertools
from dataclasses import replace
from datetime import UTC, datetime

import grpc
import pytest
from bookstore.inventory.v1.inventory_pb2 import AddStockRequest, GetStockRequest
from bookstore.inventory.v1.inventory_pb2_grpc import InventoryServiceStub
from bookstore.orders.v1.orders_pb2 import (
    ORDER_STATE_CANCELLED,
    ORDER_STATE_PLACED,
    CancelOrderRequest,
    GetOrderRequest,
    Item,
    ListOrdersRequest,
    PlaceOrderRequest,
)
from bookstore.orders.v1.orders_pb2_grpc import OrderServiceStub
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from orders.model import Book, Line, Money, Order, State, Wish, priced
from orders.store import TABLES, Orders

from kit.errors import NotFound, Unmet

NUMBERS = itertools.count(1)

ORDER = Order(
    id="o-1",
    idempotency_key="k-1",
    customer_id="ann",
    state=State.PLACED,
    reservation_id="r-1",
    lines=(Line(1, "One", 2, Money("EUR", 500)), Line(7, "Seven", 1, Money("EUR", 99))),
    created=datetime(2026, 2, 3, 4, 5, 6, 789, UTC),
)


@pytest.fixture
async def orders(open_database):
    return Orders(await open_database(TABLES))


@pytest.fixture
def service(bookstore):
    return OrderServiceStub(bookstore.orders.channel)


@pytest.fixture
def inventory(bookstore):
    return InventoryServiceStub(bookstore.inventory.channel)


def wish(key=None, customer="ann", items=((42, 1),)):
    """A request under a new key, unless one is given."""
    listed = [Item(book_id=book, quantity=quantity) for book, quantity in items]
    return PlaceOrderRequest(idempotency_key=key or f"key-{next(NUMBERS)}", customer_id=customer, items=listed)


async def reserved(inventory, book_id):
    return (await inventory.GetStock(GetStockRequest(book_id=book_id))).stock.reserved


def test_a_total_adds_up_the_lines():
    assert ORDER.total == Money("EUR", 1099)


def test_an_order_fulfils_the_wish_for_the_same_books():
    asked = Wish("k-1", "ann", {7: 1, 1: 2})

    assert ORDER.fulfils(asked)
    assert not ORDER.fulfils(replace(asked, customer_id="bob"))
    assert not ORDER.fulfils(replace(asked, items={1: 2}))


def test_lines_are_priced_by_rising_book_id():
    one, seven = (Book(line.book_id, line.title, line.unit_price) for line in ORDER.lines)

    assert priced({7: 1, 1: 2}, {7: seven, 1: one}) == ORDER.lines


def test_prices_in_two_currencies_cannot_be_one_order():
    books = {1: Book(1, "One", Money("EUR", 1)), 2: Book(2, "Two", Money("USD", 1))}

    with pytest.raises(Unmet, match="currencies"):
        priced({1: 1, 2: 1}, books)


async def test_an_order_comes_back_as_it_was_added(orders):
    assert await orders.add(ORDER) == ORDER
    assert await orders.get("o-1") == await orders.placed_with("k-1") == ORDER


async def test_a_key_keeps_its_first_order(orders):
    await orders.add(ORDER)

    assert await orders.add(replace(ORDER, id="o-2", customer_id="bob")) == ORDER
    with pytest.raises(NotFound):
        await orders.get("o-2")


async def test_many_at_once_with_one_key_keep_one_order(open_database):
    stores = [Orders(await open_database(TABLES)) for _ in range(2)]

    kept = await asyncio.gather(*(stores[turn % 2].add(replace(ORDER, id=f"o-{turn}")) for turn in range(20)))

    assert len({order.id for order in kept}) == 1


async def test_pages_go_back_in_time(orders):
    for turn in range(5):
        customer = "bob" if turn == 2 else "ann"
        await orders.add(replace(ORDER, id=f"o-{turn}", idempotency_key=f"k-{turn}", customer_id=customer))

    first, before = await orders.page("ann", before=None, size=2)
    second, end = await orders.page("ann", before=before, size=2)
    everyone, _ = await orders.page("", before=None, size=10)

    assert [order.id for order in (*first, *second)] == ["o-4", "o-3", "o-1", "o-0"]
    assert (end, len(everyone)) == (None, 5)


async def test_an_order_is_placed_with_the_prices_of_the_catalog_and_the_copies_of_the_inventory(service, inventory):
    order = (await service.PlaceOrder(wish(items=((42, 2), (1, 1))))).order

    assert order.state == ORDER_STATE_PLACED
    assert [(line.book_id, line.quantity, line.unit_price.minor_units) for line in order.lines] == [
        (1, 1, 6900),
        (42, 2, 1299),
    ]
    assert (order.total.minor_units, order.total.currency_code) == (9498, "EUR")
    assert await reserved(inventory, 1) == 1
    assert (await service.GetOrder(GetOrderRequest(order_id=order.id))).order == order


async def test_the_same_key_and_wish_give_the_same_order(service, inventory):
    request = wish(items=((2, 3), (3, 1)))

    placed = await asyncio.gather(*(service.PlaceOrder(request) for _ in range(8)))

    assert len({response.order.id for response in placed}) == 1
    assert await reserved(inventory, 2) == 3


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"items": ((4, 2),)}, id="another quantity"),
        pytest.param({"items": ((4, 1), (5, 1))}, id="another book"),
        pytest.param({"customer": "bob"}, id="another customer"),
    ],
)
async def test_the_same_key_with_another_wish_already_exists(service, refused, other):
    first = wish(items=((4, 1),))
    await service.PlaceOrder(first)

    error = await refused(service.PlaceOrder(wish(first.idempotency_key, **({"items": ((4, 1),)} | other))))

    assert error.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_a_cancelled_order_gives_its_copies_back_and_stays_cancelled(service, inventory):
    request = wish(items=((6, 5),))
    order = (await service.PlaceOrder(request)).order
    assert await reserved(inventory, 6) == 5

    for _ in range(2):
        cancelled = (await service.CancelOrder(CancelOrderRequest(order_id=order.id))).order
        assert cancelled.state == ORDER_STATE_CANCELLED
        assert await reserved(inventory, 6) == 0
    assert (await service.PlaceOrder(request)).order == cancelled


async def test_orders_are_listed_newest_first(service):
    placed = [(await service.PlaceOrder(wish(customer="carol"))).order.id for _ in range(3)]

    first = await service.ListOrders(ListOrdersRequest(customer_id="carol", page_size=2))
    rest = await service.ListOrders(ListOrdersRequest(customer_id="carol", page_token=first.next_page_token))

    assert [order.id for order in (*first.orders, *rest.orders)] == placed[::-1]
    assert rest.next_page_token == ""


async def test_out_of_stock_is_refused_with_the_books_and_reserves_nothing(service, inventory, refused):
    error = await refused(service.PlaceOrder(wish(items=((13, 4), (8, 1)))))

    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    failure = error_details_pb2.PreconditionFailure()
    assert rpc_status.from_call(error).details[1].Unpack(failure)
    assert [violation.subject for violation in failure.violations] == ["books/13"]
    assert (await reserved(inventory, 8), await reserved(inventory, 13)) == (0, 0)


async def test_a_book_that_is_not_in_the_catalog_is_not_found(service, inventory, refused):
    await inventory.AddStock(AddStockRequest(book_id=777, quantity=1))

    error = await refused(service.PlaceOrder(wish(items=((777, 1),))))

    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "There is no book 777")


@pytest.mark.parametrize("call", ["GetOrder", "CancelOrder"])
async def test_an_order_that_is_not_there_is_not_found(service, refused, call):
    request = {"GetOrder": GetOrderRequest, "CancelOrder": CancelOrderRequest}[call](order_id="nobody's")

    assert (await refused(getattr(service, call)(request))).code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        pytest.param(PlaceOrderRequest(), ["idempotency_key", "customer_id", "items"], id="empty"),
        pytest.param(wish(items=((1, 1), (1, 1))), ["items"], id="a book twice"),
        pytest.param(wish(items=((1, 1), (2, 1001))), ["items[1].quantity"], id="too many copies"),
        pytest.param(wish(customer="x" * 129), ["customer_id"], id="a long name"),
    ],
)
async def test_a_bad_order_names_its_fields(service, refused, request_, fields):
    error = await refused(service.PlaceOrder(request_))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    bad = error_details_pb2.BadRequest()
    assert rpc_status.from_call(error).details[1].Unpack(bad)
    assert [violation.field for violation in bad.field_violations] == fields


async def test_a_failing_inventory_is_not_retried_and_leaves_no_order(start, bookstore, refused):
    inventory = await start("inventory", FAIL_EVERY="2")
    addresses = {"CATALOG_ADDR": bookstore.catalog.address, "INVENTORY_ADDR": inventory.address}
    orders = OrderServiceStub((await start("orders", **addresses)).channel)
    request = wish("again")
    await orders.PlaceOrder(wish())

    error = await refused(orders.PlaceOrder(request))

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert len((await orders.ListOrders(ListOrdersRequest())).orders) == 1
    assert (await orders.PlaceOrder(request)).order.state == ORDER_STATE_PLACED
    assert await reserved(InventoryServiceStub(inventory.channel), 42) == 2


async def test_catalog_gets_what_is_left_of_the_callers_deadline(start, bookstore):
    addresses = {"CATALOG_ADDR": (await start("probe")).address, "INVENTORY_ADDR": bookstore.inventory.address}
    orders = OrderServiceStub((await start("orders", **addresses)).channel)

    order = (await orders.PlaceOrder(wish(items=((1, 1),)), timeout=3)).order

    # A margin less; on the wire gRPC rounds each timeout up, here to 10 ms.
    assert 1.5 < float(order.lines[0].title) <= 3 - 0.02 + 0.01


async def test_an_order_being_placed_survives_sigterm(start, bookstore, inventory):
    await inventory.AddStock(AddStockRequest(book_id=700, quantity=1))
    addresses = {"CATALOG_ADDR": (await start("probe")).address, "INVENTORY_ADDR": bookstore.inventory.address}
    process = await start("orders", **addresses)
    orders = OrderServiceStub(process.channel)
    slow = asyncio.ensure_future(orders.PlaceOrder(wish(items=((700, 1),))))  # takes 700 ms in the catalog
    await orders.ListOrders(ListOrdersRequest())

    stopped = asyncio.create_task(process.stop())

    assert (await slow).order.state == ORDER_STATE_PLACED
    assert await stopped == 0

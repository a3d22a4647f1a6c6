"""The methods of bookstore.orders.v1.OrderService; the proto says what each of them promises."""

import uuid
from datetime import UTC, datetime
from typing import Final

from bookstore.orders.v1 import orders_pb2, orders_pb2_grpc
from bookstore.type.v1 import money_pb2
from google.protobuf import timestamp_pb2

from kit import logging
from kit.errors import Unmet, check
from kit.interceptors import Context
from kit.paging import key_before, page_size, token_after
from orders.model import Line, Money, Order, State, Wish, priced
from orders.store import Orders
from orders.upstreams import Catalog, Inventory, key_reused

MAX_TEXT: Final = 128
MAX_ITEMS: Final = 20
MAX_QUANTITY: Final = 1000

log = logging.get(__name__)


class OrderService(orders_pb2_grpc.OrderServiceServicer):
    def __init__(self, orders: Orders, catalog: Catalog, inventory: Inventory) -> None:
        self._orders = orders
        self._catalog = catalog
        self._inventory = inventory

    async def PlaceOrder(
        self, request: orders_pb2.PlaceOrderRequest, context: Context
    ) -> orders_pb2.PlaceOrderResponse:
        order = await self._place(decode(request))
        return orders_pb2.PlaceOrderResponse(order=encode(order))

    async def GetOrder(self, request: orders_pb2.GetOrderRequest, context: Context) -> orders_pb2.GetOrderResponse:
        return orders_pb2.GetOrderResponse(order=encode(await self._orders.get(request.order_id)))

    async def ListOrders(
        self, request: orders_pb2.ListOrdersRequest, context: Context
    ) -> orders_pb2.ListOrdersResponse:
        size, before = page_size(request.page_size), key_before(request.page_token)
        found, last = await self._orders.page(request.customer_id, before=before, size=size)
        return orders_pb2.ListOrdersResponse(
            orders=[encode(order) for order in found], next_page_token="" if last is None else token_after(last)
        )

    async def CancelOrder(
        self, request: orders_pb2.CancelOrderRequest, context: Context
    ) -> orders_pb2.CancelOrderResponse:
        order = await self._orders.get(request.order_id)
        # In this sequence a call that breaks off can be repeated: to release twice changes nothing.
        await self._inventory.release(order.reservation_id)
        await self._orders.cancel(order.id)
        log.info("order_cancelled", order=order.id)
        return orders_pb2.CancelOrderResponse(order=encode(await self._orders.get(order.id)))

    async def _place(self, wish: Wish) -> Order:
        if known := await self._orders.placed_with(wish.idempotency_key):
            return unless_other(known, wish)
        lines = priced(wish.items, {book_id: await self._catalog.book(book_id) for book_id in wish.items})
        # Copies before the order: if we end in between, the same call again finds them under its key, and no order is
        # half there. Copies of a caller who never repeats it stay reserved.
        reservation = await self._inventory.reserve(wish)
        if not reservation.held:
            return await self._cancelled_meanwhile(wish)
        order = await self._orders.add(new_order(wish, lines, reservation.id))
        log.info("order_placed", order=order.id, customer=order.customer_id, total=order.total.amount)
        return unless_other(order, wish)

    async def _cancelled_meanwhile(self, wish: Wish) -> Order:
        """The order of the same wish that another call placed, and a third one cancelled, since we looked."""
        if known := await self._orders.placed_with(wish.idempotency_key):
            return unless_other(known, wish)
        raise Unmet("RESERVATION_RELEASED", "The copies were given back. Order again, with another idempotency key")


def unless_other(order: Order, wish: Wish) -> Order:
    """Raises AlreadyExists if the order under the key of `wish` is not what it asks for."""
    if not order.fulfils(wish):
        raise key_reused()
    return order


def new_order(wish: Wish, lines: tuple[Line, ...], reservation_id: str) -> Order:
    return Order(
        id=str(uuid.uuid4()),
        idempotency_key=wish.idempotency_key,
        customer_id=wish.customer_id,
        state=State.PLACED,
        reservation_id=reservation_id,
        lines=lines,
        created=datetime.now(UTC),
    )


def decode(request: orders_pb2.PlaceOrderRequest) -> Wish:
    """Raises Invalid."""
    books = [item.book_id for item in request.items]
    length = f"has to have 1 to {MAX_TEXT} characters"
    check(
        (1 <= len(request.idempotency_key) <= MAX_TEXT, "idempotency_key", length),
        (1 <= len(request.customer_id) <= MAX_TEXT, "customer_id", length),
        (1 <= len(books) <= MAX_ITEMS, "items", f"have to be 1 to {MAX_ITEMS}"),
        (len(books) == len(set(books)), "items", "name a book twice"),
        *(
            (1 <= item.quantity <= MAX_QUANTITY, f"items[{place}].quantity", f"has to be 1 to {MAX_QUANTITY}")
            for place, item in enumerate(request.items)
        ),
    )
    return Wish(request.idempotency_key, request.customer_id, {item.book_id: item.quantity for item in request.items})


STATES: Final = {State.PLACED: orders_pb2.ORDER_STATE_PLACED, State.CANCELLED: orders_pb2.ORDER_STATE_CANCELLED}


def encode(order: Order) -> orders_pb2.Order:
    created = timestamp_pb2.Timestamp()
    created.FromDatetime(order.created)
    return orders_pb2.Order(
        id=order.id,
        customer_id=order.customer_id,
        state=STATES[order.state],
        lines=[encode_line(line) for line in order.lines],
        total=encode_money(order.total),
        create_time=created,
    )


def encode_line(line: Line) -> orders_pb2.OrderLine:
    return orders_pb2.OrderLine(
        book_id=line.book_id, title=line.title, quantity=line.quantity, unit_price=encode_money(line.unit_price)
    )


def encode_money(money: Money) -> money_pb2.Money:
    return money_pb2.Money(currency_code=money.currency, minor_units=money.amount)

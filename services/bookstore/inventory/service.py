"""The methods of bookstore.inventory.v1.InventoryService; the proto says what each of them promises."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Final

import grpc
from bookstore.inventory.v1 import inventory_pb2, inventory_pb2_grpc

from inventory.faults import FailEvery
from inventory.store import Copies, Reservation, Stock
from kit.errors import check
from kit.interceptors import Context

MAX_KEY: Final = 128
MAX_LINES: Final = 20
MAX_WATCHED: Final = 100
MAX_DELIVERY: Final = 1_000_000

LOOK_EVERY: Final = 0.25
"""Seconds between two looks at a watched stock. Nothing else tells of changes by another process on the same file."""


class InventoryService(inventory_pb2_grpc.InventoryServiceServicer):
    def __init__(self, copies: Copies, faults: FailEvery, stopping: asyncio.Event) -> None:
        self._copies = copies
        self._faults = faults
        self._stopping = stopping

    async def GetStock(
        self, request: inventory_pb2.GetStockRequest, context: Context
    ) -> inventory_pb2.GetStockResponse:
        found = await self._copies.stock([request.book_id])
        return inventory_pb2.GetStockResponse(stock=encode_stock(found[request.book_id]))

    async def WatchStock(
        self, request: inventory_pb2.WatchStockRequest, context: Context
    ) -> AsyncIterator[inventory_pb2.WatchStockResponse]:
        check((len(request.book_ids) <= MAX_WATCHED, "book_ids", f"have to be {MAX_WATCHED} at most"))
        sent: dict[int, Stock] = {}
        while not self._stopping.is_set():
            seen = await self._copies.stock(request.book_ids)
            for stock in seen.values():
                if sent.get(stock.book_id) != stock:
                    yield inventory_pb2.WatchStockResponse(stock=encode_stock(stock))
            sent = seen
            await self._pause()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "This server is stopping; call again to go on watching")

    async def AddStock(
        self, request: inventory_pb2.AddStockRequest, context: Context
    ) -> inventory_pb2.AddStockResponse:
        check(
            (request.book_id >= 1, "book_id", "has to be 1 or more"),
            (1 <= request.quantity <= MAX_DELIVERY, "quantity", f"has to be 1 to {MAX_DELIVERY}"),
        )
        stock = await self._copies.add(request.book_id, request.quantity)
        return inventory_pb2.AddStockResponse(stock=encode_stock(stock))

    async def Reserve(self, request: inventory_pb2.ReserveRequest, context: Context) -> inventory_pb2.ReserveResponse:
        if self._faults.due():
            # Nothing has been sent yet, so this is one header frame: the only kind of failure that a proxy retries.
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"Failed on purpose: FAIL_EVERY={self._faults.count}")
        check_reserve(request)
        lines = {line.book_id: line.quantity for line in request.lines}
        reservation = await self._copies.reserve(request.idempotency_key, lines, new_id=str(uuid.uuid4()))
        return inventory_pb2.ReserveResponse(reservation=encode_reservation(reservation))

    async def Release(self, request: inventory_pb2.ReleaseRequest, context: Context) -> inventory_pb2.ReleaseResponse:
        reservation = await self._copies.release(request.reservation_id)
        return inventory_pb2.ReleaseResponse(reservation=encode_reservation(reservation))

    async def _pause(self) -> None:
        """Until it is time to look again, or to stop."""
        try:
            await asyncio.wait_for(self._stopping.wait(), LOOK_EVERY)
        except TimeoutError:
            return


def check_reserve(request: inventory_pb2.ReserveRequest) -> None:
    """Raises Invalid."""
    books = [line.book_id for line in request.lines]
    check(
        (1 <= len(request.idempotency_key) <= MAX_KEY, "idempotency_key", f"has to have 1 to {MAX_KEY} characters"),
        (1 <= len(books) <= MAX_LINES, "lines", f"have to be 1 to {MAX_LINES}"),
        (len(books) == len(set(books)), "lines", "name a book twice"),
        *(
            (line.quantity >= 1, f"lines[{place}].quantity", "has to be 1 or more")
            for place, line in enumerate(request.lines)
        ),
    )


def encode_stock(stock: Stock) -> inventory_pb2.Stock:
    return inventory_pb2.Stock(book_id=stock.book_id, available=stock.available, reserved=stock.reserved)


def encode_reservation(reservation: Reservation) -> inventory_pb2.Reservation:
    held = inventory_pb2.RESERVATION_STATE_HELD
    return inventory_pb2.Reservation(
        id=reservation.id,
        state=held if reservation.held else inventory_pb2.RESERVATION_STATE_RELEASED,
        lines=[
            inventory_pb2.ReservationLine(book_id=book_id, quantity=quantity)
            for book_id, quantity in sorted(reservation.lines.items())
        ],
    )

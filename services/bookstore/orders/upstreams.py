"""The services that orders needs, in its own words.

Only what is the customer's business becomes a refusal here. That a service is away is nobody's business but the kit's,
which passes it on; and nothing is called twice, since retries belong to the mesh.
"""

import grpc
from bookstore.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from bookstore.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from kit.errors import AlreadyExists, NotFound, Unmet, Violation
from orders.model import Book, Money, Reservation, Wish


class Catalog:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = catalog_pb2_grpc.CatalogServiceStub(channel)

    async def book(self, book_id: int) -> Book:
        """Raises NotFound."""
        try:
            response = await self._stub.GetBook(catalog_pb2.GetBookRequest(book_id=book_id))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise NotFound("BOOK_NOT_FOUND", f"There is no book {book_id}", {"book_id": str(book_id)}) from error
            raise
        price = response.book.price
        return Book(response.book.id, response.book.title, Money(price.currency_code, price.minor_units))


class Inventory:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = inventory_pb2_grpc.InventoryServiceStub(channel)

    async def reserve(self, wish: Wish) -> Reservation:
        """Under the key of the wish, so that the same wish reserves once. Raises Unmet or AlreadyExists."""
        request = inventory_pb2.ReserveRequest(
            idempotency_key=wish.idempotency_key,
            lines=[inventory_pb2.ReservationLine(book_id=book, quantity=wish.items[book]) for book in wish.items],
        )
        try:
            reservation = (await self._stub.Reserve(request)).reservation
        except grpc.aio.AioRpcError as error:
            raise refusal(error) or error from error
        return Reservation(reservation.id, held=reservation.state == inventory_pb2.RESERVATION_STATE_HELD)

    async def release(self, reservation_id: str) -> None:
        await self._stub.Release(inventory_pb2.ReleaseRequest(reservation_id=reservation_id))


def refusal(error: grpc.aio.AioRpcError) -> Unmet | AlreadyExists | None:
    """What the inventory's no means for an order; None: it was not a no."""
    if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
        return Unmet("OUT_OF_STOCK", "There are not enough copies", violations=violations(error))
    if error.code() is grpc.StatusCode.ALREADY_EXISTS:
        return key_reused()
    return None


def key_reused() -> AlreadyExists:
    return AlreadyExists("IDEMPOTENCY_KEY_REUSED", "This idempotency key belongs to another order")


def violations(error: grpc.aio.AioRpcError) -> tuple[Violation, ...]:
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # its stub has only the calls of synchronous gRPC
    found = error_details_pb2.PreconditionFailure()
    for detail in () if status is None else status.details:
        if detail.Unpack(found):
            return tuple(Violation(each.subject, each.description) for each in found.violations)
    return ()

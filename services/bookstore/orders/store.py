"""The orders, one row each."""

from datetime import UTC, datetime

from sqlalchemy import JSON, Column, Integer, MetaData, RowMapping, String, Table, select, update

from kit import Database, Transaction
from kit.errors import NotFound
from orders.model import Line, Money, Order, State

TABLES = MetaData()
ORDERS = Table(
    "orders",
    TABLES,
    Column("number", Integer, primary_key=True),  # in the order of placing; callers see it only within page tokens
    Column("id", String, unique=True, nullable=False),
    Column("idempotency_key", String, unique=True, nullable=False),
    Column("customer_id", String, nullable=False, index=True),
    Column("state", String, nullable=False),
    Column("reservation_id", String, nullable=False),
    Column("currency", String, nullable=False),
    Column("lines", JSON, nullable=False),  # [[book_id, title, quantity, unit price], ...]: a picture, never changed
    Column("created", Integer, nullable=False),  # microseconds since 1970
)

MICROSECONDS = 1_000_000


class Orders:
    """All orders ever placed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, order_id: str) -> Order:
        """Raises NotFound."""
        async with self._database.read() as transaction:
            row = await one(transaction, ORDERS.c.id, order_id)
        if row is None:
            raise NotFound("ORDER_NOT_FOUND", "There is no such order")
        return order(row)

    async def placed_with(self, idempotency_key: str) -> Order | None:
        async with self._database.read() as transaction:
            row = await one(transaction, ORDERS.c.idempotency_key, idempotency_key)
        return None if row is None else order(row)

    async def add(self, new: Order) -> Order:
        """The order that is kept under the idempotency key: `new`, or one that was added before."""
        async with self._database.write() as transaction:
            row = await one(transaction, ORDERS.c.idempotency_key, new.idempotency_key)
            if row is not None:
                return order(row)
            await transaction.execute(ORDERS.insert().values(columns(new)))
            return new

    async def cancel(self, order_id: str) -> None:
        """Writes down that the order is cancelled."""
        cancelled = update(ORDERS).where(ORDERS.c.id == order_id).values(state=State.CANCELLED.value)
        async with self._database.write() as transaction:
            await transaction.execute(cancelled)

    async def page(self, customer_id: str, *, before: int | None, size: int) -> tuple[tuple[Order, ...], int | None]:
        """At most `size` orders, newest first, and what `before` has to be for the next page (None: there is none).

        An empty `customer_id` means all customers.
        """
        query = select(ORDERS).order_by(ORDERS.c.number.desc()).limit(size + 1)
        if customer_id:
            query = query.where(ORDERS.c.customer_id == customer_id)
        if before is not None:
            query = query.where(ORDERS.c.number < before)
        async with self._database.read() as transaction:
            rows = (await transaction.execute(query)).mappings().all()
        more = len(rows) > size
        return tuple(order(row) for row in rows[:size]), rows[size - 1]["number"] if more else None


async def one(transaction: Transaction, column: Column[str], value: str) -> RowMapping | None:
    return (await transaction.execute(select(ORDERS).where(column == value))).mappings().one_or_none()


def columns(order: Order) -> dict[str, object]:
    return {
        "id": order.id,
        "idempotency_key": order.idempotency_key,
        "customer_id": order.customer_id,
        "state": order.state.value,
        "reservation_id": order.reservation_id,
        "currency": order.total.currency,
        "lines": [[line.book_id, line.title, line.quantity, line.unit_price.amount] for line in order.lines],
        "created": round(order.created.timestamp() * MICROSECONDS),
    }


def order(row: RowMapping) -> Order:
    return Order(
        id=row["id"],
        idempotency_key=row["idempotency_key"],
        customer_id=row["customer_id"],
        state=State(row["state"]),
        reservation_id=row["reservation_id"],
        lines=tuple(
            Line(book_id, title, quantity, Money(row["currency"], amount))
            for book_id, title, quantity, amount in row["lines"]
        ),
        created=datetime.fromtimestamp(row["created"] / MICROSECONDS, UTC),
    )

"""The copies of each book, and the reservations that hold some of them.

What is promised of them (all or nothing, never more than there are, once per key) is kept here, in transactions.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    ColumnElement,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from kit import Database, Transaction
from kit.errors import AlreadyExists, NotFound, Unmet, Violation

TABLES = MetaData()
STOCK = Table(
    "stock",
    TABLES,
    Column("book_id", Integer, primary_key=True),
    Column("available", Integer, CheckConstraint("available >= 0"), nullable=False),
    Column("reserved", Integer, CheckConstraint("reserved >= 0"), nullable=False),
)
RESERVATIONS = Table(
    "reservations",
    TABLES,
    Column("id", String, primary_key=True),
    Column("idempotency_key", String, unique=True, nullable=False),
    Column("lines", JSON, nullable=False),  # [[book_id, quantity], ...] by rising book_id
    Column("held", Integer, nullable=False),
)

Lines = Mapping[int, int]
"""Copies by book id."""


@dataclass(frozen=True, slots=True)
class Stock:
    book_id: int
    available: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """`held`: it still has its copies."""

    id: str
    lines: Lines
    held: bool


class Copies:
    """All copies of all books."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def stock(self, book_ids: Collection[int] = ()) -> dict[int, Stock]:
        """By rising book id; of all books if none is given. Raises NotFound if one is not known."""
        async with self._database.read() as transaction:
            found = await stock_of(transaction, book_ids)
        if unknown := sorted(set(book_ids) - found.keys()):
            raise NotFound("BOOK_NOT_FOUND", f"There is no book {unknown[0]}", {"book_id": str(unknown[0])})
        return found

    async def add(self, book_id: int, quantity: int) -> Stock:
        """The stock after `quantity` more copies came. The book need not be known."""
        row = insert(STOCK).values(book_id=book_id, available=quantity, reserved=0)
        more = row.on_conflict_do_update(set_={"available": STOCK.c.available + quantity})
        async with self._database.write() as transaction:
            await transaction.execute(more)
            return (await stock_of(transaction, [book_id]))[book_id]

    async def reserve(self, key: str, lines: Lines, new_id: str) -> Reservation:
        """Holds all of `lines`, or raises Unmet and holds none.

        A `key` that was used gives its reservation as it is now, or raises AlreadyExists if that had other lines.
        """
        async with self._database.write() as transaction:
            if known := await reservation_where(transaction, RESERVATIONS.c.idempotency_key == key):
                return repeated(known, lines)
            refuse_shortage(lines, await stock_of(transaction, lines))
            await move(transaction, lines, to_reserved=1)
            made = Reservation(new_id, lines, held=True)
            row = {"id": made.id, "idempotency_key": key, "lines": sorted(lines.items()), "held": True}
            await transaction.execute(RESERVATIONS.insert().values(row))
            return made

    async def release(self, reservation_id: str) -> Reservation:
        """Makes the copies available again, the first time; the reservation stays, without them. Raises NotFound."""
        async with self._database.write() as transaction:
            known = await reservation_where(transaction, RESERVATIONS.c.id == reservation_id)
            if known is None:
                raise NotFound("RESERVATION_NOT_FOUND", "There is no such reservation")
            if known.held:
                await move(transaction, known.lines, to_reserved=-1)
                released = update(RESERVATIONS).where(RESERVATIONS.c.id == reservation_id).values(held=False)
                await transaction.execute(released)
            return Reservation(known.id, known.lines, held=False)


def repeated(known: Reservation, lines: Lines) -> Reservation:
    """The answer to a key that was used before."""
    if known.lines != lines:
        raise AlreadyExists("IDEMPOTENCY_KEY_REUSED", "This idempotency key belongs to a reservation of other books")
    return known


def refuse_shortage(wanted: Lines, stock: Mapping[int, Stock]) -> None:
    """Raises Unmet, with a violation for each book of which there are not as many as `wanted`."""
    available = {book_id: stock[book_id].available if book_id in stock else 0 for book_id in wanted}
    short = tuple(
        Violation(f"books/{book_id}", f"{quantity} wanted, {available[book_id]} available")
        for book_id, quantity in sorted(wanted.items())
        if quantity > available[book_id]
    )
    if short:
        raise Unmet("OUT_OF_STOCK", "There are not enough copies", violations=short)


async def stock_of(transaction: Transaction, book_ids: Collection[int]) -> dict[int, Stock]:
    query = select(STOCK).order_by(STOCK.c.book_id)
    rows = await transaction.execute(query.where(STOCK.c.book_id.in_(book_ids)) if book_ids else query)
    return {row["book_id"]: Stock(**row) for row in rows.mappings()}


async def move(transaction: Transaction, lines: Lines, *, to_reserved: int) -> None:
    """From available to reserved, or back with -1."""
    for book_id, quantity in lines.items():
        moved = quantity * to_reserved
        counts = {"available": STOCK.c.available - moved, "reserved": STOCK.c.reserved + moved}
        await transaction.execute(update(STOCK).where(STOCK.c.book_id == book_id).values(counts))


async def reservation_where(transaction: Transaction, condition: ColumnElement[bool]) -> Reservation | None:
    row = (await transaction.execute(select(RESERVATIONS).where(condition))).mappings().one_or_none()
    return None if row is None else reservation(row)


def reservation(row: RowMapping) -> Reservation:
    return Reservation(row["id"], dict(row["lines"]), bool(row["held"]))

"""What an order is."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kit.errors import Unmet


class State(StrEnum):
    PLACED = "placed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Money:
    """`amount` is in the smallest unit of `currency`."""

    currency: str
    amount: int


@dataclass(frozen=True, slots=True)
class Wish:
    """What a customer asks for; `items` are copies by book id. The same key with another wish is a mistake."""

    idempotency_key: str
    customer_id: str
    items: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Book:
    """What an order has to know of a book."""

    id: int
    title: str
    price: Money


@dataclass(frozen=True, slots=True)
class Reservation:
    """Copies at the inventory. Not `held`: it has given them back."""

    id: str
    held: bool


@dataclass(frozen=True, slots=True)
class Line:
    book_id: int
    title: str
    quantity: int
    unit_price: Money


@dataclass(frozen=True, slots=True)
class Order:
    """An order as it is kept; `lines` by rising book id, with the prices of the moment in which it was placed."""

    id: str
    idempotency_key: str
    customer_id: str
    state: State
    reservation_id: str
    lines: tuple[Line, ...]
    created: datetime

    @property
    def total(self) -> Money:
        return Money(
            self.lines[0].unit_price.currency, sum(line.quantity * line.unit_price.amount for line in self.lines)
        )

    def fulfils(self, wish: Wish) -> bool:
        """Whether this is what `wish` asks for."""
        return (
            self.customer_id == wish.customer_id and {line.book_id: line.quantity for line in self.lines} == wish.items
        )


def priced(items: Mapping[int, int], books: Mapping[int, Book]) -> tuple[Line, ...]:
    """The lines of an order of `items`. Raises Unmet if their prices cannot be added up."""
    if len({book.price.currency for book in books.values()}) > 1:
        raise Unmet("MIXED_CURRENCIES", "These books are sold in different currencies. Place an order for each of them")
    return tuple(
        Line(book_id, books[book_id].title, quantity, books[book_id].price)
        for book_id, quantity in sorted(items.items())
    )

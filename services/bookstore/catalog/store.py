"""The books, one row each."""

from dataclasses import dataclass

from sqlalchemy import JSON, Column, Integer, MetaData, RowMapping, String, Table, select

from kit import Database
from kit.errors import NotFound

TABLES = MetaData()
BOOKS = Table(
    "books",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("title", String, nullable=False),
    Column("authors", JSON, nullable=False),
    Column("year", Integer, nullable=False),
    Column("price", Integer, nullable=False),
    Column("currency", String, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Book:
    """`price` is in the smallest unit of `currency`."""

    id: int
    title: str
    authors: tuple[str, ...]
    year: int
    price: int
    currency: str


class Books:
    """All books on sale."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, book_id: int) -> Book:
        """Raises NotFound."""
        async with self._database.read() as transaction:
            found = (await transaction.execute(select(BOOKS).where(BOOKS.c.id == book_id))).mappings().one_or_none()
        if found is None:
            raise NotFound("BOOK_NOT_FOUND", f"There is no book {book_id}", {"book_id": str(book_id)})
        return book(found)

    async def page(self, *, after: int, size: int) -> tuple[Book, ...]:
        """At most `size` books by rising id, from the first id above `after` on."""
        query = select(BOOKS).where(BOOKS.c.id > after).order_by(BOOKS.c.id).limit(size)
        async with self._database.read() as transaction:
            return tuple(book(row) for row in (await transaction.execute(query)).mappings())


def book(row: RowMapping) -> Book:
    return Book(**{**row, "authors": tuple(row["authors"])})

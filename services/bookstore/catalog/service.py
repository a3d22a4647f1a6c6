"""The methods of bookstore.catalog.v1.CatalogService; the proto says what each of them promises."""

from collections.abc import AsyncIterator
from typing import Final

from bookstore.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from bookstore.type.v1 import money_pb2

from catalog.store import Book, Books
from kit.errors import check
from kit.interceptors import Context
from kit.paging import key_before, page_size, token_after

MAX_QUERY: Final = 200
SEARCHED_AT_ONCE: Final = 100


class CatalogService(catalog_pb2_grpc.CatalogServiceServicer):
    def __init__(self, books: Books) -> None:
        self._books = books

    async def GetBook(self, request: catalog_pb2.GetBookRequest, context: Context) -> catalog_pb2.GetBookResponse:
        return catalog_pb2.GetBookResponse(book=encode(await self._books.get(request.book_id)))

    async def ListBooks(self, request: catalog_pb2.ListBooksRequest, context: Context) -> catalog_pb2.ListBooksResponse:
        size = page_size(request.page_size)
        # One more than asked for tells whether there is a next page.
        found = await self._books.page(after=key_before(request.page_token) or 0, size=size + 1)
        page, more = found[:size], found[size:]
        return catalog_pb2.ListBooksResponse(
            books=[encode(book) for book in page], next_page_token=token_after(page[-1].id) if more else ""
        )

    async def SearchBooks(
        self, request: catalog_pb2.SearchBooksRequest, context: Context
    ) -> AsyncIterator[catalog_pb2.SearchBooksResponse]:
        check((len(request.query) <= MAX_QUERY, "query", f"has to have {MAX_QUERY} characters at most"))
        words = request.query.casefold().split()
        check((bool(words), "query", "has to have a word"))
        async for book in self._all():
            if matches(book, words):
                yield catalog_pb2.SearchBooksResponse(book=encode(book))

    async def _all(self) -> AsyncIterator[Book]:
        """By rising id. Read piece by piece, so that a caller who reads slowly holds no transaction open."""
        after = 0
        while found := await self._books.page(after=after, size=SEARCHED_AT_ONCE):
            for book in found:
                yield book
            after = found[-1].id


def matches(book: Book, words: list[str]) -> bool:
    """Whether title and authors contain all `words`, which are casefolded."""
    text = " ".join((book.title, *book.authors)).casefold()
    return all(word in text for word in words)


def encode(book: Book) -> catalog_pb2.Book:
    return catalog_pb2.Book(
        id=book.id,
        title=book.title,
        authors=book.authors,
        year=book.year,
        price=money_pb2.Money(currency_code=book.currency, minor_units=book.price),
    )

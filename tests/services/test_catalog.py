"""The catalog: its store alone, then the running service."""

import asyncio

import grpc
import pytest
from bookstore.catalog.v1.catalog_pb2 import GetBookRequest, ListBooksRequest, SearchBooksRequest
from bookstore.catalog.v1.catalog_pb2_grpc import CatalogServiceStub
from catalog.seed import seed
from catalog.service import matches
from catalog.store import BOOKS, TABLES, Book, Books
from sqlalchemy import update


@pytest.fixture
def catalog(bookstore):
    return CatalogServiceStub(bookstore.catalog.channel)


async def titles(catalog, query):
    return [response.book.title async for response in catalog.SearchBooks(SearchBooksRequest(query=query))]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param("moby", True, id="part of a title, in lower case"),
        pytest.param("MELVILLE whale", True, id="words of title and author, in upper case"),
        pytest.param("moby dickens", False, id="one word is missing"),
    ],
)
def test_a_book_matches_if_it_has_every_word(query, found):
    book = Book(4, "Moby-Dick; or, The Whale", ("Herman Melville",), 1851, 1250, "EUR")

    assert matches(book, query.casefold().split()) is found


async def test_a_second_start_keeps_the_prices_of_the_first(open_database):
    first = await open_database(TABLES, seed)
    async with first.write() as transaction:
        await transaction.execute(update(BOOKS).where(BOOKS.c.id == 42).values(price=1))

    assert (await Books(await open_database(TABLES, seed)).get(42)).price == 1


async def test_several_processes_may_make_the_database_at_once(start, tmp_path):
    processes = await asyncio.gather(*(start("catalog", tmp_path / "new" / "folder") for _ in range(4)))

    for process in processes:
        response = await CatalogServiceStub(process.channel).ListBooks(ListBooksRequest(page_size=100))
        assert len(response.books) == 21


async def test_the_docs_call_book_42(catalog):
    book = (await catalog.GetBook(GetBookRequest(book_id=42))).book

    assert (book.title, book.authors) == ("The Hitchhiker's Guide to the Galaxy", ["Douglas Adams"])
    assert (book.price.minor_units, book.price.currency_code) == (1299, "EUR")


@pytest.mark.parametrize("book_id", [0, -1, 41, 2**63 - 1])
async def test_a_book_that_is_not_there_is_not_found(catalog, refused, book_id):
    error = await refused(catalog.GetBook(GetBookRequest(book_id=book_id)))

    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, f"There is no book {book_id}")


@pytest.mark.parametrize("size", [1, 7, 20, 21, 100])
async def test_the_pages_hold_every_book_once(catalog, size):
    seen, token = [], ""
    while True:
        page = await catalog.ListBooks(ListBooksRequest(page_size=size, page_token=token))
        assert 0 < len(page.books) <= size
        seen += [book.id for book in page.books]
        if not (token := page.next_page_token):
            break

    assert seen == [*range(1, 21), 42]


async def test_a_page_token_of_somebody_else_is_invalid(catalog, refused):
    error = await refused(catalog.ListBooks(ListBooksRequest(page_token="!")))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_search_finds_by_title_and_author(catalog):
    assert await titles(catalog, "garcía") == await titles(catalog, "SOLITUDE") == ["One Hundred Years of Solitude"]
    assert await titles(catalog, "no such book") == []
    assert len(await titles(catalog, "e")) == 21


@pytest.mark.parametrize("query", ["", "  ", "x" * 201], ids=["empty", "blank", "too long"])
async def test_a_search_needs_a_word(catalog, refused, query):
    assert (await refused(titles(catalog, query))).code() is grpc.StatusCode.INVALID_ARGUMENT

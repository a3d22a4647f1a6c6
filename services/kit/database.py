"""One SQLite file, shared by the tasks of a process, and for the time of a rolling restart by two processes.

Python's sqlite3 opens a transaction only at the first write, so that two tasks read the same row, both change it,
and one change is lost without an error. Here every writing transaction takes the write lock before it reads
(BEGIN IMMEDIATE).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, CursorResult, Executable, MetaData, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncTransaction, create_async_engine

from kit.errors import StartError

T = TypeVar("T")

PRAGMAS: Final = (
    "busy_timeout = 5000",  # ms to wait for another process; first, since the next one may have to wait
    "journal_mode = WAL",  # readers and the writer do not wait for each other
    "synchronous = NORMAL",  # safe with WAL when the process dies; a power cut may take the last commits
    "foreign_keys = ON",
)


class Transaction:
    """Statements of one transaction.

    A caller who leaves does so between two of them, never within one: interrupted, the driver leaves a connection
    behind that keeps its lock.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def execute(
        self, statement: Executable, rows: Sequence[Mapping[str, object]] | None = None
    ) -> CursorResult[Any]:
        """With `rows`, once for each of them."""
        return await to_the_end(self._connection.execute(statement, rows))

    async def create(self, tables: MetaData) -> None:
        """Makes those that are not there."""
        await to_the_end(self._connection.run_sync(tables.create_all))


Seed = Callable[[Transaction], Awaitable[None]]
"""Writes the first rows. It runs at each start, so it must leave rows alone that are there."""


class Database:
    """Made by `Database.open`. Rows are read and written in `read` and `write`, never outside of them."""

    def __init__(self, path: Path) -> None:
        # One connection that writes, and the tasks of this process wait in line for it: SQLite would let them poll.
        self._writer = engine(path, "BEGIN IMMEDIATE", PRAGMAS, pool_size=1, max_overflow=0)
        self._line = asyncio.Lock()
        self._reader = engine(path, "BEGIN", (*PRAGMAS, "query_only = ON"))

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path, tables: MetaData, seed: Seed | None = None) -> AsyncIterator["Database"]:
        """Makes the folder (0700), the tables and the first rows where they are missing, all in one transaction.

        Several processes may do so at once. Raises StartError when the file cannot be used.
        """
        database = cls(path)
        try:
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                async with database.write() as transaction:
                    await transaction.create(tables)
                    if seed is not None:
                        await seed(transaction)
            except (OSError, DBAPIError) as error:
                cause = getattr(error, "orig", None) or error
                raise StartError(str(path), f"the database cannot be used: {cause}", "See DATA_DIR") from error
            yield database
        finally:
            await database._writer.dispose()
            await database._reader.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Transaction]:
        """One unchanging picture of the data. Leave it before you yield to a caller or call another service."""
        async with begun(self._reader) as transaction:
            yield transaction

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Transaction]:
        """One transaction, alone from its first read on; commits at the end, rolls back on any exception.

        Keep it short, and call no other service in it: all other writers wait. A caller who leaves during the commit
        does not stop it; whether it happened is told by asking again with the same idempotency key.
        """
        async with self._line, begun(self._writer) as transaction:
            yield transaction


@asynccontextmanager
async def begun(engine: AsyncEngine) -> AsyncIterator[Transaction]:
    connection = engine.connect()
    try:
        await to_the_end(connection.start())
        transaction = await to_the_end(begin(connection))
        try:
            yield Transaction(connection)
        except BaseException:
            await to_the_end(transaction.rollback())
            raise
        await to_the_end(transaction.commit())
    finally:
        if connection.sync_connection is not None:
            await to_the_end(connection.close())


async def begin(connection: AsyncConnection) -> AsyncTransaction:
    return await connection.begin()


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Like await, but a cancellation in between is raised only after `work` has ended, however it ended."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        raise


def engine(path: Path, begin: str, pragmas: tuple[str, ...], **pool: int) -> AsyncEngine:
    made = create_async_engine(URL.create("sqlite+aiosqlite", database=str(path)), **pool)

    def on_connect(connection: Any, _: object) -> None:
        connection.isolation_level = None  # sqlite3 begins nothing by itself
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(made.sync_engine, "connect", on_connect)
    event.listen(made.sync_engine, "begin", on_begin)
    return made

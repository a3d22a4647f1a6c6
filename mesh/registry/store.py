"""The state on disk: one SQLite file, one writer, each change one transaction."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar
from urllib.parse import quote

from sqlalchemy import (
    Connection,
    RowMapping,
    Table,
    and_,
    create_engine,
    delete,
    event,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from mesh.errors import ConfigError, StateError
from mesh.model.descriptors import Reading, read
from mesh.model.documents import Key
from mesh.model.names import InstanceId
from mesh.registry.access_rows import REVOKED
from mesh.registry.audit import Entry, add, newest
from mesh.registry.known import NOTHING_READ, Known, Origin
from mesh.registry.leases import Lease
from mesh.registry.schema import (
    DESCRIPTORS,
    DOCUMENTS,
    KNOWN,
    LEASES,
    META,
    METADATA,
    OPERATIONS,
    SCHEMA,
    Row,
    document_from,
    document_row,
    instance_from,
    instance_row,
    key_from,
    key_row,
    known_from,
    known_row,
    lease_from,
    lease_row,
    operation_from,
    operation_row,
    origin_from,
    origin_row,
)
from mesh.registry.state import Kept, State

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

NOTHING: Final[Mapping[str, bytes]] = MappingProxyType({})

ANOTHER: Final = (
    "Name another state folder with --state; or end the mesh, and move this file and `ca` away for a new one"
)


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store holds. Each of `problems` is a document that was skipped, and stays where it is."""

    state: State
    leases: tuple[Lease, ...]
    problems: tuple[ConfigError, ...]


class Store:
    """Whoever opens a store is its only writer. Every method raises StateError when the file cannot be used."""

    def __init__(self, path: Path, engine: AsyncEngine) -> None:
        self._path = path
        self._engine = engine
        self._unfinished: set[asyncio.Task[Any]] = set()

    @classmethod
    async def open(cls, path: Path, *, begins: bool = True) -> "Store":
        """The state at `path`; nobody but its owner may read it.

        It is made when it is not there and the mesh `begins`; later, an empty one would be an order to end everything.
        """
        with _explained(path):
            if not begins and not (path.exists() and path.stat().st_size):
                raise _lost(path)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            path.chmod(0o600)
        store = cls(path, _engine(path))
        try:
            await store._prepare(begins=begins)
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        await asyncio.gather(*self._unfinished, return_exceptions=True)
        await self._engine.dispose()

    async def load(self) -> Stored:
        problems: list[ConfigError] = []
        async with self._transaction() as connection:
            meta = (await connection.execute(select(META))).mappings().one()
            documents = (await connection.execute(select(DOCUMENTS))).mappings().all()
            operations = (await connection.execute(select(OPERATIONS))).mappings().all()
            leases = (await connection.execute(select(LEASES))).mappings().all()
            known = await _known(connection, problems)
            revoked = (await connection.execute(select(REVOKED))).all()
        sets: dict[str, dict[Key, Kept]] = {"file": {}, "applied": {}}
        for row in documents:
            with _skipping(row["location"], problems):
                sets[row["set"]][key_from(row)] = document_from(row)
        found: list[Lease] = []
        for row in leases:
            with _skipping(row["location"], problems):
                found.append(lease_from(row))
        state = State(
            file=sets["file"],
            applied=sets["applied"],
            operations={key_from(row): operation_from(row) for row in operations},
            revision=meta["revision"],
            trust_domain=meta["trust_domain"],
            known=known,
            revoked={name: datetime.fromisoformat(since) for name, since in revoked},
        )
        return Stored(state, tuple(found), tuple(problems))

    async def transact(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """One transaction: what `work` does is kept when it ends well, else nothing of it is.

        It is finished whatever becomes of the caller: a connection that is left in the middle stays locked.
        """
        task = asyncio.create_task(self._transact(work))
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return await asyncio.shield(task)

    async def _transact(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async with self._transaction() as connection:
            return await work(connection)

    async def save(
        self, before: State, after: State, descriptors: Mapping[str, bytes] = NOTHING, audit: Iterable[Entry] = ()
    ) -> None:
        """Writes what has changed from `before`, which is what was loaded or saved last, in one transaction.

        `descriptors` holds by digest those that `after` knows and `before` does not; `audit` is written with it.
        """
        file, applied = {"set": "file"}, {"set": "applied"}
        async with self._transaction() as connection:
            await self._count(connection, before, after)
            await _sync(connection, DOCUMENTS, file, before.file, after.file, document_row, key_row)
            await _sync(connection, DOCUMENTS, applied, before.applied, after.applied, document_row, key_row)
            await _sync(connection, OPERATIONS, {}, before.operations, after.operations, operation_row, key_row)
            if after.known != before.known:
                await _sync(connection, KNOWN, {}, before.known, after.known, known_row, origin_row)
                await _sync_descriptors(connection, descriptors)
            await _sync(connection, REVOKED, {}, before.revoked, after.revoked, _revoked_row, _revoked_key)
            await add(connection, audit)

    async def note(self, entry: Entry) -> None:
        await self.transact(lambda connection: add(connection, [entry]))

    async def audit(self, most: int) -> tuple[Entry, ...]:
        """The newest first."""
        return await self.transact(lambda connection: newest(connection, most))

    async def save_lease(self, lease: Lease) -> None:
        async with self._transaction() as connection:
            await _put(connection, LEASES, instance_row(lease.id), lease_row(lease))

    async def delete_leases(self, instances: Iterable[InstanceId]) -> None:
        async with self._transaction() as connection:
            for instance in instances:
                await _put(connection, LEASES, instance_row(instance), None)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        with _explained(self._path):
            async with self._engine.begin() as connection:
                yield connection

    async def _prepare(self, *, begins: bool) -> None:
        async with self._transaction() as connection:
            is_new = not await connection.run_sync(lambda sync: inspect(sync).get_table_names())
            if is_new and not begins:
                raise _lost(self._path)  # its content was in the write-ahead log
            if not is_new:
                await self._check(connection)
            await connection.run_sync(METADATA.create_all)  # a table that is new in this form is added
            if is_new:
                first = {"id": 1, "schema": SCHEMA, "revision": 0, "trust_domain": ""}
                await connection.execute(insert(META).values(first))

    async def _check(self, connection: AsyncConnection) -> None:
        schema = (await connection.execute(select(META.c.schema))).scalar_one_or_none()
        if schema != SCHEMA:
            raise StateError(
                str(self._path),
                f"this state was written by another version of Proa (its form is {schema}, this version's is {SCHEMA})",
                f"Use that version. {ANOTHER}",
            )
        found = (await connection.exec_driver_sql("PRAGMA quick_check(1)")).scalar_one()
        if found != "ok":
            raise StateError(str(self._path), f"the file is damaged ({found})", ANOTHER)

    async def _count(self, connection: AsyncConnection, before: State, after: State) -> None:
        """Compare and set: a second writer, against all rules, is found out before it overwrites anything."""
        values = {"revision": after.revision, "trust_domain": after.trust_domain}
        counted = await connection.execute(update(META).where(META.c.revision == before.revision).values(values))
        if counted.rowcount != 1:
            problem = f"another process changed it; it is not at revision {before.revision} any more"
            raise StateError(str(self._path), problem, "Let only one control plane use it, and start this one again")


def _engine(path: Path) -> AsyncEngine:
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", pool_size=1, max_overflow=0)
    event.listen(engine.sync_engine, "connect", _connected)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _connected(connection: Any, _record: object) -> None:
    # Python's driver would open transactions late, and lose updates (its own BEGIN is deferred): we open them.
    connection.isolation_level = None
    cursor = connection.cursor()
    # FULL: what was applied is there after a power cut, too.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


async def _sync(
    connection: AsyncConnection,
    table: Table,
    within: Row,
    before: Mapping[K, V],
    after: Mapping[K, V],
    row: Callable[[K, V], Row],
    key_row: Callable[[K], Row],
) -> None:
    """Brings the rows of `table` that are `within` from `before` to `after`."""
    for key in {**before, **after}:
        value = after.get(key)
        if value != before.get(key):
            await _put(connection, table, {**within, **key_row(key)}, {**within, **row(key, value)} if value else None)


async def _sync_descriptors(connection: AsyncConnection, descriptors: Mapping[str, bytes]) -> None:
    """Keeps these, and forgets what nobody refers to any more."""
    for digest, content in descriptors.items():
        await _put(connection, DESCRIPTORS, {"digest": digest}, {"digest": digest, "content": content})
    await connection.execute(delete(DESCRIPTORS).where(DESCRIPTORS.c.digest.not_in(select(KNOWN.c.digest))))


def known_at(path: Path) -> dict[Origin, Known]:
    """What is known of methods in a state that a control plane may have open; nothing where there is no state."""
    rows, descriptors = _rows_at(path, KNOWN, DESCRIPTORS)
    return _known_of(rows, {one["digest"]: read(one["content"]) for one in descriptors}, [])


def attached_at(path: Path) -> tuple[InstanceId, ...]:
    """The instances in such a state that do not leave, in no order."""
    (rows,) = _rows_at(path, LEASES)
    return tuple(instance_from(row) for row in rows if not row["draining"])


def _rows_at(path: Path, *tables: Table) -> list[Sequence[RowMapping]]:
    if not path.exists():
        return [() for _ in tables]
    engine = create_engine(f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true", poolclass=NullPool)
    with _explained(path), engine.connect() as connection:
        there = inspect(connection).get_table_names()
        return [connection.execute(select(one)).mappings().all() if one.name in there else () for one in tables]


async def _known(connection: AsyncConnection, problems: list[ConfigError]) -> dict[Origin, Known]:
    rows = (await connection.execute(select(KNOWN))).mappings().all()
    readings: dict[str, Reading] = {}
    async for one in await connection.stream(select(DESCRIPTORS)):
        # One after the other, and in a thread: there may be a lot of them.
        readings[one.digest] = await asyncio.to_thread(read, one.content)
    return _known_of(rows, readings, problems)


def _known_of(
    rows: Iterable[RowMapping], readings: Mapping[str, Reading], problems: list[ConfigError]
) -> dict[Origin, Known]:
    readings = {"": NOTHING_READ, **readings}
    found: dict[Origin, Known] = {}
    for row in rows:
        with _skipping(f"schema of {row['namespace']}/{row['workload'] or row['service']}", problems):
            found[origin_from(row)] = known_from(row, readings[row["digest"]])
    return found


async def _put(connection: AsyncConnection, table: Table, key: Row, row: Row | None) -> None:
    await connection.execute(delete(table).where(_is(table, key)))
    if row is not None:
        await connection.execute(insert(table).values(row))


def _revoked_key(name: str) -> Row:
    return {"name": name}


def _revoked_row(name: str, since: datetime) -> Row:
    return {"name": name, "since": since.isoformat()}


def _is(table: Table, key: Row) -> Any:
    return and_(*(table.c[name] == value for name, value in key.items()))


@contextmanager
def _skipping(where: str, problems: list[ConfigError]) -> Iterator[None]:
    """One row that another version wrote spoils only itself."""
    try:
        yield
    except ConfigError as error:
        problems.append(error)
    except (KeyError, TypeError, ValueError) as error:
        problems.append(ConfigError(where, f"the state holds something unknown: {error}", "Apply it again"))


def _lost(path: Path) -> StateError:
    remedy = f"Put all of {path.name}* back; or end the mesh and move `ca` away, too, for a new one"
    return StateError(str(path), "it is lost, and the authority of its mesh is there", remedy)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What the disk and the database say, for people."""
    try:
        yield
    except OSError as error:
        raise StateError(str(path), f"it cannot be opened: {error.strerror}", _remedy(str(error))) from error
    except (DBAPIError, sqlite3.Error) as error:
        said = str(getattr(error, "orig", None) or error)
        raise StateError(str(path), f"the database does not work: {said}", _remedy(said)) from error


def _remedy(said: str) -> str:
    if "locked" in said:
        return "End the other process that uses it"
    if "full" in said or "No space" in said:
        return "Free some space on the disk"
    if "not a database" in said or "malformed" in said or "no such" in said:
        return ANOTHER
    return "See that you may read and write the file and its folder, or name another state folder with --state"

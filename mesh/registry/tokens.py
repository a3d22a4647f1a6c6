"""Tokens as the registry keeps them: what each is for, how often it was used, and whether it was revoked."""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import case, delete, func, insert, or_, select, update
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh.errors import AccessError, LimitError, NotFoundError
from mesh.registry.access_rows import KEYS, TOKENS
from mesh.registry.audit import Entry, add
from mesh.registry.caller import CALLER
from mesh.registry.store import Store

MOST: Final = 10_000
"""Tokens that have not expired."""

SIGNING_KEY: Final = "tokens"
KEY_BYTES: Final = 32

UNLIMITED: Final = 0


@dataclass(frozen=True, slots=True)
class Token:
    """`uses` is how often it may be used, UNLIMITED for as often as its holder likes until it expires."""

    id: str
    namespace: str
    service_account: str
    role: str
    uses: int
    created: datetime
    expires: datetime
    created_by: str = ""
    note: str = ""
    used: int = 0
    revoked: bool = False
    spent_for: str = ""

    @property
    def subject(self) -> str:
        return f"role {self.role}" if self.role else f"{self.namespace}/{self.service_account}"


class Tokens:
    """Every method raises StateError when the state cannot be read or written."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self.now = now
        """The clock by which tokens live."""

    async def key(self) -> bytes:
        """What tokens are signed with: made once for a state, and kept."""

        async def work(connection: AsyncConnection) -> bytes:
            found = (await connection.execute(select(KEYS.c.value).where(KEYS.c.name == SIGNING_KEY))).scalar()
            if found is None:
                found = secrets.token_bytes(KEY_BYTES)
                await connection.execute(insert(KEYS).values(name=SIGNING_KEY, value=found))
            return bytes(found)

        return await self._store.transact(work)

    async def create(self, token: Token) -> None:
        """Those that have expired are forgotten. Raises LimitError when there are too many others."""
        what = f"{token.subject}, {token.uses or 'any number of'} uses, until {_text(token.expires)}"
        entry = self._entry("token created", token.id, new=what)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(TOKENS).where(TOKENS.c.expires <= _text(self.now())))
            count = (await connection.execute(select(func.count()).select_from(TOKENS))).scalar_one()
            if count >= MOST:
                raise LimitError("tokens", f"there are {MOST} that have not expired", "Let some expire, then try again")
            await connection.execute(insert(TOKENS).values(_row(token)))
            await add(connection, [entry])

        await self._store.transact(work)

    async def all(self) -> tuple[Token, ...]:
        """Those that have not expired, the newest first."""

        async def work(connection: AsyncConnection) -> tuple[Token, ...]:
            chosen = select(TOKENS).where(TOKENS.c.expires > _text(self.now())).order_by(TOKENS.c.created.desc())
            return tuple(map(_token, (await connection.execute(chosen)).mappings()))

        return await self._store.transact(work)

    async def spend(self, id_: str, key: bytes) -> None:
        """Counts one use, for a key. Raises AccessError when it may not be used.

        Compared and set, so that no use counts for two. Whoever did not hear the answer may ask again for the same key.
        """
        spent_for = hashlib.sha256(key).hexdigest()
        again = TOKENS.c.spent_for == spent_for
        left = or_(TOKENS.c.uses == UNLIMITED, TOKENS.c.used < TOKENS.c.uses, again)
        used = TOKENS.c.used + case((again, 0), else_=1)

        async def work(connection: AsyncConnection) -> None:
            counted = await connection.execute(
                update(TOKENS).where(*self._live(id_), left).values(used=used, spent_for=spent_for)
            )
            if counted.rowcount != 1:
                row = (await connection.execute(select(TOKENS).where(TOKENS.c.id == id_))).mappings().one_or_none()
                raise AccessError(f"token {id_}", _why_not(row), "Have a new one made: proa token create")

        await self._store.transact(work)

    async def check(self, id_: str) -> datetime:
        """When it expires. Raises AccessError for one that has, or was revoked, however often it was used."""

        async def work(connection: AsyncConnection) -> str | None:
            found = await connection.execute(select(TOKENS.c.expires).where(*self._live(id_)))
            return found.scalar_one_or_none()

        if (expires := await self._store.transact(work)) is None:
            raise AccessError(f"token {id_}", "it has expired or was revoked", "Ask for a new one")
        return datetime.fromisoformat(expires)

    async def revoke(self, id_: str) -> Token:
        """It counts for nothing any more. Raises NotFoundError."""

        async def work(connection: AsyncConnection) -> Token:
            row = (await connection.execute(select(TOKENS).where(TOKENS.c.id == id_))).mappings().one_or_none()
            if row is None:
                raise NotFoundError(f"token {id_}", "there is no such token", "List them: proa token list")
            await connection.execute(update(TOKENS).where(TOKENS.c.id == id_).values(revoked=True))
            await add(connection, [self._entry("token revoked", id_, old=_token(row).subject)])
            return _token(row)

        return await self._store.transact(work)

    def _live(self, id_: str) -> tuple[Any, ...]:
        return TOKENS.c.id == id_, TOKENS.c.revoked.is_(False), TOKENS.c.expires > _text(self.now())

    def _entry(self, what: str, subject: str, old: str = "", new: str = "") -> Entry:
        return Entry(self.now(), CALLER.get().name, what, subject, old, new)


def _row(token: Token) -> dict[str, Any]:
    return {**asdict(token), "created": _text(token.created), "expires": _text(token.expires)}


def _token(row: RowMapping) -> Token:
    times = {name: datetime.fromisoformat(row[name]) for name in ("created", "expires")}
    return Token(**{**row, **times})


def _text(time: datetime) -> str:
    """All of one length, so that they compare as the times do."""
    return time.isoformat(timespec="microseconds")


def _why_not(row: RowMapping | None) -> str:
    if row is None:
        return "it is not known here, or has expired"
    if row["revoked"]:
        return "it was revoked"
    return "it was used as often as it may be" if row["uses"] and row["used"] >= row["uses"] else "it has expired"

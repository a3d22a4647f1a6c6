"""Tokens and the audit log as rows of a real state: counted once, revoked at once, bounded."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.errors import AccessError, LimitError, NotFoundError
from mesh.registry import audit, tokens
from mesh.registry.store import Store
from mesh.registry.tokens import UNLIMITED, Token, Tokens
from tests.controlplane.conftest import Clock
from tests.unit.registry.builders import NOON

HOUR = timedelta(hours=1)


def a_token(id_: str = "a", **changes: object) -> Token:
    token = Token(id_, "shop", "orders", "", uses=1, created=NOON, expires=NOON + HOUR)
    return replace(token, **changes)  # type: ignore[arg-type]


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    store = await Store.open(path)
    yield store
    await store.close()


@pytest.fixture
def kept(store: Store, clock: Clock) -> Tokens:
    return Tokens(store, clock.now)


async def test_the_key_is_made_once_and_outlives_a_restart(kept, store, path, clock):
    key = await kept.key()
    assert len(key) == 32
    await store.close()
    again = await Store.open(path)
    assert await Tokens(again, clock.now).key() == key
    await again.close()


async def test_a_token_for_one_use_is_spent_by_exactly_one_of_many(kept):
    await kept.create(a_token())
    results = await asyncio.gather(*(kept.spend("a", bytes([key])) for key in range(20)), return_exceptions=True)
    assert results.count(None) == 1
    assert all("as often as it may be" in str(one) for one in results if one is not None)


async def test_a_counted_token_may_be_used_so_often(kept):
    await kept.create(a_token(uses=3))
    for key in b"xyz":
        await kept.spend("a", bytes([key]))
    with pytest.raises(AccessError):
        await kept.spend("a", b"another")
    assert (await kept.all())[0].used == 3


async def test_an_unlimited_token_is_used_until_it_expires(kept, clock):
    await kept.create(a_token(uses=UNLIMITED))
    for key in b"vwxyz":
        await kept.spend("a", bytes([key]))
    later = Tokens(kept._store, lambda: NOON + HOUR)
    with pytest.raises(AccessError, match="it has expired"):
        await later.spend("a", b"key")
    with pytest.raises(AccessError):
        await later.check("a")
    assert await later.all() == ()


async def test_a_revoked_token_is_worth_nothing(kept):
    await kept.create(a_token(uses=UNLIMITED))
    await kept.check("a")
    await kept.revoke("a")
    with pytest.raises(AccessError, match="revoked"):
        await kept.spend("a", b"key")
    with pytest.raises(AccessError):
        await kept.check("a")


async def test_a_token_that_is_not_known_is_refused(kept):
    with pytest.raises(AccessError, match="not known here"):
        await kept.spend("a", b"key")
    with pytest.raises(NotFoundError):
        await kept.revoke("a")


async def test_expired_tokens_are_forgotten_and_the_others_bounded(kept, monkeypatch):
    monkeypatch.setattr(tokens, "MOST", 2)
    await kept.create(a_token("old", expires=NOON))
    await kept.create(a_token("a"))
    await kept.create(a_token("b"))
    with pytest.raises(LimitError):
        await kept.create(a_token("c"))
    assert {one.id for one in await kept.all()} == {"a", "b"}


async def test_who_makes_and_revokes_tokens_is_written_down_without_what_they_are_worth(kept, store):
    await kept.create(a_token())
    await kept.revoke("a")
    revoked, created = await store.audit(10)
    assert (created.what, created.subject, created.who) == ("token created", "a", "the control plane")
    assert "shop/orders" in created.new
    assert revoked.what == "token revoked"


async def test_the_audit_log_forgets_its_oldest_entries(store, monkeypatch):
    monkeypatch.setattr(audit, "MOST", 5)
    for number in range(8):
        await store.note(audit.Entry(NOON, "me", "did", str(number), "", "x" * 20_000))
    found = await store.audit(100)
    assert [one.subject for one in found] == ["7", "6", "5", "4", "3"]
    assert len(found[0].new) < 17_000


async def test_whoever_did_not_hear_the_answer_asks_again_for_the_same_key_and_nobody_else_does(kept):
    await kept.create(a_token())
    await kept.spend("a", b"key")
    await kept.spend("a", b"key")
    with pytest.raises(AccessError):
        await kept.spend("a", b"another")
    assert (await kept.all())[0].used == 1


async def test_a_caller_that_goes_away_in_the_middle_leaves_nothing_locked(kept):
    await kept.create(a_token(uses=UNLIMITED))
    async with asyncio.timeout(15):  # each that is left in the middle would hold up the next for 5 s
        for moment in range(200):
            task = asyncio.create_task(kept.check("a"))
            await asyncio.sleep(moment / 100_000)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await kept.spend("a", b"last")

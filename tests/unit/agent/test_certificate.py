"""What an agent does about its certificate: when it is time, when another signs, when clock or disk play up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from mesh.agent import certificate as room
from mesh.agent.certificate import Certificate, Held
from mesh.agent.new_key import Made
from mesh.agent.way import Kept, Way
from mesh.api.proa.v1 import agents_pb2

WITHIN = 5.0
DAY = timedelta(days=1)


class Signs:
    """A control plane, and the folder of an agent. `kept` is what was put there."""

    def __init__(self, lifetime: timedelta = DAY) -> None:
        self.lifetime = lifetime
        self.trust = agents_pb2.Trust(bundle_pem="old root", roots=["1"], issuer="old")
        self.kept: list[tuple[str, str]] = []
        self.full = False
        self.signed = 0
        self.changed = asyncio.Event()

    async def SignCertificate(self, *_: Any, **__: Any) -> agents_pb2.SignCertificateResponse:
        self.signed += 1
        now = datetime.now(UTC)
        return agents_pb2.SignCertificateResponse(
            chain_pem=f"leaf {self.signed}",
            serial=str(self.signed),
            trust=self.trust,
            not_after=now + self.lifetime,
            renew_at=now + self.lifetime / 2,
        )

    def keep(self, *, chain_pem: str, key_pem: str, bundle_pem: str) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.kept.append((chain_pem, bundle_pem))

    @asynccontextmanager
    async def kept_valid(self) -> AsyncIterator[Certificate]:
        """A certificate that is looked after within the block."""

        async def new_key(_: Kept | None) -> Made:
            return Made("key", b"csr")

        async def token() -> str:
            return "token"

        stub = cast("Any", self)
        way = Way(stub, stub, stub, token, lambda _: None)
        it = Certificate(way, agents_pb2.SignCertificateRequest(), self.keep, new_key)
        looking = asyncio.create_task(it.keep_valid(await it.obtain(), self.changed.set))
        yield it
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)

    async def change(self) -> tuple[str, str]:
        """What is kept after the next change."""
        async with asyncio.timeout(WITHIN):
            await self.changed.wait()
        self.changed.clear()
        return self.kept[-1]


def held(certificate: Certificate) -> Held:
    assert certificate.held
    return certificate.held


async def test_it_is_renewed_when_it_is_time() -> None:
    signs = Signs(lifetime=timedelta(seconds=0.2))
    async with signs.kept_valid() as certificate:
        assert await signs.change() == ("leaf 2", "old root")
        assert certificate.issuer_of("1") == certificate.issuer_of("2") == "old"
        assert certificate.issuer_of("3") == ""


async def test_other_roots_are_taken_without_another_leaf() -> None:
    signs = Signs()
    async with signs.kept_valid() as certificate:
        certificate.trust(agents_pb2.Trust(bundle_pem="both roots", roots=["2", "1"], issuer="old"))
        assert await signs.change() == ("leaf 1", "both roots")
        assert held(certificate).trust.roots == ["2", "1"]


async def test_another_issuer_is_asked_at_once() -> None:
    signs = Signs()
    async with signs.kept_valid() as certificate:
        signs.trust = agents_pb2.Trust(bundle_pem="both roots", roots=["2", "1"], issuer="new")
        certificate.trust(signs.trust)
        assert await signs.change() == ("leaf 2", "both roots")
        assert held(certificate).trust.issuer == "new"


async def test_what_is_known_already_changes_nothing() -> None:
    signs = Signs()
    async with signs.kept_valid() as certificate:
        certificate.trust(agents_pb2.Trust.FromString(signs.trust.SerializeToString()))
        await asyncio.sleep(0)
        certificate.trust(agents_pb2.Trust(bundle_pem="both roots", roots=["2", "1"], issuer="old"))
        await signs.change()
    assert [chain for chain, _ in signs.kept] == ["leaf 1", "leaf 1"]


@pytest.mark.parametrize(("hours", "renewed"), [(-1, True), (1, False), (-0.01, False)])
async def test_a_clock_that_was_set_back_makes_it_be_renewed(
    hours: float, renewed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that was set ahead is the time of day, which is looked at anyway."""
    monkeypatch.setattr(room, "LONGEST_SLEEP", timedelta(milliseconds=10))
    signs, real = Signs(), room._clock
    async with signs.kept_valid():
        await asyncio.sleep(0)
        monkeypatch.setattr(room, "_clock", lambda: real() + hours * 3600)
        if renewed:
            assert await signs.change() == ("leaf 2", "old root")
            # Once: the new one knows the clock as it is now.
            signs.changed.clear()
        await asyncio.sleep(0.05)
        assert not signs.changed.is_set()


async def test_a_full_disk_leaves_what_is_there_and_is_tried_again(capfd: pytest.CaptureFixture[str]) -> None:
    signs = Signs()
    async with signs.kept_valid() as certificate:
        signs.full = True
        certificate.trust(agents_pb2.Trust(bundle_pem="both roots", roots=["2", "1"], issuer="old"))
        said = ""
        async with asyncio.timeout(WITHIN):
            while "certificate_not_renewed" not in said:
                await asyncio.sleep(0.01)
                said += capfd.readouterr().err
        assert "No space left on device" in said
        assert held(certificate).trust.bundle_pem == "old root"
        signs.full = False
        assert await signs.change() == ("leaf 1", "both roots")


@pytest.mark.parametrize(
    ("tries", "left", "longest"),
    [(1, DAY, 1.0), (10, DAY, 60.0), (10, timedelta(seconds=30), 3.0), (10, -DAY, 1.0)],
)
def test_a_pause_between_tries_never_takes_long_of_what_is_left(tries: int, left: timedelta, longest: float) -> None:
    backoff = room._patience()
    pauses = [room._pause(backoff, left).total_seconds() for _ in range(tries)]

    assert max(pauses) <= longest
    assert min(pauses) >= 0.5

"""A certificate: signed by the control plane, put where it is read, renewed, and those beside it that are trusted."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, NoReturn, Protocol

import grpc

from mesh.agent.backoff import Backoff, jittered
from mesh.agent.log import log
from mesh.agent.new_key import Made
from mesh.agent.way import Kept, Way
from mesh.api.proa.v1 import agents_pb2
from mesh.errors import MeshError

LONGEST_SLEEP: Final = timedelta(minutes=1)
"""The clock is looked at so often: it goes on while a laptop sleeps, and a timer does not."""

SET_BACK: Final = timedelta(minutes=1)
"""A clock that was set back by more makes a leaf of the future, which peers refuse."""

KNOWN: Final = 8
"""So many leaves are remembered: Envoy may still have one before the last."""

NewKey = Callable[[Kept | None], Awaitable[Made]]
"""Makes a private key and its request, signed by the key of the certificate from before."""


@dataclass(frozen=True, slots=True)
class Held:
    """A certificate as it was signed, and who is trusted. `clock` is the time of day less the uptime, at that time."""

    chain_pem: str
    key_pem: str = field(repr=False)
    trust: agents_pb2.Trust
    serial: str
    not_after: datetime
    renew_at: datetime
    clock: float


class Keep(Protocol):
    """Puts a certificate where it is read. Raises OSError."""

    def __call__(self, *, chain_pem: str, key_pem: str, bundle_pem: str) -> None: ...


class Certificate:
    """The one for `who`, which `keep` puts in its place. The key is made anew for every certificate.

    `before` is the one that an earlier process has left.
    """

    def __init__(
        self,
        way: Way,
        who: agents_pb2.SignCertificateRequest,
        keep: Keep,
        new_key: NewKey,
        before: Kept | None = None,
    ) -> None:
        self._way = way
        self._before = before
        self._made: Made | None = None
        self._who = who
        self._keep = keep
        self._new_key = new_key
        self._told = asyncio.Event()
        self._trust = agents_pb2.Trust()
        self._signed: deque[tuple[str, str]] = deque(maxlen=KNOWN)
        self.held: Held | None = None
        """The newest that is in its place."""

    def issuer_of(self, serial: str) -> str:
        """What signed the leaf with this serial number, "" for one that this process has not obtained."""
        return dict(self._signed).get(serial, "")

    def trust(self, trust: agents_pb2.Trust) -> None:
        """The control plane says whom to trust, and who signs from now on."""
        self._trust = trust
        self._told.set()

    async def obtain(self) -> Held:
        """Has a new key signed and puts it in its place. Raises AioRpcError when the control plane does not sign it."""
        # A token is spent for one key: who did not hear the answer asks again for the same.
        self._made = made = self._made or await self._new_key(self._before)
        signed = await self._signed_for(made)
        self._made = None
        self._trust = signed.trust
        self._signed.append((signed.serial, signed.trust.issuer))
        return self._put(
            Held(
                chain_pem=signed.chain_pem,
                key_pem=made.pem,
                trust=signed.trust,
                serial=signed.serial,
                not_after=signed.not_after.ToDatetime(UTC),
                renew_at=signed.renew_at.ToDatetime(UTC),
                clock=_clock(),
            )
        )

    async def keep_valid(self, held: Held, changed: Callable[[], None]) -> NoReturn:
        """Renews it for ever, when it is time or somebody else signs, and takes over whom to trust.

        A control plane that is away, or a disk that is full, is tried again. `changed` is called after each change.
        """
        backoff = _patience()
        while True:
            is_leaf_due = await self._due(held)
            try:
                held = await self.obtain() if is_leaf_due else self._put(replace(held, trust=self._trust))
            except (grpc.aio.AioRpcError, MeshError, OSError) as error:
                log("certificate_not_renewed", error=_words(error), not_after=held.not_after.isoformat())
                await asyncio.sleep(_pause(backoff, held.not_after - datetime.now(UTC)).total_seconds())
                continue
            backoff = _patience()
            changed()

    async def _due(self, held: Held) -> bool:
        """Returns when something is to be done; whether that is another leaf, and not only whom to trust."""
        while True:
            left = held.renew_at - datetime.now(UTC)
            set_back = _clock() < held.clock - SET_BACK.total_seconds()
            if left <= timedelta() or set_back or self._trust.issuer != held.trust.issuer:
                return True
            if self._trust != held.trust:
                return False
            self._told.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, LONGEST_SLEEP).total_seconds()):
                    await self._told.wait()

    async def _signed_for(self, made: Made) -> agents_pb2.SignCertificateResponse:
        """By the certificate from before, else by a token."""
        request = agents_pb2.SignCertificateRequest(csr=made.csr)
        request.MergeFrom(self._who)
        if self._before and made.signature:
            request.renewal.chain_pem, request.renewal.signature = self._before.chain_pem, made.signature
            try:
                return await self._way.signs.SignCertificate(request, timeout=5, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
                    raise
                log("certificate_refused", why=error.details())
        request.token = await self._way.token()
        return await self._way.signs.SignCertificate(request, timeout=5, wait_for_ready=True)

    def _put(self, held: Held) -> Held:
        kept = Kept(held.chain_pem, held.key_pem, held.trust.bundle_pem)
        self._keep(chain_pem=kept.chain_pem, key_pem=kept.key_pem, bundle_pem=kept.bundle_pem)
        self._way.renewed(kept)
        self._before = kept
        self.held = held
        log("certificate_written", not_after=held.not_after.isoformat(), renew_at=held.renew_at.isoformat())
        return held


def _clock() -> float:
    return time.time() - time.monotonic()


def _patience() -> Backoff:
    return Backoff(first=timedelta(seconds=1), longest=timedelta(minutes=1))


def _pause(backoff: Backoff, left: timedelta) -> timedelta:
    """Never so long that a short life would end meanwhile."""
    return min(jittered(backoff.after(timedelta())), max(left / 10, timedelta(seconds=1)))


def _words(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)

"""A certificate: signed by the control plane, put where it is read, renewed."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import grpc

from mesh.agent.backoff import Backoff, jittered
from mesh.agent.envoy import Admin
from mesh.agent.log import log
from mesh.agent.polling import until
from mesh.api.proa.v1 import agents_pb2, agents_pb2_grpc
from mesh.errors import MeshError, UnreachableError

LONGEST_SLEEP: Final = timedelta(minutes=1)
"""The clock is looked at so often: it goes on while a laptop sleeps, and a timer does not."""

LOADING: Final = timedelta(seconds=10)
"""Envoy loads a secret within milliseconds of the rename."""

NewKey = Callable[[], Awaitable[tuple[str, bytes]]]
"""Makes a private key (PEM) and its request (PKCS#10, DER)."""


@dataclass(frozen=True, slots=True)
class Validity:
    not_after: datetime
    renew_at: datetime


class Keep(Protocol):
    """Puts a certificate where it is read. Raises OSError."""

    def __call__(self, *, chain_pem: str, key_pem: str, bundle_pem: str) -> None: ...


class Certificate:
    """The one for `who`, which `keep` puts in its place. The key is made anew for every certificate."""

    def __init__(
        self,
        stub: "agents_pb2_grpc.AgentServiceAsyncStub",
        who: agents_pb2.SignCertificateRequest,
        keep: Keep,
        new_key: NewKey,
    ) -> None:
        self._stub = stub
        self._who = who
        self._keep = keep
        self._new_key = new_key

    async def obtain(self) -> Validity:
        """Has a new key signed and puts it in its place. Raises AioRpcError when the control plane does not sign it."""
        key_pem, csr = await self._new_key()
        request = agents_pb2.SignCertificateRequest(csr=csr)
        request.MergeFrom(self._who)
        signed = await self._stub.SignCertificate(request, timeout=5, wait_for_ready=True)
        self._keep(chain_pem=signed.chain_pem, key_pem=key_pem, bundle_pem=signed.bundle_pem)
        validity = Validity(signed.not_after.ToDatetime(UTC), signed.renew_at.ToDatetime(UTC))
        log("certificate_written", not_after=validity.not_after.isoformat(), renew_at=validity.renew_at.isoformat())
        return validity

    async def keep_valid(self, current: Validity, renewed: Callable[[Validity], Awaitable[None]]) -> None:
        """Renews it for ever, each time when `renew_at` has come. A control plane that is away is asked again.

        `renewed` is awaited after each renewal.
        """
        backoff = Backoff(first=timedelta(seconds=1), longest=timedelta(minutes=1))
        while True:
            await _reached(current.renew_at)
            try:
                current = await self.obtain()
            except (grpc.aio.AioRpcError, MeshError, OSError) as error:
                log("certificate_not_renewed", error=error, not_after=current.not_after.isoformat())
                await asyncio.sleep(jittered(backoff.after(timedelta())).total_seconds())
                continue
            backoff = Backoff(first=timedelta(seconds=1), longest=timedelta(minutes=1))
            await renewed(current)


async def _reached(moment: datetime) -> None:
    while (left := moment - datetime.now(UTC)) > timedelta():  # noqa: ASYNC110 (no timer for a wall clock)
        await asyncio.sleep(min(left, LONGEST_SLEEP).total_seconds())


async def confirm_loaded(admin: Admin, current: Validity) -> None:
    """Says whether Envoy has loaded it, by its own word."""

    async def loaded() -> bool:
        return current.not_after in await admin.certificate_expiries()

    try:
        async with asyncio.timeout(LOADING.total_seconds()):
            await until(loaded, every=0.1)
    except (TimeoutError, UnreachableError) as error:
        log("certificate_not_loaded", error=repr(error))
    else:
        log("certificate_loaded", not_after=current.not_after.isoformat())

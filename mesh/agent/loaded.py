"""What Envoy has loaded of the certificates that were put in its place, by its own word."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from mesh.agent.certificate import Certificate
from mesh.agent.envoy import Admin, InUse
from mesh.agent.log import log
from mesh.api.proa.v1 import agents_pb2
from mesh.errors import UnreachableError

POLL, SLOW_POLL = 0.1, 1.0
"""Seconds between two looks, in the first LATE seconds and after them."""
LATE: Final = 10.0
"""Envoy loads a secret within milliseconds of the rename."""


class LoadedCertificates:
    """Looks when it is told to, until Envoy has what it should have. `changed` is called when `found` is."""

    def __init__(self, admin: Admin, certificate: Certificate, changed: Callable[[], None]) -> None:
        self.found: tuple[agents_pb2.LoadedCertificate, ...] = ()
        self._admin = admin
        self._certificate = certificate
        self._changed = changed
        self._wake = asyncio.Event()

    def look(self) -> None:
        """There is something to see: other files, or another Envoy."""
        self._wake.set()

    async def run(self) -> NoReturn:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._until_loaded()

    async def _until_loaded(self) -> None:
        started, said = time.monotonic(), False
        while not await self._is_loaded():
            is_late = time.monotonic() - started > LATE
            if is_late and not said:
                log("certificate_not_loaded", found=[one.serial for one in self.found])
                said = True
            await asyncio.sleep(SLOW_POLL if is_late else POLL)
        log("certificate_loaded", serial=self.found[0].serial)

    async def _is_loaded(self) -> bool:
        try:
            in_use = await self._admin.certificates()
        except UnreachableError:
            return False
        found = tuple(map(self._message, sorted(in_use, key=lambda one: (one.serial, one.roots))))
        if found != self.found:
            self.found = found
            self._changed()
        held = self._certificate.held
        return held is not None and bool(found) and all(is_of(one, held.serial, held.trust.roots) for one in found)

    def _message(self, one: InUse) -> agents_pb2.LoadedCertificate:
        issuer = self._certificate.issuer_of(one.serial)
        return agents_pb2.LoadedCertificate(serial=one.serial, issuer=issuer, not_after=one.not_after, roots=one.roots)


def is_of(one: agents_pb2.LoadedCertificate, serial: str, roots: Sequence[str]) -> bool:
    """Whether it is this leaf with these roots. An Envoy before 1.40 shows the first root alone."""
    return one.serial == serial and list(one.roots) in (list(roots), list(roots[:1]))

"""What the service's methods are: read each time it becomes healthy, and told until the control plane has it."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import grpc

from mesh.agent.addresses import host_port
from mesh.agent.backoff import Backoff, jittered
from mesh.agent.log import log
from mesh.agent.reflection import ReflectionError, reflect
from mesh.api.proa.v1 import schema_pb2, schema_pb2_grpc
from mesh.model.descriptors import LARGEST_SET, digest_of, packed, read
from mesh.model.names import InstanceId

PIECE: Final = 1024 * 1024
PATIENCE: Final = 60.0
"""Seconds for the control plane to take it; it takes only a few at a time."""

AGAIN: Final = timedelta(minutes=1)
"""A service that was too slow, or was gone when it was asked, is asked again after this time."""

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=1), timedelta(minutes=1)

FINAL: Final = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT)
"""Answers that will be the same for the same schema."""


class SchemaReport:
    """`ports` are those of 127.0.0.1 at which the service speaks gRPC. A file of descriptors is read in their place.

    `changed` is called when all has been told.
    """

    def __init__(
        self,
        stub: "schema_pb2_grpc.SchemaServiceAsyncStub",
        who: InstanceId,
        ports: Collection[int],
        file: str,
        changed: Callable[[], None],
    ) -> None:
        self._stub = stub
        self._who = who
        self._ports = ports
        self._file = file
        self._changed = changed
        self._healthy = False
        self._due = False
        self._attached = False
        self._told = False
        self._wake = asyncio.Event()
        self._may_pass = False
        self._offer = schema_pb2.SchemaOffer()
        self._content = b""

    @property
    def told(self) -> bool:
        """Whether nothing is left to tell of the service that runs now."""
        return not self._ports or (self._told and not self._due)

    def service_is(self, *, healthy: bool) -> None:
        """To be called at each change: a service that becomes healthy may be another one than before."""
        self._due = self._due or (healthy and not self._healthy)
        self._healthy = healthy
        self._wake.set()

    def attached(self) -> None:
        """To be called when the control plane may be another one than before: it is told again."""
        self._attached = True
        self._wake.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        if not self._ports:
            return
        backoff = Backoff(FIRST_WAIT, LONGEST_WAIT)
        while True:
            if self._due:
                self._due, self._told = False, False
                await self._read()
            if self._attached:
                self._attached, self._told = False, False
            if self._told or not self._offer.workload:
                if not (self._due or self._attached):
                    await self._woken(AGAIN if self._may_pass else None)
                    if self._may_pass and self._healthy and not self._due:
                        before = self._offer
                        await self._read()
                        self._told = self._told and _same(before, self._offer)
            elif await self._tell():
                self._told, backoff = True, Backoff(FIRST_WAIT, LONGEST_WAIT)
                self._changed()
            else:
                await self._woken(jittered(backoff.after(timedelta())))

    async def _woken(self, at_latest: timedelta | None) -> None:
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(at_latest.total_seconds() if at_latest else None):
                await self._wake.wait()

    async def _read(self) -> None:
        """Makes the next offer."""
        undescribed: tuple[str, ...] = ()
        content, problem, self._may_pass = b"", "", False
        try:
            if self._file:
                content = await asyncio.to_thread(_descriptors, Path(self._file))
            else:
                content, undescribed, self._may_pass = await _reflected(self._ports)
        except ReflectionError as error:
            problem, self._may_pass = str(error), error.may_pass
        self._content = content
        self._offer = schema_pb2.SchemaOffer(
            namespace=self._who.namespace,
            workload=self._who.workload,
            instance=self._who.instance,
            source=schema_pb2.SCHEMA_SOURCE_FILE if self._file else schema_pb2.SCHEMA_SOURCE_REFLECTION,
            digest=digest_of(content) if content else "",
            size=len(content),
            read_at=datetime.now(UTC),
            undescribed=undescribed,
            problem=problem,
        )
        log("schema_read", bytes=len(content), digest=self._offer.digest[:12], problem=problem)

    async def _tell(self) -> bool:
        """Whether nothing is left to tell."""
        try:
            call = self._stub.ReportSchema(timeout=PATIENCE)
            await call.write(schema_pb2.ReportSchemaRequest(offer=self._offer))
            answer = await call.read()
            if isinstance(answer, schema_pb2.ReportSchemaResponse) and answer.WhichOneof("event") == "wanted":
                for at in range(0, len(self._content), PIECE):
                    await call.write(schema_pb2.ReportSchemaRequest(piece=self._content[at : at + PIECE]))
                await call.done_writing()
                await call.read()
            return await call.code() is grpc.StatusCode.OK
        except grpc.aio.AioRpcError as error:
            log("schema_not_told", why=f"{error.code().name}: {error.details()}")
            return error.code() in FINAL
        except asyncio.InvalidStateError:
            log("schema_not_told", why="the control plane ended the stream")
            return False


def _descriptors(path: Path) -> bytes:
    """The content of a file of descriptors. Raises ReflectionError when it is none."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_SET + 1)
    except OSError as error:
        raise ReflectionError(f"descriptorSet {path} cannot be read: {error.strerror}") from error
    reading = read(content)
    if not reading.schema.methods:
        why = "; ".join(reading.problems) or "it has no method"
        raise ReflectionError(f"descriptorSet {path} cannot be used: {why}")
    return content


def _same(one: schema_pb2.SchemaOffer, other: schema_pb2.SchemaOffer) -> bool:
    """But for the time at which it was read."""
    return (one.digest, one.problem, one.undescribed) == (other.digest, other.problem, other.undescribed)


async def _reflected(ports: Collection[int]) -> tuple[bytes, tuple[str, ...], bool]:
    """The descriptors of all ports, what is not described, and whether more may be soon.

    Raises ReflectionError when nothing is.
    """
    files: set[tuple[str, bytes]] = set()
    undescribed: set[str] = set()
    silent: set[str] = set()
    may_pass = False
    why = ReflectionError("its server reflection names no service")
    for port in ports:
        try:
            found = await reflect(port)
        except ReflectionError as error:
            why = error
            silent.add(host_port(port))
            may_pass = may_pass or error.may_pass
        else:
            files.update(found.files)
            undescribed.update(found.undescribed)
    content = packed(files)
    if not content and not undescribed:
        raise ReflectionError(str(why), may_pass=may_pass)
    if len(content) > LARGEST_SET:
        raise ReflectionError(f"its descriptors have more than {LARGEST_SET >> 20} MiB")
    return content, tuple(sorted(undescribed | silent)), may_pass

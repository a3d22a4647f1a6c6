"""`SchemaService`: what the methods of services are, told by agents, pushed by people, and shown."""

import asyncio
import logging
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, Final
from weakref import WeakValueDictionary

import grpc

from mesh.api.proa.v1 import schema_pb2, schema_pb2_grpc
from mesh.controlplane.access import may_act_for
from mesh.controlplane.schema_view import service_schema
from mesh.errors import LimitError, NotFoundError, ProtocolError, UsageError
from mesh.model.descriptors import LARGEST_SET, digest_of
from mesh.model.names import InstanceId
from mesh.model.printable import printable
from mesh.registry.caller import CALLER, Caller
from mesh.registry.known import Offer, Origin, Source
from mesh.registry.registry import Registry
from mesh.registry.schemas import reading_of

TRANSFERS: Final = 4
"""So many descriptor sets are taken in at one time, one of each identity; other agents wait for their turn."""

PATIENCE: Final = 30.0
"""Seconds for an agent to send its descriptors."""

LONGEST_TEXT: Final = 1000
DIGEST: Final = re.compile(r"[0-9a-f]{64}")
MOST_UNDESCRIBED: Final = 100

SOURCES: Final = {
    schema_pb2.SCHEMA_SOURCE_REFLECTION: Source.REFLECTION,
    schema_pb2.SCHEMA_SOURCE_FILE: Source.FILE,
}

Messages = AsyncIterator[schema_pb2.ReportSchemaRequest]

log = logging.getLogger(__name__)


class SchemaService(schema_pb2_grpc.SchemaServiceServicer):
    def __init__(self, registry: Registry, now: Callable[[], datetime]) -> None:
        self._registry = registry
        self._now = now
        self._transfers = asyncio.Semaphore(TRANSFERS)
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def ReportSchema(
        self, request_iterator: Messages, context: Any
    ) -> AsyncIterator[schema_pb2.ReportSchemaResponse]:
        message = await anext(request_iterator, None)
        if message is None or message.WhichOneof("event") != "offer":
            raise UsageError("schema", "the first message is not `offer`", "Send the offer first")
        instance, offer = self._offer(message.offer)
        if lease := self._registry.leases.get(instance):
            may_act_for(lease.identity)
        if not self._registry.attached(instance):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{instance.node_id} is not attached")
        content = None
        if self._is_new(offer):
            for turn in (self._turn_of(CALLER.get()), self._transfers):
                await turn.acquire()
                # Not `async with`: a generator that waits in `yield` while its stream breaks is not resumed.
                context.add_done_callback(lambda _, turn=turn: turn.release())
            if self._is_new(offer):  # nobody has sent it meanwhile
                yield schema_pb2.ReportSchemaResponse(wanted=schema_pb2.SchemaWanted())
                content = await _received(request_iterator, offer)
        await self._registry.observe_schema(instance, offer, content)
        log.info(
            "schema_told node=%s source=%s digest=%.12s problem=%s",
            instance.node_id,
            offer.source,
            offer.digest or "-",
            offer.problem,
        )
        yield schema_pb2.ReportSchemaResponse(kept=schema_pb2.SchemaKept())

    async def ListSchemas(self, request: schema_pb2.ListSchemasRequest, context: Any) -> schema_pb2.ListSchemasResponse:
        known, topology = self._registry.state.known, self._registry.topology
        services = {
            (namespace, name): service
            for (namespace, name), service in sorted(topology.services.items())
            if request.namespace in ("", namespace) and request.service in ("", name)
        }
        if request.service and not services:
            names = ", ".join(f"{namespace}/{name}" for namespace, name in sorted(topology.services))
            where = f"{request.namespace}/{request.service}".lstrip("/")
            raise NotFoundError(where, "there is no such service", f"Services: {names or 'none'}")
        workloads, pushed = defaultdict(list), defaultdict(list)
        for workload in self._registry.documents.workloads:
            workloads[workload.namespace, workload.service].append(workload)
        for origin in sorted(known):
            pushed[origin.namespace, origin.service].append(origin)
        return schema_pb2.ListSchemasResponse(
            schemas=[service_schema(one, workloads[key], pushed[key], known, topology) for key, one in services.items()]
        )

    async def PushSchema(self, request: schema_pb2.PushSchemaRequest, context: Any) -> schema_pb2.PushSchemaResponse:
        origin = Origin(request.namespace, service=request.service, version=request.version)
        before = self._registry.state.known.get(origin)
        reading = await self._registry.push_schema(
            origin, request.descriptor_set, allow_unresolved=request.allow_unresolved
        )
        digest = digest_of(request.descriptor_set)
        log.info("schema_pushed service=%s/%s digest=%.12s", request.namespace, request.service, digest)
        return schema_pb2.PushSchemaResponse(
            methods=len(reading.schema.methods),
            changed=before is None or before.digest != digest,
            problems=reading.problems,
        )

    async def DeletePushedSchema(
        self, request: schema_pb2.DeletePushedSchemaRequest, context: Any
    ) -> schema_pb2.DeletePushedSchemaResponse:
        origin = Origin(request.namespace, service=request.service, version=request.version)
        await self._registry.forget_schema(origin)
        log.info("schema_forgotten service=%s/%s", request.namespace, request.service)
        return schema_pb2.DeletePushedSchemaResponse()

    def _turn_of(self, caller: Caller) -> asyncio.Semaphore:
        """One at a time for an identity: it could keep all others waiting. The socket's owner harms only himself."""
        alone = asyncio.Semaphore()
        return self._turns.setdefault(caller.identity, alone) if caller.identity else alone

    def _is_new(self, offer: Offer) -> bool:
        return offer.digest != "" and reading_of(self._registry.state, offer.digest) is None

    def _offer(self, message: schema_pb2.SchemaOffer) -> tuple[InstanceId, Offer]:
        instance = InstanceId(message.namespace, message.workload, message.instance)
        if message.source not in SOURCES:
            raise UsageError(instance.node_id, "its offer has no source that an agent can have", "Send one")
        if message.digest and not DIGEST.fullmatch(message.digest):
            raise UsageError(instance.node_id, "the digest of its offer is none", "Send SHA-256 in hexadecimal")
        if not 0 <= message.size <= LARGEST_SET:
            raise LimitError(instance.node_id, f"descriptors of {message.size} bytes", "16 MiB is the most")
        try:
            read_at = message.read_at.ToDatetime(UTC)
        except (ValueError, OverflowError) as error:
            raise UsageError(instance.node_id, "its offer was read at no time", "Send when it was") from error
        offer = Offer(
            source=SOURCES[message.source],
            digest=message.digest,
            size=message.size,
            # A clock that is ahead must not keep later ones out.
            read_at=min(read_at, self._now()),
            undescribed=tuple(printable(name, LONGEST_TEXT) for name in message.undescribed[:MOST_UNDESCRIBED]),
            problem=printable(message.problem, LONGEST_TEXT),
        )
        return instance, offer


async def _received(messages: Messages, offer: Offer) -> bytes:
    """The descriptors of the offer. Raises ProtocolError for any other bytes, and for a peer that takes too long."""
    content = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            while len(content) < offer.size and (message := await anext(messages, None)):
                content += message.piece
    except TimeoutError:
        raise _broken(offer, f"they are not there after {PATIENCE:g} s") from None
    if digest_of(bytes(content)) != offer.digest:
        raise _broken(offer, "what came is something else")
    return bytes(content)


def _broken(offer: Offer, problem: str) -> ProtocolError:
    return ProtocolError(f"descriptors {offer.digest[:12]}", problem, "Send them again")

"""`AgentService`: what agents need to start an instance, and the stream that keeps it attached."""

import logging
import re
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any, Final

import grpc
from google.protobuf.json_format import MessageToJson

from mesh.api.proa.v1 import agents_pb2, agents_pb2_grpc
from mesh.controlplane import wire
from mesh.controlplane.access import may_act_for
from mesh.controlplane.attachments import Attachment, Attachments
from mesh.controlplane.attestation import Attestation, identity_for, revoked
from mesh.controlplane.compiler import Compiler
from mesh.controlplane.plan import launch_plan
from mesh.controlplane.rotation import Rotation
from mesh.errors import LimitError, StateError, UsageError
from mesh.identity.ca import CertificateAuthority, serial
from mesh.model.address import Address
from mesh.model.names import Identity, InstanceId
from mesh.model.shape import Role
from mesh.registry.caller import CALLER
from mesh.registry.leases import NO_ADDRESSES, Lease, instance_of
from mesh.registry.operations import desired_one
from mesh.registry.registry import Registry
from mesh.registry.status import StatusBoard
from mesh.translate.bootstrap import bootstrap

NODE_ID: Final = re.compile(r"[\w.-]{1,253}/[\w.:-]{1,253}/[\w.-]{1,253}", re.ASCII)
LONGEST: Final = 100

MOST_INSTANCES: Final = 5_000
"""Of one workload. Each is a lease in memory and on disk, and an endpoint for its callers."""

log = logging.getLogger(__name__)


class AgentService(agents_pb2_grpc.AgentServiceServicer):
    """Signs what is asked for in the name of the authority that `rotation` has come to, and tells of the next."""

    def __init__(
        self,
        registry: Registry,
        compiler: Compiler,
        board: StatusBoard,
        attestation: Attestation,
        *,
        rotation: Rotation,
        xds: Address,
        now: Callable[[], datetime],
    ) -> None:
        self._registry = registry
        self._compiler = compiler
        self._board = board
        self._rotation = rotation
        self._attestation = attestation
        self._xds = xds
        self._now = now
        self._attachments = Attachments()
        rotation.changed.also(self._attachments.wake)
        registry.revoked.also(lambda: self._attachments.end(self._is_revoked))

    async def GetLaunchPlan(
        self, request: agents_pb2.GetLaunchPlanRequest, context: Any
    ) -> agents_pb2.GetLaunchPlanResponse:
        wanted = desired_one(self._registry.state, request.namespace, request.workload)
        may_act_for(self._identity(request))
        plan = launch_plan(wanted, self._registry.state.trust_domain)
        return agents_pb2.GetLaunchPlanResponse(plan=plan)

    async def SignCertificate(
        self, request: agents_pb2.SignCertificateRequest, context: Any
    ) -> agents_pb2.SignCertificateResponse:
        identity = await self._attestation.attest(request, lambda: self._identity(request))
        authority = self._rotation.authority()
        leaf = authority.issue(request.csr, identity, (), self._now(), self._registry.leaf_lifetime())
        log.info("certificate_signed identity=%s not_after=%s", identity.uri, leaf.not_after.isoformat())
        return agents_pb2.SignCertificateResponse(
            chain_pem=leaf.chain_pem,
            bundle_pem=authority.bundle_pem,
            not_after=leaf.not_after,
            renew_at=leaf.renew_at,
            serial=leaf.serial,
            trust=_trust(authority),
        )

    async def Attach(
        self, request_iterator: AsyncIterator[agents_pb2.AttachRequest], context: Any
    ) -> AsyncIterator[agents_pb2.AttachResponse]:
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("event") != "hello":
            raise UsageError("attach", "the first message is not `hello`", "Say hello first")
        xds = self._seen_from(first.hello)
        lease = await self._attach(first.hello)
        attachment = self._attachments.open(lease.id)
        # Not in a `finally`: a generator that waits in `yield` while its stream breaks is not resumed.
        context.add_done_callback(lambda _: self._ended(attachment))
        yield agents_pb2.AttachResponse(attached=self._attached(lease, xds))
        async for message in attachment.until_replaced(request_iterator):
            if message is None:
                yield agents_pb2.AttachResponse(trust=_trust(self._rotation.authority()))
                continue
            match message.WhichOneof("event"):
                case "report":
                    await self._registry.report(lease.id, wire.report(message.report))
                case "drain":
                    await self._drain(lease)
                    attachment.drained = True
                    yield agents_pb2.AttachResponse(drained=agents_pb2.Drained())
        if attachment.replaced:
            if self._registry.is_revoked(lease.identity.uri):
                raise revoked(lease.identity.uri)
            await context.abort(grpc.StatusCode.ABORTED, f"{lease.id.node_id}: a newer stream took its place")

    def _is_revoked(self, instance: InstanceId) -> bool:
        lease = self._registry.leases.get(instance)
        return lease is not None and self._registry.is_revoked(lease.identity.uri)

    def _seen_from(self, hello: agents_pb2.Hello) -> Address:
        """Where an Envoy finds xDS: from another machine where its agent has found the API."""
        try:
            return Address.parse(hello.server) if hello.server else self._xds
        except ValueError as error:
            raise UsageError("attach", str(error), "Send host:port") from error

    def _identity(self, asked: agents_pb2.SignCertificateRequest | agents_pb2.GetLaunchPlanRequest) -> Identity:
        account = asked.service_account if isinstance(asked, agents_pb2.SignCertificateRequest) else ""
        return identity_for(self._registry, asked.namespace, asked.workload, account)

    async def _attach(self, hello: agents_pb2.Hello) -> Lease:
        """A lease that only ends with its stream: once it is there, nothing may refuse the agent any more."""
        if hello.service_account:
            instance, at = InstanceId.of_client(hello.namespace, hello.service_account, hello.instance), NO_ADDRESSES
        else:
            instance = InstanceId(hello.namespace, hello.workload, hello.instance)
            at = wire.addresses(hello.addresses)
        if not all((hello.namespace, hello.instance, instance.workload)) or not NODE_ID.fullmatch(instance.node_id):
            problem = f"{instance.node_id[:LONGEST]!r} names no instance"
            raise UsageError("attach", problem, "Send three names: letters, digits, - . _ and no slash")
        if len(hello.generation) > LONGEST:
            raise UsageError("attach", "its generation is none", "Send that of the launch plan")
        self._check_caller(instance)
        self._check_room(instance)
        lease = await self._registry.attach(instance, hello.generation, at)
        log.info("attached node=%s generation=%s", instance.node_id, lease.generation)
        return lease

    def _check_caller(self, instance: InstanceId) -> None:
        """Raises AccessError when a workload attaches another one's instance, or its identity was revoked."""
        if lease := self._registry.leases.get(instance):
            may_act_for(lease.identity)
        elif CALLER.get().identity or self._registry.state.revoked:
            account = instance.service_account or ""
            identity = identity_for(self._registry, instance.namespace, instance.workload, account)
            may_act_for(identity)
            if self._registry.is_revoked(identity.uri):
                raise revoked(identity.uri)

    def _check_room(self, instance: InstanceId) -> None:
        """Raises LimitError when somebody on another machine attaches more instances than any workload needs."""
        if not CALLER.get().identity or instance in self._registry.leases:
            return
        same = sum(1 for one in self._registry.leases if one.workload == instance.workload)
        if same >= MOST_INSTANCES:
            where = f"{instance.namespace}/{instance.workload}"
            raise LimitError(where, f"it has {same} instances already", "Stop those that are not needed")

    def _attached(self, lease: Lease, xds: Address) -> agents_pb2.Attached:
        instance = instance_of(lease, self._registry.topology)
        is_proxy = lease.role is Role.SIDECAR
        return agents_pb2.Attached(
            node_id=lease.id.node_id,
            bootstrap=MessageToJson(bootstrap(instance, xds)) if is_proxy else "",
            term=self._registry.term,
            xds=str(xds),
            trust=self._trusted(),
        )

    def _trusted(self) -> agents_pb2.Trust | None:
        """None while there is no authority: the instance goes on with what it has."""
        try:
            return _trust(self._rotation.authority())
        except StateError:
            return None

    async def _drain(self, lease: Lease) -> None:
        """Returns when no connected proxy sends calls to the instance any more, or it has taken too long."""
        await self._registry.drain(lease.id)
        await self._compiler.caught_up()
        in_time = await self._board.wait_synced(lease.workload.stop.drain)
        log.info("drained node=%s lagging=%s", lease.id.node_id, "" if in_time else ",".join(self._board.lagging()))

    def _ended(self, attachment: Attachment) -> None:
        if self._attachments.close(attachment):
            self._registry.detach(attachment.instance, at_once=attachment.drained)
            log.info("detached node=%s drained=%s", attachment.instance.node_id, attachment.drained)


def _trust(authority: CertificateAuthority) -> agents_pb2.Trust:
    roots = map(serial, authority.roots)
    return agents_pb2.Trust(bundle_pem=authority.bundle_pem, roots=roots, issuer=authority.issuer)

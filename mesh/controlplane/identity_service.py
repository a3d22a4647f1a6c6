"""`IdentityService` and `AuditService`: who is not believed any more, and who has changed what."""

import logging
import re
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from mesh.api.proa.v1 import access_pb2, access_pb2_grpc
from mesh.config.nearest import did_you_mean
from mesh.errors import NotFoundError, UsageError
from mesh.model.names import Identity, control_plane_identity
from mesh.registry.caller import CALLER
from mesh.registry.operations import client
from mesh.registry.registry import Registry
from mesh.registry.state import is_identity

SERIAL: Final = re.compile(r"[0-9a-f]{32,40}")
"""Of 159 random bits: a shorter one has never been seen."""

ANYWAY: Final = "If it is not there yet, or not any more: --allow-unresolved"
ENTRIES: Final = 100
MOST_ENTRIES: Final = 1000

log = logging.getLogger(__name__)


class IdentityService(access_pb2_grpc.IdentityServiceServicer):
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def RevokeIdentity(
        self, request: access_pb2.RevokeIdentityRequest, context: Any
    ) -> access_pb2.RevokeIdentityResponse:
        name = self._name(request.identity, request.serial)
        if is_identity(name) and not request.allow_unresolved:
            await self._check_known(Identity.from_uri(name))
        since = await self._registry.revoke(name)
        log.info("identity_revoked name=%s by=%s", name, CALLER.get().name)
        return access_pb2.RevokeIdentityResponse(revoked=_message(name, since))

    async def RestoreIdentity(
        self, request: access_pb2.RestoreIdentityRequest, context: Any
    ) -> access_pb2.RestoreIdentityResponse:
        listed = request.identity or request.serial
        name = listed if self._registry.is_revoked(listed) else self._name(request.identity, request.serial)
        await self._registry.restore(name)
        log.info("identity_restored name=%s by=%s", name, CALLER.get().name)
        return access_pb2.RestoreIdentityResponse()

    async def ListRevoked(self, request: access_pb2.ListRevokedRequest, context: Any) -> access_pb2.ListRevokedResponse:
        revoked = sorted(self._registry.state.revoked.items())
        return access_pb2.ListRevokedResponse(revoked=(_message(*one) for one in revoked))

    def _name(self, identity: str, serial: str) -> str:
        """As the registry keeps it. Raises UsageError."""
        trust_domain = self._registry.state.trust_domain
        if serial:
            plain = serial.lower().replace(":", "").lstrip("0")
            if SERIAL.fullmatch(plain) and not identity:
                return plain
            raise UsageError("--serial", f"{serial!r} alone is none", "Copy all of it from `proa ca status -o json`")
        try:
            if identity.startswith("spiffe://"):
                who = Identity.from_uri(identity)
            else:
                who = Identity(trust_domain, *identity.split("/"))
        except (ValueError, TypeError):
            raise UsageError("identity", f"{identity!r} is none", "Write NAMESPACE/SERVICE-ACCOUNT") from None
        client(who.namespace, who.service_account)  # refuses what cannot be a name
        if who.trust_domain != trust_domain or who == control_plane_identity(trust_domain):
            remedy = "Write that of a workload; for the control plane's own, `proa ca rotate`"
            raise UsageError(who.uri, "this is no workload of this mesh", remedy)
        return who.uri

    async def _check_known(self, who: Identity) -> None:
        """Raises NotFoundError with the nearest name for an identity that nobody has: a typo revokes the wrong one."""
        trust_domain, workloads = who.trust_domain, (one.workload for one in self._registry.workloads)
        known = {Identity.from_uri(one) for one in self._registry.state.revoked if is_identity(one)}
        known |= {lease.identity for lease in self._registry.leases.values()}
        known |= {Identity(trust_domain, one.namespace, one.service_account) for one in workloads}
        tokens = await self._registry.tokens.all()
        known |= {Identity(trust_domain, one.namespace, one.service_account) for one in tokens if not one.role}
        if who not in known:
            words = map(_words, known)
            remedy = f"{did_you_mean(_words(who), words, 'Look at: proa get workloads -A.')} {ANYWAY}"
            raise NotFoundError(_words(who), "no workload, instance or token has this identity", remedy)


def _words(who: Identity) -> str:
    return f"{who.namespace}/{who.service_account}"


class AuditService(access_pb2_grpc.AuditServiceServicer):
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def ListAudit(self, request: access_pb2.ListAuditRequest, context: Any) -> access_pb2.ListAuditResponse:
        found = await self._registry.audit(min(max(request.most, 0) or ENTRIES, MOST_ENTRIES))
        return access_pb2.ListAuditResponse(entries=(access_pb2.AuditEntry(**asdict(one)) for one in found))


def _message(name: str, since: datetime) -> access_pb2.Revoked:
    if is_identity(name):
        return access_pb2.Revoked(identity=name, since=since)
    return access_pb2.Revoked(serial=name, since=since)

"""`IdentityService` and `AuditService`: who is not believed any more, and who has changed what."""

import logging
import re
from datetime import datetime
from typing import Any, Final

from mesh.api.proa.v1 import access_pb2, access_pb2_grpc
from mesh.errors import UsageError
from mesh.model.names import Identity, control_plane_identity
from mesh.registry.caller import CALLER
from mesh.registry.registry import Registry
from mesh.registry.state import is_identity

SERIAL: Final = re.compile(r"[0-9a-f]{1,40}")
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
        since = await self._registry.revoke(name)
        log.info("identity_revoked name=%s by=%s", name, CALLER.get().name)
        return access_pb2.RevokeIdentityResponse(revoked=_message(name, since))

    async def RestoreIdentity(
        self, request: access_pb2.RestoreIdentityRequest, context: Any
    ) -> access_pb2.RestoreIdentityResponse:
        name = self._name(request.identity, request.serial)
        await self._registry.restore(name)
        log.info("identity_restored name=%s by=%s", name, CALLER.get().name)
        return access_pb2.RestoreIdentityResponse()

    async def ListRevoked(self, request: access_pb2.ListRevokedRequest, context: Any) -> access_pb2.ListRevokedResponse:
        revoked = sorted(self._registry.state.revoked.items())
        return access_pb2.ListRevokedResponse(revoked=(_message(*one) for one in revoked))

    def _name(self, identity: str, serial: str) -> str:
        """As the registry keeps it. Raises UsageError."""
        trust_domain = self._registry.state.trust_domain
        if serial and not identity:
            plain = serial.lower().replace(":", "").lstrip("0")
            if SERIAL.fullmatch(plain):
                return plain
            raise UsageError("--serial", f"{serial} is no serial number", "Copy it from `proa ca status -o json`")
        try:
            if identity.startswith("spiffe://"):
                who = Identity.from_uri(identity)
            else:
                who = Identity(trust_domain, *identity.split("/"))
        except (ValueError, TypeError):
            raise UsageError("identity", f"{identity!r} is none", "Write NAMESPACE/SERVICE-ACCOUNT") from None
        if who.trust_domain != trust_domain or who == control_plane_identity(trust_domain):
            remedy = "Write that of a workload; for the control plane's own, `proa ca rotate`"
            raise UsageError(who.uri, "this is no workload of this mesh", remedy)
        return who.uri


class AuditService(access_pb2_grpc.AuditServiceServicer):
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def ListAudit(self, request: access_pb2.ListAuditRequest, context: Any) -> access_pb2.ListAuditResponse:
        found = await self._registry.audit(min(max(request.most, 0) or ENTRIES, MOST_ENTRIES))
        return access_pb2.ListAuditResponse(
            entries=(
                access_pb2.AuditEntry(
                    at=one.at, who=one.who, what=one.what, subject=one.subject, old=one.old, new=one.new
                )
                for one in found
            )
        )


def _message(name: str, since: datetime) -> access_pb2.Revoked:
    if is_identity(name):
        return access_pb2.Revoked(identity=name, since=since)
    return access_pb2.Revoked(serial=name, since=since)

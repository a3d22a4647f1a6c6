"""Who may call what: a row for each method of the API, and the doors that hold a call to it."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from enum import Enum
from typing import Any, Final, Protocol

from cryptography import x509

from mesh.controlplane.limits import Calls
from mesh.errors import AccessError
from mesh.identity.ca import serial
from mesh.identity.certificates import is_valid
from mesh.model.names import Identity, Person
from mesh.registry.caller import CALLER, STRANGER, Caller
from mesh.registry.registry import Registry
from mesh.registry.state import is_identity
from mesh.xds.peer import spiffe_id
from mesh.xds.services import SERVICES

PEOPLE: Final = ("viewer", "operator", "admin")
"""Roles. Each may do what those before it may."""


class Who(Enum):
    """Whom a method is for, besides the owner of the socket."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    WORKLOAD = "workload"
    CERTIFIED = "certified"
    """Everyone with a certificate of the mesh."""


WHO: Final[Mapping[str, Who]] = {
    "/proa.v1.DocumentService/ApplyDocuments": Who.OPERATOR,
    "/proa.v1.DocumentService/ReplaceFileSet": Who.OPERATOR,
    "/proa.v1.DocumentService/ListDocuments": Who.VIEWER,
    "/proa.v1.DocumentService/DeleteDocuments": Who.OPERATOR,
    "/proa.v1.DocumentService/ExplainPolicy": Who.VIEWER,
    "/proa.v1.WorkloadService/WatchWorkloads": Who.VIEWER,
    "/proa.v1.WorkloadService/ScaleWorkload": Who.OPERATOR,
    "/proa.v1.WorkloadService/RestartWorkload": Who.OPERATOR,
    "/proa.v1.AgentService/GetLaunchPlan": Who.WORKLOAD,
    "/proa.v1.AgentService/SignCertificate": Who.WORKLOAD,
    "/proa.v1.AgentService/Attach": Who.WORKLOAD,
    "/proa.v1.StatusService/WatchInstances": Who.VIEWER,
    "/proa.v1.StatusService/ListProxies": Who.VIEWER,
    "/proa.v1.SchemaService/ReportSchema": Who.WORKLOAD,
    "/proa.v1.SchemaService/ListSchemas": Who.VIEWER,
    "/proa.v1.SchemaService/PushSchema": Who.OPERATOR,
    "/proa.v1.SchemaService/DeletePushedSchema": Who.OPERATOR,
    "/proa.v1.DebugService/GetSnapshot": Who.VIEWER,
    "/proa.v1.CaService/GetAuthority": Who.VIEWER,
    "/proa.v1.CaService/RotateRoot": Who.ADMIN,
    "/proa.v1.AuditService/ListAudit": Who.OPERATOR,
    "/proa.v1.IdentityService/ListRevoked": Who.VIEWER,
    "/proa.v1.IdentityService/RestoreIdentity": Who.ADMIN,
    "/proa.v1.IdentityService/RevokeIdentity": Who.ADMIN,
    "/proa.v1.TokenService/CreateToken": Who.ADMIN,
    "/proa.v1.TokenService/ListTokens": Who.ADMIN,
    "/proa.v1.TokenService/RevokeToken": Who.ADMIN,
    "/proa.v1.TokenService/RedeemToken": Who.CERTIFIED,
    "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus": Who.VIEWER,
    "/envoy.service.status.v3.ClientStatusDiscoveryService/StreamClientStatus": Who.VIEWER,
    "/grpc.health.v1.Health/Check": Who.CERTIFIED,
    "/grpc.health.v1.Health/Watch": Who.CERTIFIED,
    "/grpc.health.v1.Health/List": Who.CERTIFIED,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Who.VIEWER,
    **{
        f"/{one.name}/{method}": Who.WORKLOAD
        for one in SERVICES
        for method in (one.sotw, one.delta, one.fetch)
        if method
    },
}
"""A method without a row is for nobody but the owner of the socket."""

FIRST_CONTACT: Final = ("/proa.v1.AgentService/SignCertificate", "/proa.v1.TokenService/RedeemToken")
"""What takes clients without a certificate, on a port of its own: both need a token."""

OWNER: Final = Caller("the owner of the socket")

REMEDY: Final = "Ask for a token with a role that may: proa token create --role"

LOOK: Final = timedelta(minutes=1)
"""How often it is looked, while a stream of a person is open, whether the token has expired: clocks are set."""


class Door(Protocol):
    async def enter(self, method: str, context: Any) -> Caller:
        """Who makes the call. Raises AccessError for who may not."""

    async def closed(self, context: Any) -> None:
        """Returns when whoever is in has to leave."""


class SocketDoor:
    """Only its owner can open the socket, and to him the files of the mesh belong, its root's key among them."""

    async def enter(self, method: str, context: Any) -> Caller:
        return OWNER

    async def closed(self, context: Any) -> None:
        await asyncio.get_running_loop().create_future()


class FirstContactDoor(SocketDoor):
    """For who has no certificate yet."""

    async def enter(self, method: str, context: Any) -> Caller:
        if method not in FIRST_CONTACT:
            raise AccessError(method, "this port is for first certificates", "Show a certificate at the port below")
        return STRANGER


class ValidDoor:
    """Lets everyone in whose certificate was not revoked, for as long as that is so."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._calls = Calls(registry)

    async def enter(self, method: str, context: Any) -> Caller:
        caller = await self._caller(spiffe_id(context.auth_context()), method)
        if _is_resumed(context) and not self._is_valid(context):
            raise AccessError(method, f"the certificate of {caller.name} has ended", "Have it renewed")
        if self._is_revoked(context):
            raise AccessError(method, f"the certificate of {caller.name} was revoked", "Look at: proa identity list")
        self._calls.begin(caller, context)
        return caller

    async def _caller(self, uri: str, method: str) -> Caller:
        return Caller(uri, uri)

    def _is_valid(self, context: Any) -> bool:
        shown = _certificate(context)
        return shown is not None and is_valid(shown, self._registry.tokens.now())

    async def closed(self, context: Any) -> None:
        seen = self._registry.revoked.number
        with suppress(AccessError):
            while not self._is_revoked(context):
                seen = await self._registry.revoked.after(seen, within=await self._rest(context))

    async def _rest(self, context: Any) -> timedelta | None:
        """How long until a person's token is to be looked at again, None for a workload, which needs none.

        Raises AccessError when the token does not count any more.
        """
        person = _parsed(Person, spiffe_id(context.auth_context()))
        if person is None:
            return None
        expires = await self._registry.tokens.check(person.token)
        return min(LOOK, expires - self._registry.tokens.now())

    def _is_revoked(self, context: Any) -> bool:
        """A certificate is only taken apart when there is one that it could be."""
        revoked = self._registry.state.revoked
        is_any_serial = any(not is_identity(name) for name in revoked)
        shown = _certificate(context) if is_any_serial else None
        return self._registry.is_revoked(spiffe_id(context.auth_context()), *([serial(shown)] if shown else []))


class CertificateDoor(ValidDoor):
    """Lets in by what the certificate says that the connection was made with."""

    async def _caller(self, uri: str, method: str) -> Caller:
        who = WHO.get(method)
        caller, role = await self._role_of(uri, method)
        if who is Who.CERTIFIED or (who is not None and role in _enough(who)):
            return caller
        need = f"this needs {who.value}" if who else "this is for the owner of the socket alone"
        raise AccessError(method, f"{caller.name} may not do that, {need}", REMEDY)

    async def _role_of(self, uri: str, method: str) -> tuple[Caller, str]:
        """Whose certificate it is, and the role that comes with it."""
        identity, person = _parsed(Identity, uri), _parsed(Person, uri)
        known = identity or person
        if known is None or known.trust_domain != self._registry.state.trust_domain:
            raise AccessError(method, f"a certificate of {uri or 'nobody'} is of no use here", REMEDY)
        if person is None:
            return Caller(uri, uri), Who.WORKLOAD.value
        await self._registry.tokens.check(person.token)
        return Caller(f"{person.role} by token {person.token}"), person.role


def _certificate(context: Any) -> x509.Certificate | None:
    pem = next(iter(context.auth_context().get("x509_pem_cert", ())), b"")
    return x509.load_pem_x509_certificate(pem) if pem else None


def _is_resumed(context: Any) -> bool:
    """Whether the connection goes on with a session of an earlier one: then TLS has not looked at the certificate.

    gRPC cannot do without. What a session is worth ends when others are trusted than before, or its certificate ends.
    """
    return b"true" in context.auth_context().get("ssl_session_reused", ())


def _parsed(kind: Any, uri: str) -> Any:
    try:
        return kind.from_uri(uri)
    except ValueError:
        return None


def _enough(who: Who) -> tuple[str, ...]:
    return PEOPLE[PEOPLE.index(who.value) :] if who.value in PEOPLE else (who.value,)


def may_act_for(identity: Identity) -> None:
    """Raises AccessError when a workload calls in the name of another one."""
    caller = CALLER.get()
    if caller.identity and caller.identity != identity.uri:
        raise AccessError(identity.uri, f"{caller.identity} may only act for itself", "Join with a token of its own")

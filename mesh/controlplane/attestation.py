"""Attestation: what proves that whoever asks for a certificate is who it says."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, Protocol

from mesh.api.proa.v1 import agents_pb2
from mesh.errors import AccessError, NotFoundError, UsageError
from mesh.identity import token
from mesh.identity.ca import CertificateAuthority, public_key
from mesh.identity.proof import leaf_serial, proven
from mesh.model.names import Identity, control_plane_identity
from mesh.registry.operations import client, desired_one
from mesh.registry.registry import Registry
from mesh.registry.tokens import Tokens

HOW: Final = "Send a join token (proa token create), or the certificate that it has"


Asked = Callable[[], Identity]
"""The identity that a request is for. Raises NotFoundError and UsageError."""


class Attestor(Protocol):
    """Judges one kind of evidence. A token of a Kubernetes service account will be another."""

    async def attest(self, request: agents_pb2.SignCertificateRequest, asked: Asked) -> Identity:
        """`asked()` when the evidence in `request` is good for a certificate of it; raises AccessError.

        Whoever has no evidence at all learns nothing of what is there: `asked` is called after the first look at it.
        """


class JoinToken:
    """A first certificate: a token for this account, of which one use is spent."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def attest(self, request: agents_pb2.SignCertificateRequest, asked: Asked) -> Identity:
        claims = token.read(request.token, await self._tokens.key(), self._tokens.now())
        identity = asked()
        if (claims.namespace, claims.service_account) != (identity.namespace, identity.service_account):
            problem = f"it is for {claims.subject}, not for {identity.namespace}/{identity.service_account}"
            raise AccessError(f"token {claims.id}", problem, token.ANOTHER)
        public_key(request.csr, identity.uri)  # a use is not spent on what cannot be signed
        await self._tokens.spend(claims.id, request.csr)
        return identity


class OldCertificate:
    """A renewal: a certificate of the same identity, and a signature by its key."""

    def __init__(self, authority: Callable[[], CertificateAuthority], now: Callable[[], datetime]) -> None:
        self._authority = authority
        self._now = now

    async def attest(self, request: agents_pb2.SignCertificateRequest, asked: Asked) -> Identity:
        shown = request.renewal
        found = proven(shown.chain_pem, shown.signature, request.csr, self._authority().roots, self._now())
        identity = asked()
        if found != identity.uri:
            problem = f"it is of {found or 'nobody'}, not of {identity.uri}"
            raise AccessError("the certificate to be renewed", problem, HOW)
        return identity


class Attestation:
    """Judges by the attestor for the kind of evidence that is there."""

    def __init__(
        self, registry: Registry, authority: Callable[[], CertificateAuthority], now: Callable[[], datetime]
    ) -> None:
        self._registry = registry
        self._attestors: Mapping[str, Attestor] = {
            "token": JoinToken(registry.tokens),
            "renewal": OldCertificate(authority, now),
        }

    async def attest(self, request: agents_pb2.SignCertificateRequest, asked: Asked) -> Identity:
        """`asked()`, proven. Raises AccessError."""
        kind = request.WhichOneof("evidence")
        if kind is None:
            raise AccessError("certificate", "nothing proves who asks for it", HOW)
        return await self._attestors[kind].attest(request, lambda: self._believed(asked, request.renewal.chain_pem))

    def _believed(self, asked: Asked, chain_pem: str) -> Identity:
        """Neither the identity nor the certificate before was revoked."""
        identity = asked()
        serials = [leaf_serial(chain_pem)] if chain_pem else []
        if self._registry.is_revoked(identity.uri, *serials):
            raise AccessError(identity.uri, "it was revoked", "Ask who has done that: proa audit")
        return identity


def identity_for(registry: Registry, namespace: str, workload: str, service_account: str) -> Identity:
    """Of a workload, or with a service account of a gRPC client without a sidecar.

    Raises NotFoundError while there is no trust domain or no such workload, UsageError for the control plane's own.
    """
    is_client = bool(service_account)
    wanted = client(namespace, service_account) if is_client else desired_one(registry.state, namespace, workload)
    trust_domain = registry.state.trust_domain
    if not trust_domain:
        raise NotFoundError("mesh", "it has no document yet, and so no authority", "Apply one first: proa apply -f")
    identity = Identity(trust_domain, wanted.workload.namespace, wanted.workload.service_account)
    if identity == control_plane_identity(trust_domain):
        raise UsageError(identity.uri, "this is the control plane itself", "Choose another service account")
    return identity

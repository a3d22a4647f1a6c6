"""Attestation: what proves that whoever asks for a certificate is who it says."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from mesh.api.proa.v1 import agents_pb2
from mesh.errors import AccessError, NotFoundError, UsageError
from mesh.identity import token
from mesh.identity.ca import CertificateAuthority, public_key
from mesh.identity.proof import leaf_serial, proven
from mesh.model.names import Identity, control_plane_identity
from mesh.registry.operations import client, desired_one
from mesh.registry.registry import Registry

HOW: Final = "Send a join token (proa token create), or the certificate that it has"

Asked = Callable[[], Identity]
"""The identity that a request is for. Raises NotFoundError and UsageError."""


class Attestation:
    """Judges by the kind of evidence. A token of a Kubernetes service account will be another."""

    def __init__(
        self, registry: Registry, authority: Callable[[], CertificateAuthority], now: Callable[[], datetime]
    ) -> None:
        self._registry = registry
        self._authority = authority
        self._now = now

    async def attest(self, request: agents_pb2.SignCertificateRequest, asked: Asked) -> Identity:
        """`asked()` when the evidence in `request` is good for a certificate of it; raises AccessError.

        Whoever has no evidence at all learns nothing of what is there: `asked` is called after the first look at it.
        """
        match request.WhichOneof("evidence"):
            case "token":
                return await self._joined(request, asked)
            case "renewal":
                return self._renewed(request, asked)
        raise AccessError("certificate", "nothing proves who asks for it", HOW)

    async def _joined(self, request: agents_pb2.SignCertificateRequest, asked: Asked) -> Identity:
        """A first certificate: a token for this account, of which one use is spent."""
        tokens = self._registry.tokens
        claims = token.read(request.token, await tokens.key(), tokens.now())
        identity = asked()
        self._check_believed(identity.uri)
        if (claims.namespace, claims.service_account) != (identity.namespace, identity.service_account):
            problem = f"it is for {claims.subject}, not for {identity.namespace}/{identity.service_account}"
            raise AccessError(f"token {claims.id}", problem, token.ANOTHER)
        public_key(request.csr, identity.uri)  # a use is not spent on what cannot be signed
        await tokens.spend(claims.id, request.csr)
        return identity

    def _renewed(self, request: agents_pb2.SignCertificateRequest, asked: Asked) -> Identity:
        """A certificate of the same identity, and a signature by its key."""
        shown = request.renewal
        found = proven(shown.chain_pem, shown.signature, request.csr, self._authority().roots, self._now())
        identity = asked()
        self._check_believed(identity.uri, leaf_serial(shown.chain_pem))
        if found != identity.uri:
            problem = f"it is of {found or 'nobody'}, not of {identity.uri}"
            raise AccessError("the certificate to be renewed", problem, HOW)
        return identity

    def _check_believed(self, uri: str, *serials: str) -> None:
        """Neither the identity nor the certificate before was revoked."""
        if self._registry.is_revoked(uri, *serials):
            raise revoked(uri)


def revoked(uri: str) -> AccessError:
    return AccessError(uri, "it was revoked", "Ask who has done that: proa audit")


def trust_domain(registry: Registry) -> str:
    """Raises NotFoundError while there is none."""
    if not registry.state.trust_domain:
        raise NotFoundError("mesh", "it has no document yet, and so no authority", "Apply one first: proa apply -f")
    return registry.state.trust_domain


def identity_for(registry: Registry, namespace: str, workload: str, service_account: str) -> Identity:
    """Of a workload, or with a service account of a gRPC client without a sidecar.

    Raises NotFoundError while there is no trust domain or no such workload, UsageError for the control plane's own.
    """
    is_client = bool(service_account)
    wanted = client(namespace, service_account) if is_client else desired_one(registry.state, namespace, workload)
    identity = Identity(trust_domain(registry), wanted.workload.namespace, wanted.workload.service_account)
    if identity == control_plane_identity(identity.trust_domain):
        raise UsageError(identity.uri, "this is the control plane itself", "Choose another service account")
    return identity

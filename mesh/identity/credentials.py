"""The control plane's own side of mutual TLS: its leaf, renewed while it serves."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import grpc

from mesh.identity.ca import LEAF_LIFETIME, CertificateAuthority
from mesh.identity.key import new_key
from mesh.model.names import CONTROL_PLANE_HOST, control_plane_identity


def server_credentials(
    authority: CertificateAuthority, now: Callable[[], datetime], lifetime: timedelta = LEAF_LIFETIME
) -> grpc.ServerCredentials:
    """For a server that only speaks to holders of a certificate of `authority`, and says who itself is.

    Its leaf has the identity of the control plane and, since gRPC clients in Python check a host name and not a URI,
    host names beside it. When it is due, the handshake that finds it so gets a new one.
    """
    leaf = _RenewedLeaf(authority, now, lifetime)
    return grpc.dynamic_ssl_server_credentials(
        leaf.configuration(),
        leaf.renewed,  # type: ignore[arg-type]  # the stubs forget that None is allowed: nothing has changed
        require_client_authentication=True,
    )


class _RenewedLeaf:
    """gRPC asks on threads of its own."""

    def __init__(self, authority: CertificateAuthority, now: Callable[[], datetime], lifetime: timedelta) -> None:
        self._authority = authority
        self._now = now
        self._lifetime = lifetime
        self._lock = threading.Lock()
        self._renew_at = now()

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        key = new_key()
        identity = control_plane_identity(self._authority.trust_domain)
        leaf = self._authority.issue(key.csr, identity, [CONTROL_PLANE_HOST, "localhost"], self._now(), self._lifetime)
        self._renew_at = leaf.renew_at
        return grpc.ssl_server_certificate_configuration(
            [(key.pem.encode(), leaf.chain_pem.encode())], self._authority.bundle_pem.encode()
        )

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """A new configuration when it is time, else None."""
        with self._lock:
            return self.configuration() if self._now() >= self._renew_at else None

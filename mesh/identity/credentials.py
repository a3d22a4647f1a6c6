"""The control plane's own side of mutual TLS: its leaf and whom it trusts, renewed while it serves."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import grpc

from mesh.errors import StateError
from mesh.identity.ca import LEAF_LIFETIME, CertificateAuthority
from mesh.identity.key import new_key
from mesh.model.names import CONTROL_PLANE_HOST, control_plane_identity


def server_credentials(
    authority: Callable[[], CertificateAuthority],
    now: Callable[[], datetime],
    lifetime: Callable[[], timedelta] = lambda: LEAF_LIFETIME,
    begun: Callable[[], None] = lambda: None,
    *,
    mutual: bool = True,
) -> grpc.ServerCredentials:
    """For a server that only speaks to holders of a certificate of the present `authority`, and says who itself is.

    One that is not `mutual` asks nobody for a certificate. `begun` is called for each handshake, on some thread; how
    one ends gRPC does not tell.

    Its leaf has the identity of the control plane and, since gRPC clients in Python check a host name and not a URI,
    host names beside it. When it is due, or the authority is another one, the handshake that finds it so gets a new
    one. Raises StateError when the authority cannot sign; one that loses its key later leaves the leaf as it is.
    """
    leaf = _RenewedLeaf(authority, now, lifetime)

    def handshake() -> grpc.ServerCertificateConfiguration | None:
        begun()
        return leaf.renewed()

    return grpc.dynamic_ssl_server_credentials(
        leaf.configuration(),
        handshake,  # type: ignore[arg-type]  # the stubs forget that None is allowed: nothing has changed
        require_client_authentication=mutual,
    )


@dataclass(slots=True, eq=False)
class _RenewedLeaf:
    """gRPC asks on threads of its own."""

    authority: Callable[[], CertificateAuthority]
    now: Callable[[], datetime]
    lifetime: Callable[[], timedelta]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _signed_by: CertificateAuthority | None = None
    _issued_at: datetime = field(init=False)
    _renew_at: datetime = field(init=False)

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        key, authority, now = new_key(), self.authority(), self.now()
        identity = control_plane_identity(authority.trust_domain)
        leaf = authority.issue(key.csr, identity, [CONTROL_PLANE_HOST, "localhost"], now, self.lifetime())
        self._signed_by, self._issued_at, self._renew_at = authority, now, leaf.renew_at
        return grpc.ssl_server_certificate_configuration(
            [(key.pem.encode(), leaf.chain_pem.encode())], authority.bundle_pem.encode()
        )

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """A new configuration when it is time, else None."""
        with self._lock, suppress(StateError):
            # A clock that was set back makes a leaf of the future.
            in_time = self._issued_at <= self.now() < self._renew_at
            return None if in_time and self._signed_by is self.authority() else self.configuration()
        return None

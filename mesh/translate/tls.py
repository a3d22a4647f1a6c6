"""Mutual TLS between sidecars: TLS 1.3 only, leaf and roots from the agent's files, the peer's SPIFFE id checked.

No session is resumed: that looks at no certificate, so whoever had one once could come back for days after its end. It
would save a tenth of a handshake.
"""

from collections.abc import Iterable

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from mesh.api.envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2
from mesh.api.envoy.type.matcher.v3 import string_pb2
from mesh.model.names import LEAF_SECRET, ROOTS_SECRET
from mesh.translate.source import secret
from mesh.translate.wrappers import boolean, typed_config, uint32

TLS = "envoy.transport_sockets.tls"
RAW_BUFFER = "envoy.transport_sockets.raw_buffer"

Uris = Iterable[string_pb2.StringMatcher]


def upstream_tls(server_name: str, identities: Iterable[str], alpn: Iterable[str]) -> base_pb2.TransportSocket:
    """The caller's side. Whoever answers must prove one of `identities`."""
    context = tls_pb2.UpstreamTlsContext(
        sni=server_name,
        max_session_keys=uint32(0),
        common_tls_context=_common(alpn, (string_pb2.StringMatcher(exact=uri) for uri in identities)),
    )
    return base_pb2.TransportSocket(name=TLS, typed_config=typed_config(context))


def downstream_tls(trusted_prefix: str, alpn: Iterable[str]) -> base_pb2.TransportSocket:
    """The callee's side. Whoever calls must prove an id that starts with `trusted_prefix`."""
    context = tls_pb2.DownstreamTlsContext(
        require_client_certificate=boolean(True),
        disable_stateless_session_resumption=True,
        common_tls_context=_common(alpn, [string_pb2.StringMatcher(prefix=trusted_prefix)]),
    )
    return base_pb2.TransportSocket(name=TLS, typed_config=typed_config(context))


def raw_buffer() -> base_pb2.TransportSocket:
    return base_pb2.TransportSocket(name=RAW_BUFFER, typed_config=typed_config(raw_buffer_pb2.RawBuffer()))


def _common(alpn: Iterable[str], peers: Uris) -> tls_pb2.CommonTlsContext:
    return tls_pb2.CommonTlsContext(
        # Envoy's upstream maximum is TLS 1.2 unless it is set.
        tls_params=common_pb2.TlsParameters(
            tls_minimum_protocol_version=common_pb2.TlsParameters.TLSv1_3,
            tls_maximum_protocol_version=common_pb2.TlsParameters.TLSv1_3,
        ),
        alpn_protocols=alpn,
        tls_certificate_sds_secret_configs=[secret(LEAF_SECRET)],
        combined_validation_context=tls_pb2.CommonTlsContext.CombinedCertificateValidationContext(
            default_validation_context=common_pb2.CertificateValidationContext(
                match_typed_subject_alt_names=[
                    common_pb2.SubjectAltNameMatcher(san_type=common_pb2.SubjectAltNameMatcher.URI, matcher=peer)
                    for peer in peers
                ]
            ),
            validation_context_sds_secret_config=secret(ROOTS_SECRET),
        ),
    )

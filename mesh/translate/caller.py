"""Who may open a connection, beyond what TLS can say. Looked at once for each, at its first byte."""

from collections.abc import Iterable
from typing import Final

from mesh.api.envoy.config.core.v3 import config_source_pb2, extension_pb2
from mesh.api.envoy.config.listener.v3 import listener_components_pb2
from mesh.api.envoy.config.rbac.v3 import rbac_pb2 as policy_pb2
from mesh.api.envoy.extensions.filters.network.rbac.v3 import rbac_pb2
from mesh.api.envoy.extensions.matching.common_inputs.ssl.v3 import ssl_inputs_pb2
from mesh.api.xds.core.v3 import extension_pb2 as xds_extension_pb2
from mesh.api.xds.type.matcher.v3 import matcher_pb2, string_pb2
from mesh.translate.source import ADS
from mesh.translate.wrappers import typed_config

ONE_IDENTITY: Final = "proa.one_identity"
CALLERS: Final = "proa.callers"
"""By ECDS, for ports where nothing looks at single calls."""

_Matcher = matcher_pb2.Matcher
_Predicate = _Matcher.MatcherList.Predicate
_URI_SANS: Final = xds_extension_pb2.TypedExtensionConfig(
    name="uri_sans", typed_config=typed_config(ssl_inputs_pb2.UriSanInput())
)


def one_identity() -> listener_components_pb2.Filter:
    """Refuses certificates with several URI SANs. TLS lets one in when any of them fits."""
    return listener_components_pb2.Filter(name=ONE_IDENTITY, typed_config=typed_config(_callers(())))


def callers() -> listener_components_pb2.Filter:
    """The same and, as soon as it is known, whoever is revoked. It reaches connections that are opened after that."""
    packed = typed_config(_callers(()))
    discovery = config_source_pb2.ExtensionConfigSource(
        config_source=ADS,
        default_config=packed,
        apply_default_config_without_warming=True,
        type_urls=[packed.type_url],
    )
    return listener_components_pb2.Filter(name=CALLERS, config_discovery=discovery)


def without(revoked: Iterable[str]) -> extension_pb2.TypedExtensionConfig:
    """What ECDS says of `callers`: these SPIFFE ids are refused, too."""
    return extension_pb2.TypedExtensionConfig(name=CALLERS, typed_config=typed_config(_callers(revoked)))


def _callers(revoked: Iterable[str]) -> rbac_pb2.RBAC:
    # Envoy joins several URI SANs with commas; the SPIFFE id of a workload has none.
    several = _refused("several_identities", string_pb2.StringMatcher(contains=","))
    each = (_refused("revoked", string_pb2.StringMatcher(exact=uri)) for uri in sorted(revoked))
    return rbac_pb2.RBAC(
        stat_prefix="inbound.",
        matcher=_Matcher(
            matcher_list=_Matcher.MatcherList(matchers=[several, *each]),
            on_no_match=_action("workload", policy_pb2.RBAC.ALLOW),
        ),
    )


def _refused(name: str, names: string_pb2.StringMatcher) -> _Matcher.MatcherList.FieldMatcher:
    predicate = _Predicate(single_predicate=_Predicate.SinglePredicate(input=_URI_SANS, value_match=names))
    return _Matcher.MatcherList.FieldMatcher(predicate=predicate, on_match=_action(name, policy_pb2.RBAC.DENY))


def _action(name: str, action: policy_pb2.RBAC.Action) -> _Matcher.OnMatch:
    packed = typed_config(policy_pb2.Action(name=name, action=action))
    return _Matcher.OnMatch(action=xds_extension_pb2.TypedExtensionConfig(name=name, typed_config=packed))

"""The HTTP filters of every listener, all there from the start, and those not in use at no cost.

A listener that changes cuts its streams, so none is ever added. A filter that is `disabled` is switched on by
`typed_per_filter_config` of a route. What cannot be said per route comes by ECDS (`extensions`).
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Final

from google.protobuf.message import Message

from mesh.api.envoy.config.core.v3 import base_pb2, config_source_pb2, extension_pb2
from mesh.api.envoy.config.rbac.v3 import rbac_pb2 as policy_pb2
from mesh.api.envoy.extensions.filters.http.adaptive_concurrency.v3 import adaptive_concurrency_pb2
from mesh.api.envoy.extensions.filters.http.fault.v3 import fault_pb2
from mesh.api.envoy.extensions.filters.http.grpc_stats.v3 import config_pb2 as grpc_stats_pb2
from mesh.api.envoy.extensions.filters.http.jwt_authn.v3 import config_pb2 as jwt_authn_pb2
from mesh.api.envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from mesh.api.envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from mesh.api.envoy.extensions.filters.http.router.v3 import router_pb2
from mesh.api.envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from mesh.api.envoy.type.matcher.v3 import string_pb2
from mesh.api.envoy.type.v3 import percent_pb2
from mesh.translate.source import ADS
from mesh.translate.wrappers import boolean, duration, typed_config, uint32

HttpFilter = http_connection_manager_pb2.HttpFilter

JWT_AUTHN: Final = "proa.jwt_authn"
RBAC_DENY: Final = "proa.rbac.deny"
RBAC_ALLOW: Final = "proa.rbac.allow"
LOCAL_RATE_LIMIT: Final = "proa.local_ratelimit"
ADAPTIVE_CONCURRENCY: Final = "proa.adaptive_concurrency"
FAULT: Final = "proa.fault"
GRPC_STATS: Final = "proa.grpc_stats"
ROUTER: Final = "envoy.filters.http.router"


def inbound_filters() -> tuple[HttpFilter, ...]:
    """In the order in which Envoy runs them: who is it, may it, is it too much; then count, and `router` last."""
    return (
        _by_ecds(JWT_AUTHN, jwt_authn_pb2.JwtAuthentication()),
        _inline(RBAC_DENY, rbac_pb2.RBAC()),
        _inline(RBAC_ALLOW, rbac_pb2.RBAC()),
        _inline(LOCAL_RATE_LIMIT, _local_rate_limit()),
        _by_ecds(ADAPTIVE_CONCURRENCY, _adaptive_concurrency()),
        _inline(FAULT, fault_pb2.HTTPFault()),
        _by_ecds(GRPC_STATS, grpc_stats_pb2.FilterConfig()),
        router(),
    )


def outbound_filters() -> tuple[HttpFilter, ...]:
    """In the order in which Envoy runs them; `router` last."""
    return (
        _inline(LOCAL_RATE_LIMIT, _local_rate_limit()),
        _inline(FAULT, fault_pb2.HTTPFault()),
        _by_ecds(GRPC_STATS, grpc_stats_pb2.FilterConfig()),
        router(),
    )


def denied(identities: Iterable[str]) -> rbac_pb2.RBACPerRoute:
    """Callers that have proven one of these SPIFFE ids are refused."""
    principals = [
        policy_pb2.Principal(
            authenticated=policy_pb2.Principal.Authenticated(principal_name=string_pb2.StringMatcher(exact=uri))
        )
        for uri in identities
    ]
    revoked = policy_pb2.Policy(permissions=[policy_pb2.Permission(any=True)], principals=principals)
    rules = policy_pb2.RBAC(action=policy_pb2.RBAC.DENY, policies={"revoked": revoked})
    return rbac_pb2.RBACPerRoute(rbac=rbac_pb2.RBAC(rules=rules))


def extension(name: str) -> extension_pb2.TypedExtensionConfig:
    """What ECDS says of one of `EXTENSIONS` while no policy says more."""
    return extension_pb2.TypedExtensionConfig(name=name, typed_config=typed_config(EXTENSIONS[name]()))


def router() -> HttpFilter:
    """Without statistics by response code (gRPC's are all 200) and without `x-envoy-*` headers for the service."""
    config = router_pb2.Router(dynamic_stats=boolean(False), suppress_envoy_headers=True)
    return HttpFilter(name=ROUTER, typed_config=typed_config(config))


def _inline(name: str, config: Message) -> HttpFilter:
    return HttpFilter(name=name, typed_config=typed_config(config), disabled=True)


def _by_ecds(name: str, config: Message) -> HttpFilter:
    """`config` serves until ECDS has answered, so that a listener never waits for it."""
    packed = typed_config(config)
    discovery = config_source_pb2.ExtensionConfigSource(
        config_source=ADS,
        default_config=packed,
        apply_default_config_without_warming=True,
        type_urls=[packed.type_url],
    )
    return HttpFilter(name=name, config_discovery=discovery, disabled=True)


def _local_rate_limit() -> local_rate_limit_pb2.LocalRateLimit:
    return local_rate_limit_pb2.LocalRateLimit(stat_prefix="local_ratelimit")


def _adaptive_concurrency() -> adaptive_concurrency_pb2.AdaptiveConcurrency:
    """The smallest valid configuration, switched off."""
    gradient = adaptive_concurrency_pb2.GradientControllerConfig
    return adaptive_concurrency_pb2.AdaptiveConcurrency(
        enabled=base_pb2.RuntimeFeatureFlag(default_value=boolean(False), runtime_key="proa.adaptive_concurrency"),
        gradient_controller_config=gradient(
            sample_aggregate_percentile=percent_pb2.Percent(value=90),
            concurrency_limit_params=gradient.ConcurrencyLimitCalculationParams(
                concurrency_update_interval=duration(timedelta(milliseconds=100))
            ),
            min_rtt_calc_params=gradient.MinimumRTTCalculationParams(
                interval=duration(timedelta(seconds=60)), request_count=uint32(50)
            ),
        ),
    )


EXTENSIONS: Final[Mapping[str, Callable[[], Message]]] = {
    ADAPTIVE_CONCURRENCY: _adaptive_concurrency,
    GRPC_STATS: grpc_stats_pb2.FilterConfig,
    JWT_AUTHN: jwt_authn_pb2.JwtAuthentication,
}
"""What comes by ECDS, and how it is said that it does nothing."""

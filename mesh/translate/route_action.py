"""What becomes of a call that fits a route: forwarded, redirected or answered, with what is changed on the way."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final, NamedTuple

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.config.route.v3 import route_components_pb2
from mesh.api.envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from mesh.api.envoy.type.matcher.v3 import regex_pb2
from mesh.api.envoy.type.v3 import percent_pb2
from mesh.model.names import NOBODY, Target
from mesh.model.route import GrpcMatch, HeaderChange, Redirect, Rewrite, RouteRetry
from mesh.model.traffic import Affinity
from mesh.model.workload import Protocol
from mesh.policy.calls import CallPolicy
from mesh.policy.retry import SAFE, USUAL, RetryPolicy, longest_wait
from mesh.policy.routing import Copies, Route, Share
from mesh.translate.route_match import names_port
from mesh.translate.wrappers import duration, typed_config, uint32

EnvoyRoute = route_components_pb2.Route
RouteMatch = route_components_pb2.RouteMatch

_Action = route_components_pb2.RouteAction
_Redirect = route_components_pb2.RedirectAction
_RetryPolicy = route_components_pb2.RetryPolicy

PREVIOUS_HOSTS: Final = "envoy.retry_host_predicates.previous_hosts"
RETRY_CODES: Final = "retriable-status-codes"
STATUSES: Final = {
    301: _Redirect.MOVED_PERMANENTLY,
    302: _Redirect.FOUND,
    303: _Redirect.SEE_OTHER,
    307: _Redirect.TEMPORARY_REDIRECT,
    308: _Redirect.PERMANENT_REDIRECT,
}
WELL_KNOWN: Final = {"http": 80, "https": 443}


class Limits(NamedTuple):
    """What policies say about calls, beside where they go."""

    protocol: Protocol
    calls: CallPolicy
    affinities: Mapping[Target, Affinity]


def envoy_route(match: RouteMatch, route: Route, limits: Limits) -> EnvoyRoute:
    """The route to where `route` sends the calls that `match` fits."""
    made = EnvoyRoute(match=match)
    _change_headers(made, route.rule.request_headers, route.rule.response_headers)
    if route.rule.redirect:
        made.redirect.CopyFrom(redirect(route.rule.redirect, match))
    elif route.shares:
        made.route.CopyFrom(forward(route, limits))
        _rewrite(made.route, route.rule.rewrite, match)
    else:
        made.direct_response.CopyFrom(
            answer(_unavailable(route), f"{route.origin} has no backend here that could answer")
        )
    return made


def answer(status: int, sentence: str) -> route_components_pb2.DirectResponseAction:
    """For callers that speak gRPC, 404 is UNIMPLEMENTED and 503 UNAVAILABLE."""
    body = base_pb2.DataSource(inline_string=sentence)
    return route_components_pb2.DirectResponseAction(status=status, body=body)


def forward(route: Route, limits: Limits) -> _Action:
    """No timeout of the route's own for gRPC, which would end a stream."""
    rule, calls, grpc = route.rule, limits.calls, limits.protocol is Protocol.GRPC
    timeout = calls.deadline if rule.request_timeout is None else rule.request_timeout
    action = _Action(
        timeout=duration(timedelta() if grpc else timeout or timedelta()),
        idle_timeout=duration(calls.idle),
        max_stream_duration=call_deadline(calls.deadline) if grpc else None,
        retry_policy=retry_policy(_retry(calls.retry, rule.retry), rule.backend_timeout, rule.retry),
        request_mirror_policies=[mirror(copies) for copies in route.copies],
        hash_policy=[hash_policy(one) for one in affinities_of(route, limits.affinities)],
    )
    _to(action, route)
    return action


def call_deadline(cap: timedelta | None) -> _Action.MaxStreamDuration:
    """The caller's deadline is enforced and passed on, both capped; zero is no cap. One without gets the cap."""
    return _Action.MaxStreamDuration(
        max_stream_duration=duration(cap), grpc_timeout_header_max=duration(cap or timedelta())
    )


def retry_policy(
    retry: RetryPolicy | None, per_try: timedelta | None = None, said: RouteRetry | None = None
) -> _RetryPolicy | None:
    per_try = per_try or None if per_try is not None else retry.per_try_timeout if retry else None
    if retry is None:
        return _RetryPolicy(num_retries=uint32(0), per_try_timeout=duration(per_try)) if per_try else None
    codes = said.codes if said else ()
    return _RetryPolicy(
        retry_on=",".join((*retry.triggers, *([RETRY_CODES] if codes else []))),
        retriable_status_codes=codes,
        num_retries=uint32(retry.num_retries),
        per_try_timeout=duration(per_try),
        retry_back_off=_RetryPolicy.RetryBackOff(
            base_interval=duration(retry.base_interval), max_interval=duration(retry.max_interval)
        ),
        retry_host_predicate=[
            _RetryPolicy.RetryHostPredicate(
                name=PREVIOUS_HOSTS, typed_config=typed_config(previous_hosts_pb2.PreviousHostsPredicate())
            )
        ],
        host_selection_retry_max_attempts=3,
    )


def mirror(copies: Copies) -> _Action.RequestMirrorPolicy:
    """With the authority as it was, for which the callee has routes."""
    millionths = round(copies.numerator * 1_000_000 / copies.denominator)
    share = percent_pb2.FractionalPercent(numerator=millionths, denominator=percent_pb2.FractionalPercent.MILLION)
    return _Action.RequestMirrorPolicy(
        cluster=copies.target.cluster,
        runtime_fraction=base_pb2.RuntimeFractionalPercent(default_value=share),
        disable_shadow_host_suffix_append=True,
    )


def hash_policy(affinity: Affinity) -> _Action.HashPolicy:
    policy = _Action.HashPolicy
    if affinity.header:
        return policy(header=policy.Header(header_name=affinity.header), terminal=True)
    path = "/" if affinity.ttl is not None else ""
    return policy(cookie=policy.Cookie(name=affinity.cookie, ttl=duration(affinity.ttl), path=path), terminal=True)


def redirect(said: Redirect, match: RouteMatch) -> _Redirect:
    """A scheme brings its own port in the place of one that was called; otherwise no port is said of itself."""
    made = _Redirect(
        scheme_redirect=said.scheme or None,
        host_redirect=said.hostname,
        port_redirect=said.port or (WELL_KNOWN[said.scheme] if brings_its_port(said) and names_port(match) else 0),
        response_code=STATUSES[said.status],
    )
    if said.path.full is not None:
        made.path_redirect = said.path.full
    elif said.path.prefix is not None:
        made.prefix_rewrite = _prefix(said.path.prefix, match)
    return made


def brings_its_port(said: Redirect) -> bool:
    return bool(said.scheme) and not said.hostname and said.port is None


def _rewrite(action: _Action, said: Rewrite | None, match: RouteMatch) -> None:
    if said is None:
        return
    if said.hostname:
        action.host_rewrite_literal = said.hostname
    if said.path.full is not None:
        everything = regex_pb2.RegexMatcher(regex="^/.*$")
        # No path of a document has a backslash, which would begin a group of RE2's.
        to_it = regex_pb2.RegexMatchAndSubstitute(pattern=everything, substitution=said.path.full)
        action.regex_rewrite.CopyFrom(to_it)
    elif said.path.prefix is not None:
        action.prefix_rewrite = _prefix(said.path.prefix, match)


def _prefix(new: str, match: RouteMatch) -> str:
    """What takes the place of the prefix that `match` has; where that ends with `/`, so does this."""
    prefix = new.rstrip("/")
    return f"{prefix}/" if match.prefix.endswith("/") else prefix or "/"


def _to(action: _Action, route: Route) -> None:
    """To one cluster, or to several by weight."""
    unavailable = _unavailable(route)
    if unavailable == 500:
        action.cluster_not_found_response_code = _Action.INTERNAL_SERVER_ERROR
    match route.shares:
        case (Share(target=Target() as only, request_headers=requests, response_headers=responses),) if not (
            requests.changes or responses.changes
        ):
            action.cluster = only.cluster
        case shares:
            action.weighted_clusters.clusters.extend(_weight(share) for share in shares)


def _weight(share: Share) -> route_components_pb2.WeightedCluster.ClusterWeight:
    made = route_components_pb2.WeightedCluster.ClusterWeight(
        name=share.target.cluster if share.target else NOBODY, weight=uint32(share.weight)
    )
    _change_headers(made, share.request_headers, share.response_headers)
    return made


def _change_headers(
    made: EnvoyRoute | route_components_pb2.WeightedCluster.ClusterWeight,
    requests: HeaderChange,
    responses: HeaderChange,
) -> None:
    made.request_headers_to_add.extend(_values(requests))
    made.request_headers_to_remove.extend(requests.remove)
    made.response_headers_to_add.extend(_values(responses))
    made.response_headers_to_remove.extend(responses.remove)


def _values(change: HeaderChange) -> Iterable[base_pb2.HeaderValueOption]:
    """A percent sign would begin a command of Envoy's."""
    option = base_pb2.HeaderValueOption
    for action, headers in (
        (option.OVERWRITE_IF_EXISTS_OR_ADD, change.set),
        (option.APPEND_IF_EXISTS_OR_ADD, change.add),
    ):
        for name, value in headers:
            header = base_pb2.HeaderValue(key=name, value=value.replace("%", "%%"))
            yield option(header=header, append_action=action)


def _retry(of_policy: RetryPolicy | None, said: RouteRetry | None) -> RetryPolicy | None:
    """An HTTPRoute that says how often it is tried again comes before the policies."""
    if said is None:
        return of_policy
    if said.attempts == 0:
        return None
    base = said.backoff or USUAL.base_interval
    return RetryPolicy(
        num_retries=said.attempts or USUAL.num_retries,
        triggers=SAFE,
        base_interval=base,
        max_interval=longest_wait(base),
    )


def affinities_of(route: Route, there: Mapping[Target, Affinity]) -> Iterable[Affinity]:
    """Each once, of the targets of the route that have one."""
    return dict.fromkeys(there[target] for target in route.targets if target in there) if there else ()


def _unavailable(route: Route) -> int:
    return 503 if isinstance(route.match, GrpcMatch) else 500

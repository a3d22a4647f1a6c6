"""The routes of a virtual host: a list, or trees over the path, so that a call is compared with few of them.

A tree leads to a list of routes, and Envoy does not look further when none of them fits. So each list holds everything
that can fit a path which leads there, in order.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Final, NamedTuple

from mesh.api.envoy.config.route.v3 import route_components_pb2
from mesh.api.envoy.type.matcher.v3 import http_inputs_pb2, string_pb2
from mesh.api.xds.core.v3 import extension_pb2
from mesh.api.xds.type.matcher.v3 import matcher_pb2
from mesh.api.xds.type.matcher.v3 import string_pb2 as xds_string_pb2
from mesh.model.route import GrpcMatch
from mesh.policy.by_method import ByMethod, one_path
from mesh.policy.calls import CallPolicy
from mesh.policy.routing import Route
from mesh.policy.view import VirtualHost
from mesh.translate.route_action import EnvoyRoute, Limits, RouteMatch, answer, brings_its_port, envoy_route
from mesh.translate.route_match import HeaderMatcher, any_path, grpc_match, http_matches, with_port
from mesh.translate.wrappers import typed_config

MOST_LINEAR: Final = 20
"""So many routes may stand in a list; more cost more than a tree (docs/benchmarks.md)."""

MOST_IN_TREE: Final = 10_000
"""So many routes may stand in a tree: about 6 MB. Rules for all methods are in the list of each of them."""

EVERYTHING: Final = RouteMatch(prefix="/")
A_QUERY: Final = RouteMatch(
    prefix="/", headers=[HeaderMatcher(name=":path", string_match=string_pb2.StringMatcher(contains="?"))]
)
NO_QUERY: Final = EnvoyRoute(match=A_QUERY, direct_response=answer(404, "the path of a gRPC call has no query"))

_Matcher = matcher_pb2.Matcher
_Predicate = _Matcher.MatcherList.Predicate
_PATH: Final = extension_pb2.TypedExtensionConfig(
    name="path", typed_config=typed_config(http_inputs_pb2.HttpRequestHeaderMatchInput(header_name=":path"))
)


class Leaf(NamedTuple):
    """A route for the calls that `match` fits, with the policy for these calls."""

    match: RouteMatch
    route: Route
    calls: CallPolicy


def fill(made: route_components_pb2.VirtualHost, host: VirtualHost) -> None:
    """Gives the virtual host its routes.

    What differs only in headers stands in a list, however long it is, and so does what would be too large as a tree.
    """
    few = _few(host)
    tree = _branches(host) if few is None else _Matcher.OnMatch()
    if tree.HasField("matcher"):
        made.matcher.CopyFrom(tree.matcher)
    else:
        made.routes.extend(_closed(in_order(host) if few is None else few, host))


def _few(host: VirtualHost) -> tuple[Leaf, ...] | None:
    """Everything in order; None when there is too much for a list, which is quick to see of most that have it."""
    if len(host.routes) + len(host.calls.methods) >= MOST_LINEAR:
        return None
    first = tuple(islice(in_order(host), MOST_LINEAR))
    return first if len(first) < MOST_LINEAR else None


def in_order(host: VirtualHost) -> Iterator[Leaf]:
    """Everything in one list: methods with a policy of their own first, each with all the routes that can fit it."""
    methods = ByMethod(host.routes)
    for path, calls in host.calls.methods:
        for route, fitting in methods.that_fit(path):
            yield Leaf(RouteMatch(path=path, headers=any_path(fitting).headers), route, calls)
    for route in host.routes:
        for match in _matches(route):
            yield Leaf(match, route, host.calls.otherwise)


def _branches(host: VirtualHost) -> _Matcher.OnMatch:
    return _grpc_tree(host) if isinstance(host.routes[0].match, GrpcMatch) else _http_tree(host)


def _grpc_tree(host: VirtualHost) -> _Matcher.OnMatch:
    """Methods by their path; then services by the first part of it; then the rest.

    The tree sees the path with its query. No gRPC path has one, so that what would slip past a method is refused.
    """
    own = dict(host.calls.methods)
    named = {path: host.calls.otherwise for route in host.routes if (path := one_path(route))}
    routes = ByMethod(host.routes)
    if routes.are_more_than(MOST_IN_TREE, {**named, **own}):
        return _by_policy(host)
    methods = {
        path: _list(_closed((Leaf(any_path(m), route, calls) for route, m in routes.that_fit(path)), host))
        for path, calls in sorted({**named, **own}.items())
    }
    others = [route for route in host.routes if not one_path(route)]
    rest = _list(_others(host, (route for route in others if not _service(route))))
    prefixes = {
        f"/{service}/": _list(_others(host, (route for route in others if _service(route) in ("", service))))
        for service in sorted({_service(route) for route in others} - {""})
    }
    return _tree("exact_match_map", methods, _tree("prefix_match_map", prefixes, rest))


def _by_policy(host: VirtualHost) -> _Matcher.OnMatch:
    """The methods that have a policy in common share a list of all routes; a call is compared with one after another.

    So what a schema adds is a path for each of its methods, and not a list.
    """
    groups: dict[CallPolicy, list[str]] = {}
    for path, calls in host.calls.methods:
        groups.setdefault(calls, []).append(path)
    matchers = [
        _Matcher.MatcherList.FieldMatcher(
            predicate=_one_of(paths),
            on_match=_list(_closed((Leaf(m, route, calls) for route in host.routes for m in _matches(route)), host)),
        )
        for calls, paths in groups.items()
    ]
    rest = _list(_others(host, host.routes))
    if not matchers:
        return rest
    return _Matcher.OnMatch(matcher=_Matcher(matcher_list=_Matcher.MatcherList(matchers=matchers), on_no_match=rest))


def _one_of(paths: Sequence[str]) -> _Predicate:
    each = [
        _Predicate(
            single_predicate=_Predicate.SinglePredicate(
                input=_PATH, value_match=xds_string_pb2.StringMatcher(exact=path)
            )
        )
        for path in paths
    ]
    return _Predicate(or_matcher=_Predicate.PredicateList(predicate=each)) if len(each) > 1 else each[0]


def _http_tree(host: VirtualHost) -> _Matcher.OnMatch:
    """By the longest path that a route names. What begins otherwise cannot fit the list there."""
    leaves = tuple(in_order(host))
    paths = sorted({_literal(leaf.match) for leaf in leaves} - {"", "/"})
    everywhere = sum(_literal(leaf.match) in ("", "/") for leaf in leaves)
    if len(paths) * everywhere > MOST_IN_TREE:
        return _Matcher.OnMatch()
    lists = {
        path: _list(_closed((leaf for leaf in leaves if path.startswith(_literal(leaf.match))), host)) for path in paths
    }
    rest = (leaf for leaf in leaves if _literal(leaf.match) in ("", "/"))
    return _tree("prefix_match_map", lists, _list(_closed(rest, host)))


def _others(host: VirtualHost, routes: Iterable[Route]) -> Iterator[EnvoyRoute]:
    """For calls of a method that no tree names."""
    yield NO_QUERY
    yield from _closed((Leaf(m, route, host.calls.otherwise) for route in routes for m in _matches(route)), host)


def _closed(leaves: Iterable[Leaf], host: VirtualHost) -> Iterator[EnvoyRoute]:
    """The routes up to the first that fits everything; where none does, with an answer for what fits none."""
    affinities = dict(host.affinities)
    for leaf in leaves:
        yield envoy_route(leaf.match, leaf.route, Limits(host.protocol, leaf.calls, affinities))
        if leaf.match == EVERYTHING:
            return
    sentence = f"no rule of the routes of {host.target.service} fits this call"
    yield EnvoyRoute(match=EVERYTHING, direct_response=answer(404, sentence))


def _matches(route: Route) -> Iterable[RouteMatch]:
    if isinstance(route.match, GrpcMatch):
        return (grpc_match(route.match),)
    changes = [said.path.prefix for said in (route.rule.rewrite, route.rule.redirect) if said]
    matches = http_matches(route.match, any(prefix is not None and not prefix.strip("/") for prefix in changes))
    if route.rule.redirect and brings_its_port(route.rule.redirect):
        return chain.from_iterable((with_port(match), match) for match in matches)
    return matches


def _service(route: Route) -> str:
    """The one service whose methods the route is for; empty when it is for several."""
    match = route.match
    return match.method.service if isinstance(match, GrpcMatch) and not match.method.regex else ""


def _literal(match: RouteMatch) -> str:
    """What every path begins with that fits."""
    return match.path or match.path_separated_prefix or match.prefix


def _tree(kind: str, lists: Mapping[str, _Matcher.OnMatch], otherwise: _Matcher.OnMatch) -> _Matcher.OnMatch:
    """Over the path; without branches there is no tree."""
    if not lists:
        return otherwise
    tree = _Matcher.MatcherTree(input=_PATH)
    branches: Mapping[str, _Matcher.OnMatch] = getattr(tree, kind).map
    for path, to in lists.items():
        branches[path].CopyFrom(to)
    return _Matcher.OnMatch(matcher=_Matcher(matcher_tree=tree, on_no_match=otherwise))


def _list(routes: Iterable[EnvoyRoute]) -> _Matcher.OnMatch:
    packed = typed_config(route_components_pb2.RouteList(routes=routes))
    return _Matcher.OnMatch(action=extension_pb2.TypedExtensionConfig(name="routes", typed_config=packed))

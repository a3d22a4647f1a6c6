"""What a call must look like for a route to fit it."""

from collections.abc import Iterable

from mesh.api.envoy.config.route.v3 import route_components_pb2
from mesh.api.envoy.type.matcher.v3 import regex_pb2, string_pb2
from mesh.model.route import GrpcMatch, HttpMatch, MethodMatch, PathMatch, PathType, ValueMatch

RouteMatch = route_components_pb2.RouteMatch
HeaderMatcher = route_components_pb2.HeaderMatcher


def grpc_match(match: GrpcMatch) -> RouteMatch:
    return _with_headers(_method(match.method), match.headers)


def any_path(match: GrpcMatch) -> RouteMatch:
    """For where the path is known to fit already."""
    return _with_headers(RouteMatch(prefix="/"), match.headers)


def http_matches(match: HttpMatch, strips_prefix: bool) -> Iterable[RouteMatch]:
    """`strips_prefix`: nothing is put in the place of the prefix, so that the `/` after it has to go with it."""
    prefix = match.path.value
    if strips_prefix and prefix != "/":
        paths: tuple[RouteMatch, ...] = (RouteMatch(path=prefix), RouteMatch(prefix=f"{prefix}/"))
    else:
        paths = (_path(match.path),)
    return (_with_query(_with_headers(_with_method(path, match.method), match.headers), match.query) for path in paths)


def with_port(match: RouteMatch) -> RouteMatch:
    """The same for callers who name a port."""
    return _with_headers(
        RouteMatch.FromString(match.SerializeToString()), [ValueMatch(":authority", ".*:[0-9]+", True)]
    )


def names_port(match: RouteMatch) -> bool:
    return any(header.name == ":authority" for header in match.headers)


def _method(method: MethodMatch) -> RouteMatch:
    if method.regex or (method.method and not method.service):
        return RouteMatch(safe_regex=_regex(method.pattern))
    if method.method:
        return RouteMatch(path=f"/{method.service}/{method.method}")
    return RouteMatch(prefix=f"/{method.service}/" if method.service else "/")


def _path(path: PathMatch) -> RouteMatch:
    match path.type:
        case PathType.EXACT:
            return RouteMatch(path=path.value)
        case PathType.REGEX:
            return RouteMatch(safe_regex=_regex(path.value))
    return RouteMatch(prefix="/") if path.value == "/" else RouteMatch(path_separated_prefix=path.value)


def _with_method(path: RouteMatch, method: str) -> RouteMatch:
    return _with_headers(path, [ValueMatch(":method", method)] if method else [])


def _with_headers(path: RouteMatch, headers: Iterable[ValueMatch]) -> RouteMatch:
    path.headers.extend(HeaderMatcher(name=one.name, string_match=_value(one)) for one in headers)
    return path


def _with_query(path: RouteMatch, query: Iterable[ValueMatch]) -> RouteMatch:
    path.query_parameters.extend(
        route_components_pb2.QueryParameterMatcher(name=one.name, string_match=_value(one)) for one in query
    )
    return path


def _value(match: ValueMatch) -> string_pb2.StringMatcher:
    if match.regex:
        return string_pb2.StringMatcher(safe_regex=_regex(match.value))
    return string_pb2.StringMatcher(exact=match.value)


def _regex(pattern: str) -> regex_pb2.RegexMatcher:
    return regex_pb2.RegexMatcher(regex=pattern)

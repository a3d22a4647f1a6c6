"""Routes as Envoy gets them: which call goes where, whether they stand in a list or in a tree."""

import json
import re
from collections.abc import Iterable
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mesh.model.schema import Method, Schema
from mesh.translate import matcher
from mesh.translate.route import host_routes
from tests.builders import a_grpc_route, a_view, a_workload, an_http_route, documents
from tests.unit.translate.scenarios import METHODS, SCENARIOS, as_json
from tests.unit.translate.test_resources import action, routes

Call = tuple[str, dict[str, str]]
"""A path with its query, and the headers of a call."""


def fits(match: dict[str, Any], call: Call) -> bool:
    """What Envoy does with a `RouteMatch`, as far as we use it."""
    assert match.keys() & {"path", "prefix", "path_separated_prefix", "safe_regex"}, "Envoy wants one of them"
    path, headers = call
    headers = {**headers, ":path": path, ":method": "GET"}
    plain, _, query = path.partition("?")
    prefix = match.get("path_separated_prefix")
    return (
        plain == match.get("path", plain)
        and path.startswith(match.get("prefix", ""))
        and (prefix is None or plain == prefix or plain.startswith(f"{prefix}/"))
        and bool(re.fullmatch(match["safe_regex"]["regex"], plain) if "safe_regex" in match else True)
        and all(_is(one["string_match"], headers.get(one["name"])) for one in match.get("headers", []))
        and all(
            _is(one["string_match"], dict(p.split("=") for p in query.split("&") if p).get(one["name"]))
            for one in match.get("query_parameters", [])
        )
    )


def _is(matcher: dict[str, Any], value: str | None) -> bool:
    if value is None:
        return False
    if "safe_regex" in matcher:
        return re.fullmatch(matcher["safe_regex"]["regex"], value) is not None
    return value == matcher.get("exact", value) and matcher.get("contains", "") in value


def chosen(config: dict[str, Any], call: Call) -> dict[str, Any] | None:
    """The route that Envoy chooses: of a virtual host, of a matcher, or of what a matcher leads to."""
    if "matcher" in config:
        return chosen(config["matcher"], call)
    if "matcher_tree" in config:
        tree = config["matcher_tree"]
        exact = tree.get("exact_match_map", {}).get("map", {})
        prefixes = tree.get("prefix_match_map", {}).get("map", {})
        longest = max((prefix for prefix in prefixes if call[0].startswith(prefix)), key=len, default=None)
        found = exact.get(call[0]) or (prefixes[longest] if longest else config["on_no_match"])
        return chosen(found, call)
    if "matcher_list" in config:
        fitting = (one for one in config["matcher_list"]["matchers"] if call[0] in _paths(one["predicate"]))
        return chosen(next((one["on_match"] for one in fitting), config["on_no_match"]), call)
    found = config["action"]["typed_config"] if "action" in config else config
    return next((route for route in found.get("routes", []) if fits(route["match"], call)), None)


def _paths(predicate: dict[str, Any]) -> set[str]:
    each = predicate["or_matcher"]["predicate"] if "or_matcher" in predicate else [predicate]
    return {one["single_predicate"]["value_match"]["exact"] for one in each}


def decision(config: dict[str, Any], call: Call) -> dict[str, Any]:
    """What happens to the call, whatever matched it."""
    found = chosen(config, call) or {}
    return {key: value for key, value in found.items() if key != "match"}


def made(texts: Iterable[str], methods: Iterable[Method], linear: int, in_tree: int = 10_000) -> dict[str, Any]:
    """The virtual host of `stock` or `web`, with at most so many routes in a list, and in a tree."""
    mesh = documents(a_workload("stock", "ports: [{port: 50051}, {port: 80, appProtocol: http}]"),
                     a_workload("stock-v2", "service: stock, version: v2, port: 50051"), *texts)  # fmt: skip
    view = a_view(mesh, "stock", {("shop", "stock", "v1"): Schema.of(methods)})
    port = 80 if any("HTTPRoute" in text for text in texts) else 50051
    [host] = [host for host in view.virtual_hosts if host.target.port == port]
    with patch.object(matcher, "MOST_LINEAR", linear), patch.object(matcher, "MOST_IN_TREE", in_tree):
        [found] = as_json(host_routes(host))["virtual_hosts"]
    result: dict[str, Any] = found
    return result


HEADERS = ["", "headers: [{name: a, value: '1'}]", "headers: [{name: a, value: '[12]', type: RegularExpression}]"]
GRPC_MATCHES = [
    "", "method: {service: a.B}", "method: {service: a.B, method: C}", "method: {service: a.B, method: D}",
    "method: {service: a.BC}", "method: {method: C}", "method: {type: RegularExpression, service: 'a[.]B+', method: C}",
    "method: {type: RegularExpression, method: 'C|D'}",
]  # fmt: skip
HTTP_MATCHES = [
    "", "path: {value: /a}", "path: {value: /a/b}", "path: {value: /ab}", "path: {type: Exact, value: /a}",
    "path: {type: Exact, value: /a/b}", "path: {type: RegularExpression, value: '/[ab]+'}", "method: GET",
    "queryParams: [{name: q, value: '1'}]",
]  # fmt: skip
TO_STOCK = "backendRefs: [{name: stock, port: 50051}]"
BACKENDS = ["stock", "stock-v2", "gone"]
calls_of = st.tuples(
    st.sampled_from(["/a.B/C", "/a.B/D", "/a.B/E", "/a.BC/C", "/x.Y/C", "/x.Y/Z", "/a.B/C?q", "/a.B", "/"]),
    st.sampled_from([{}, {"a": "1"}, {"a": "2"}]),
)
requests_of = st.tuples(
    st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/abc", "/b", "/a?q=1", "/a/b?q=2", "/?q=1"]),
    st.sampled_from([{}, {"a": "1"}, {"a": "2"}]),
)


def rules_of(matches: list[str]) -> st.SearchStrategy[str]:
    one = st.builds(
        lambda *parts: f"{{{', '.join(filter(None, parts))}}}", st.sampled_from(matches), st.sampled_from(HEADERS)
    )
    backend = st.builds("backendRefs: [{{name: {}, port: 50051}}]".format, st.sampled_from(BACKENDS))
    rule = st.builds(
        lambda found, to: f"{{matches: [{', '.join(found)}], {to}}}", st.lists(one, min_size=1, max_size=4), backend
    )
    return st.lists(rule, max_size=4).map(", ".join)


ONE, OTHER, ALL = (
    f"{{matches: [{{{match}}}], backendRefs: [{{name: {to}, port: 50051}}]}}"
    for match, to in (
        ("method: {service: a.B, method: C}", "stock-v2"),
        ("method: {service: a.B}", "gone"),
        ("", "stock"),
    )
)
WITH_HEADER = OTHER.replace("}}]", "}, headers: [{name: a, value: '1'}]}]", 1)


@given(rules_of(GRPC_MATCHES), st.sets(st.sampled_from(METHODS)), calls_of)
@example(ONE, set(), ("/a.B/C", {})).via("a method that a rule names keeps its own policy")
@example(f"{WITH_HEADER}, {ALL}", set(), ("/a.B/E", {})).via("a rule for all is among those of each service")
@example(f"{OTHER}, {ALL}", set(), ("/x.Y/E", {})).via("a rule for one service is not for another")
def test_a_tree_decides_as_the_list_does(rules: str, known: set[Method], call: Call) -> None:
    methods = [*known, Method("a.B", "C")]
    texts = [a_grpc_route("r", rules, "stock")]

    in_list, in_tree = (made(texts, methods, most) for most in (1000, 0))
    by_policy = made(texts, methods, 0, in_tree=0)

    assert "routes" in in_list
    assert "matcher" in in_tree or not rules
    if "?" not in call[0]:
        assert decision(in_tree, call) == decision(by_policy, call) == decision(in_list, call)


@given(rules_of(HTTP_MATCHES), requests_of)
def test_a_tree_of_http_paths_decides_as_the_list_does(rules: str, call: Call) -> None:
    texts = [an_http_route("r", rules or "{}", "stock")]

    assert decision(made(texts, (), 0), call) == decision(made(texts, (), 1000), call)
    assert decision(made(texts, (), 0, in_tree=0), call) == decision(made(texts, (), 1000), call)


def test_rules_for_all_methods_do_not_stand_in_the_list_of_each_of_a_thousand() -> None:
    """60,000 routes, 35 MB, they would be; a schema comes from a service, and may have as many methods as it likes."""
    methods = [Method("a.B", f"M{number}") for number in range(1000)]
    alone = ", ".join(f"{{headers: [{{name: a, value: '{number}'}}]}}" for number in range(60))
    to_all = "backendRefs: [{name: stock, port: 50051}]"
    rules = f"{{matches: [{alone}], {to_all}}}, {{matches: [{{method: {{service: a.B, method: M1}}}}]}}"

    found = made([a_grpc_route("r", rules, "stock")], methods, 20)

    assert found["matcher"]["matcher_list"]
    assert len(json.dumps(found)) < 1_000_000
    assert decision(found, ("/a.B/M1", {}))["direct_response"]["status"] == 503
    assert decision(found, ("/a.B/M7", {"a": "7"}))["route"]["max_stream_duration"]["max_stream_duration"] == "60s"
    assert "max_stream_duration" not in decision(found, ("/a.B/Other", {"a": "7"}))["route"]["max_stream_duration"]


def test_rules_for_all_paths_do_not_stand_in_the_list_of_each_of_a_thousand() -> None:
    def matches(one: str) -> str:
        return f"{{matches: [{', '.join(one % number for number in range(64))}]}}"

    rules = ", ".join(matches(one) for one in ("{path: {value: /p%s}}", "{headers: [{name: a, value: '%s'}]}"))
    texts = [an_http_route(f"r{number}", rules.replace("/p", f"/p{number}/"), "stock") for number in range(3)]

    found = made(texts, (), 20)

    assert len(found["routes"]) == 3 * 128 + 1


def test_a_path_with_a_query_is_no_method_of_a_tree() -> None:
    """`/S/M?x` would not be found by the path of the method, and slip past what is said of it."""
    found = decision(
        routes("many-methods")["upstream/shop/stock/50051"]["virtual_hosts"][0], ("/shop.Stock/Take?x", {})
    )

    assert found["direct_response"] == {
        "status": 404,
        "body": {"inline_string": "the path of a gRPC call has no query"},
    }


def test_the_ways_of_a_list_are_those_of_the_scenarios() -> None:
    """`action` of the other tests looks at lists; a tree is only made where a list would be long."""
    assert action("grpc", "upstream/shop/stock/50051")["cluster"] == "shop/stock/50051"
    hosts = {name: routes(name)["outbound"]["virtual_hosts"][0] for name in SCENARIOS}

    assert {name for name, host in hosts.items() if "matcher" in host} == {"many-methods", "many-pages"}


def test_what_is_too_much_for_a_tree_is_a_list_where_no_method_has_a_policy_of_its_own() -> None:
    found = made([a_grpc_route("r", "{matches: [{method: {service: a.B, method: C}}]}", "stock")], (), 0, in_tree=0)

    assert decision(found, ("/a.B/C", {}))["direct_response"]["status"] == 503
    assert "routes" in found


def test_a_tree_has_the_methods_that_routes_name_and_no_schema_does() -> None:
    found = made([a_grpc_route("r", "{matches: [{method: {service: a.B, method: C}}]}", "stock")], (), 0)

    assert decision(found, ("/a.B/C", {}))["direct_response"]["status"] == 503


@pytest.mark.parametrize("most", [0, 1000], ids=["tree", "list"])
def test_a_method_may_be_that_of_any_service(most: int) -> None:
    found = made([a_grpc_route("r", f"{{matches: [{{method: {{method: C}}}}], {TO_STOCK}}}", "stock")], (), most)

    fitting = [
        path for path in ("/a.B/C", "/x.Y/C", "/a.B/CC", "/a.B/D", "/C") if "route" in decision(found, (path, {}))
    ]

    assert fitting == ["/a.B/C", "/x.Y/C"]


@pytest.mark.parametrize("most", [0, 1000], ids=["tree", "list"])
def test_every_query_parameter_of_a_match_has_to_fit(most: int) -> None:
    match = "queryParams: [{name: q, value: '1'}, {name: r, type: RegularExpression, value: 'a+'}]"
    to_itself = "backendRefs: [{name: stock, port: 80}]"
    found = made(
        [an_http_route("r", f"{{matches: [{{path: {{value: /a}}, {match}}}], {to_itself}}}", "stock")], (), most
    )

    calls = ("/a?q=1&r=aa", "/a?q=1&r=b", "/a?q=1", "/a?q=2&r=a", "/a")
    fitting = [path for path in calls if "route" in decision(found, (path, {}))]

    assert fitting == ["/a?q=1&r=aa"]

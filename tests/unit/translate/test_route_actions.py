"""What becomes of a call that a route fits, as Envoy is told."""

import re
from datetime import timedelta
from typing import Any

import pytest

from mesh.policy.retry import RetryPolicy
from mesh.translate.route_action import retry_policy
from tests.builders import a_policy, an_http_route
from tests.unit.translate.test_resources import clusters, routes
from tests.unit.translate.test_routes import decision, made


def of(name: str, path: str, **headers: str) -> dict[str, Any]:
    configurations = routes(name)
    [host] = next(one for key, one in configurations.items() if key.startswith("upstream/") or key == "outbound")[
        "virtual_hosts"
    ][:1]
    call_headers = {re.sub("^_", ":", key).replace("_", "-"): value for key, value in headers.items()}
    return decision(host, (path, call_headers))


def test_calls_are_shared_by_weight_and_nobody_keeps_its_share() -> None:
    shares = of("canary", "/shop.Stock/Take")["route"]["weighted_clusters"]["clusters"]

    assert [(share["name"], share["weight"]) for share in shares] == [
        ("shop/stock/50051", 90), ("shop/stock/50051/v2", 9), ("nobody", 1)
    ]  # fmt: skip
    assert shares[1]["response_headers_to_add"] == [
        {"header": {"key": "v", "value": "v2"}}  # appended, which is Envoy's default
    ]


def test_a_rule_mirrors_and_changes_headers() -> None:
    found = of("canary", "/shop.Stock/Take", x_canary="v7")

    assert found["route"]["cluster"] == "shop/stock/50051/v2"
    [mirror] = found["route"]["request_mirror_policies"]
    assert mirror == {
        "cluster": "shop/stock/50051",
        "runtime_fraction": {"default_value": {"numerator": 333333, "denominator": "MILLION"}},
        "disable_shadow_host_suffix_append": True,
    }
    assert found["request_headers_to_add"] == [
        {"header": {"key": "share", "value": "100%%"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    ]
    assert found["request_headers_to_remove"] == ["x-old"]


def test_each_method_has_the_limits_of_its_kind() -> None:
    take, watch, other = (of("canary", f"/shop.Stock/{name}")["route"] for name in ("Take", "Watch", "Else"))

    assert take["max_stream_duration"] == {"max_stream_duration": "2s", "grpc_timeout_header_max": "2s"}
    assert "idle_timeout" not in take
    assert watch["max_stream_duration"] == other["max_stream_duration"] == {"grpc_timeout_header_max": "0s"}
    assert watch["idle_timeout"] == other["idle_timeout"] == "60s"


def test_calls_are_kept_together_by_a_ring() -> None:
    assert {name: one["lb_policy"] for name, one in clusters("canary").items() if name.startswith("shop/")} == {
        "shop/stock/50051": "RING_HASH", "shop/stock/50051/v2": "RING_HASH"
    }  # fmt: skip
    assert of("canary", "/shop.Stock/Take")["route"]["hash_policy"] == [
        {"header": {"header_name": "x-user"}, "terminal": True}
    ]


def test_without_a_backend_the_answer_says_so() -> None:
    found = of("nowhere", "/shop.Stock/Take")["direct_response"]

    assert found["status"] == 503
    assert found["body"]["inline_string"] == "GRPCRoute shop/nowhere has no backend here that could answer"


def test_what_no_rule_fits_is_answered() -> None:
    found = of("pages", "/none")["direct_response"]

    assert (found["status"], found["body"]["inline_string"]) == (404, "no rule of the routes of web fits this call")


def test_requests_are_redirected_and_rewritten() -> None:
    redirect = {"scheme_redirect": "https", "prefix_rewrite": "/"}
    assert of("pages", "/old/a", _authority="pages")["redirect"] == redirect
    assert of("pages", "/old/a", _authority="pages:80")["redirect"] == {**redirect, "port_redirect": 443}
    assert of("pages", "/v1/a")["route"]["prefix_rewrite"] == of("pages", "/v1")["route"]["prefix_rewrite"] == "/"
    assert of("pages", "/v1/a")["route"]["host_rewrite_literal"] == "b.test"
    assert of("pages", "/all?q=1")["route"]["regex_rewrite"] == {"pattern": {"regex": "^/.*$"}, "substitution": "/none"}


def test_an_http_rule_limits_and_retries() -> None:
    limited, once = of("pages", "/v1/a")["route"], of("pages", "/all?q=1")["route"]

    assert limited["timeout"] == "2s"
    assert (
        limited["retry_policy"]["retry_on"]
        == "connect-failure,refused-stream,reset-before-request,retriable-status-codes"
    )
    assert limited["retry_policy"]["per_try_timeout"] == "1s"
    assert once["retry_policy"] == {"num_retries": 0, "per_try_timeout": "1s"}


@pytest.mark.parametrize(
    ("prefix", "new", "rewrites"),
    [
        ("/foo", "/xyz", ["/xyz"]),
        ("/foo", "/xyz/", ["/xyz"]),
        ("/foo/", "/xyz", ["/xyz"]),
        ("/foo", "", ["/", "/"]),
        ("/foo", "/", ["/", "/"]),
        ("/", "/xyz", ["/xyz/"]),
        ("/", "", ["/"]),
    ],
)
def test_a_prefix_takes_its_slash_with_it_when_nothing_comes_in_its_place(
    prefix: str, new: str, rewrites: list[str]
) -> None:
    path = f"path: {{type: ReplacePrefixMatch, replacePrefixMatch: '{new}'}}"
    rewrite = f"filters: [{{type: URLRewrite, urlRewrite: {{{path}}}}}]"
    rule = f"{{matches: [{{path: {{value: {prefix}}}}}], backendRefs: [{{name: stock, port: 80}}], {rewrite}}}"

    host = made([an_http_route("r", rule, "stock")], (), 1000)

    assert [route["route"]["prefix_rewrite"] for route in host["routes"] if "route" in route] == rewrites


def of_rule(rule: str, *more: str) -> dict[str, Any]:
    """The first route of an HTTPRoute with one rule."""
    host = made([an_http_route("r", f"{{{rule}}}", "stock"), *more], (), 1000)
    found: dict[str, Any] = host["routes"][0]
    return found


def test_a_redirect_may_replace_the_whole_path_or_leave_it() -> None:
    def redirect(fields: str) -> Any:
        return of_rule(f"filters: [{{type: RequestRedirect, requestRedirect: {fields}}}]")["redirect"]

    path = "path: {type: ReplaceFullPath, replaceFullPath: /b}"
    assert redirect(f"{{{path}, hostname: b.test, port: 81, scheme: http}}") == {
        "host_redirect": "b.test", "port_redirect": 81, "scheme_redirect": "http", "path_redirect": "/b",
        "response_code": "FOUND",
    }  # fmt: skip
    assert redirect("{statusCode: 308}") == {"response_code": "PERMANENT_REDIRECT"}


def test_a_rewrite_may_be_of_the_host_alone() -> None:
    to_itself = "backendRefs: [{name: stock, port: 80}]"

    found = of_rule(f"filters: [{{type: URLRewrite, urlRewrite: {{hostname: b.test}}}}], {to_itself}")["route"]

    assert (found["host_rewrite_literal"], "prefix_rewrite" in found) == ("b.test", False)


@pytest.mark.parametrize(
    ("cookie", "expected"),
    [
        ("{name: User}", {"name": "User"}),
        ("{name: User, ttl: 60s}", {"name": "User", "ttl": "60s", "path": "/"}),
        ("{name: User, ttl: 0s}", {"name": "User", "ttl": "0s", "path": "/"}),
    ],
)
def test_a_cookie_is_given_to_who_has_none_only_when_it_has_a_life(cookie: str, expected: dict[str, str]) -> None:
    hashing = f"loadBalancer: {{type: ConsistentHash, consistentHash: {{type: Cookie, cookie: {cookie}}}}}"
    policy = a_policy("p", f"{{targetRefs: [{{kind: Service, name: stock}}], {hashing}}}")

    found = of_rule("backendRefs: [{name: stock, port: 80}]", policy)["route"]

    assert found["hash_policy"] == [{"cookie": expected, "terminal": True}]


def test_a_try_is_not_limited_where_a_route_switches_that_off() -> None:
    of_policy = RetryPolicy(per_try_timeout=timedelta(seconds=1))

    limited, switched_off = retry_policy(of_policy), retry_policy(of_policy, timedelta())

    assert limited
    assert switched_off
    assert limited.per_try_timeout.ToTimedelta() == of_policy.per_try_timeout
    assert not switched_off.HasField("per_try_timeout")


def test_what_a_policy_says_limits_requests_unless_the_rule_says_something_itself() -> None:
    limit = a_policy("p", "{targetRefs: [{kind: Service, name: stock}], timeouts: {request: 3s}}")
    to_itself = "backendRefs: [{name: stock, port: 80}]"

    assert of_rule(to_itself, limit)["route"]["timeout"] == "3s"
    assert of_rule(f"{to_itself}, timeouts: {{request: 2s}}", limit)["route"]["timeout"] == "2s"
    assert of_rule(f"{to_itself}, timeouts: {{request: 0s}}", limit)["route"]["timeout"] == "0s"
    assert of_rule(to_itself)["route"]["timeout"] == "0s"


@pytest.mark.parametrize(
    ("fraction", "millionths"),
    [
        ("numerator: 5", 50_000),
        ("numerator: 1, denominator: 3", 333_333),
        ("numerator: 7, denominator: 10000000", 1),
        ("numerator: 1, denominator: 1", 1_000_000),
    ],
)
def test_a_share_of_copies_is_in_millionths(fraction: str, millionths: int) -> None:
    mirror = f"backendRef: {{name: stock, port: 80}}, fraction: {{{fraction}}}"
    filters = f"filters: [{{type: RequestMirror, requestMirror: {{{mirror}}}}}]"

    [copies] = of_rule(f"{filters}, backendRefs: [{{name: stock, port: 80}}]")["route"]["request_mirror_policies"]

    share = copies["runtime_fraction"]["default_value"]
    assert share == {"numerator": millionths, "denominator": "MILLION"}

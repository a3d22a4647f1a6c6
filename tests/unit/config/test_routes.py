"""GRPCRoute, HTTPRoute and ReferenceGrant: what they mean, and what Gateway API or Envoy would refuse of them."""

from datetime import timedelta

import pytest

from mesh.config import parse
from mesh.model.documents import Mesh, Resource
from mesh.model.route import (
    BackendRef,
    GrpcMatch,
    GRPCRoute,
    HeaderChange,
    HttpMatch,
    HTTPRoute,
    MethodMatch,
    Mirror,
    ParentRef,
    PathChange,
    PathMatch,
    PathType,
    Redirect,
    ReferenceGrant,
    Rewrite,
    RouteRetry,
    Rule,
    ServiceRef,
    ValueMatch,
)
from mesh.model.traffic import Affinity, BackendTrafficPolicy, MethodPolicy, Retry, Timeouts
from tests.builders import a_document, a_grpc_route, a_policy, an_http_route

ORDERS, V2 = ServiceRef("shop", "orders", 50051), ServiceRef("shop", "orders-v2", 50051)
TO_ORDERS = "backendRefs: [{name: orders, port: 50051}]"
MIRROR = "backendRef: {name: web, port: 80}"
TO_WEB = "backendRefs: [{name: web, port: 80}]"


def meaning(text: str) -> Resource:
    parsed = parse(text, "routes.yaml", "/shop")
    assert not parsed.problems, parsed.problems
    return parsed.documents[0].resource


def grpc_rule(rule: str) -> Rule:
    found = meaning(a_grpc_route("canary", f"{{{rule}}}"))
    assert isinstance(found, GRPCRoute)
    return found.rules[0]


def http_rule(rule: str) -> Rule:
    found = meaning(an_http_route("canary", f"{{{rule}}}"))
    assert isinstance(found, HTTPRoute)
    return found.rules[0]


def test_a_grpc_route_says_where_its_calls_go() -> None:
    rule = grpc_rule(
        "name: canary,"
        "matches: [{method: {service: shop.v1.Orders, method: Place}, headers: [{name: X-Canary, value: a}]}],"
        "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: orders, port: 50051}, percent: 5}},"
        "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: A, value: b c}], remove: [X-B]}},"
        "{type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: c, value: 100%}]}}],"
        "backendRefs: [{name: orders-v2, port: 50051, weight: 10,"
        "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: v, value: v2}]}}]},"
        "{name: orders, namespace: other, port: 1, weight: 90}]"
    )

    assert rule == Rule(
        name="canary",
        matches=(GrpcMatch(MethodMatch("shop.v1.Orders", "Place"), (ValueMatch("x-canary", "a"),)),),
        backends=(
            BackendRef(V2, 10, request_headers=HeaderChange(add=(("v", "v2"),))),
            BackendRef(ServiceRef("other", "orders", 1), 90),
        ),
        request_headers=HeaderChange(set=(("a", "b c"),), remove=("x-b",)),
        response_headers=HeaderChange(add=(("c", "100%"),)),
        mirrors=(Mirror(ORDERS, 5, 100),),
    )


def test_what_a_grpc_route_leaves_out_has_the_defaults_of_gateway_api() -> None:
    assert grpc_rule(TO_ORDERS) == Rule(matches=(GrpcMatch(),), backends=(BackendRef(ORDERS, 1),))


def test_a_route_without_rules_has_none_for_grpc_and_one_for_http() -> None:
    parents = '{parentRefs: [{group: "", kind: Service, name: web}]}'

    grpc, http = meaning(a_document("GRPCRoute", "a", parents)), meaning(a_document("HTTPRoute", "a", parents))

    assert isinstance(grpc, GRPCRoute)
    assert isinstance(http, HTTPRoute)
    assert (grpc.rules, http.rules) == ((), (Rule(matches=(HttpMatch(),)),))


def test_parents_name_a_service_of_any_namespace_and_perhaps_its_port() -> None:
    route = meaning(
        a_document(
            "GRPCRoute",
            "a",
            '{parentRefs: [{group: "", kind: Service, name: b, namespace: other, port: 5},'
            '{group: core, kind: Service, name: a, sectionName: grpc}], hostnames: ["*.shop.test"]}',
        )
    )

    assert isinstance(route, GRPCRoute)
    assert route.parents == (ParentRef("other", "b", 5), ParentRef("shop", "a", None, "grpc"))
    assert [str(parent) for parent in route.parents] == ["other/b:5", "shop/a (grpc)"]
    assert (route.hostnames, str(ORDERS)) == (("*.shop.test",), "shop/orders:50051")


@pytest.mark.parametrize(
    ("method", "meant", "pattern"),
    [
        ("{service: a.B}", MethodMatch("a.B"), "/a[.]B/[^/]+"),
        ("{method: C}", MethodMatch("", "C"), "/[^/]+/C"),
        ("{type: RegularExpression, service: a|b}", MethodMatch("a|b", "", True), "/(?:a|b)/(?:[^/]+)"),
        ("{type: RegularExpression, method: Get.*}", MethodMatch("", "Get.*", True), "/(?:[^/]+)/(?:Get.*)"),
    ],
)
def test_methods_are_matched_by_their_path(method: str, meant: MethodMatch, pattern: str) -> None:
    [match] = grpc_rule(f"matches: [{{method: {method}}}], {TO_ORDERS}").matches

    assert isinstance(match, GrpcMatch)
    assert (match.method, match.method.pattern) == (meant, pattern)


def test_of_two_matches_for_one_header_the_first_counts() -> None:
    headers = "[{name: b, value: x.*, type: RegularExpression}, {name: A, value: '1'}, {name: a, value: '2'}]"

    [match] = grpc_rule(f"matches: [{{headers: {headers}}}]").matches

    assert match.headers == (ValueMatch("a", "1"), ValueMatch("b", "x.*", regex=True))


def test_an_http_route_matches_path_method_headers_and_query() -> None:
    [match, default] = http_rule(
        "matches: [{path: {type: Exact, value: /a/}, method: GET, headers: [{name: H, value: v}],"
        f"queryParams: [{{name: Q, value: w}}]}}, {{}}], {TO_WEB}"
    ).matches

    path = PathMatch(PathType.EXACT, "/a/")
    assert match == HttpMatch(path, "GET", (ValueMatch("h", "v"),), (ValueMatch("Q", "w"),))
    assert default == HttpMatch(PathMatch(PathType.PREFIX, "/"))


@pytest.mark.parametrize(("written", "meant"), [("/", "/"), ("/a", "/a"), ("/a/", "/a"), ("/a/b%20c/", "/a/b%20c")])
def test_a_prefix_ends_without_a_slash(written: str, meant: str) -> None:
    [match] = http_rule(f"matches: [{{path: {{value: {written}}}}}]").matches

    assert isinstance(match, HttpMatch)
    assert match.path == PathMatch(PathType.PREFIX, meant)


def test_requests_are_redirected_rewritten_mirrored_limited_and_retried() -> None:
    away = http_rule(
        "filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: shop.test, port: 8443,"
        "path: {type: ReplaceFullPath, replaceFullPath: /b}, statusCode: 308}}]"
    )
    changed = http_rule(
        "matches: [{path: {value: /a}}],"
        "filters: [{type: URLRewrite, urlRewrite: {hostname: b.test,"
        'path: {type: ReplacePrefixMatch, replacePrefixMatch: ""}}},'
        f"{{type: RequestMirror, requestMirror: {{{MIRROR}, fraction: {{numerator: 1, denominator: 1000}}}}}},"
        "{type: RequestMirror, requestMirror: {backendRef: {name: web, port: 80}}}],"
        "timeouts: {request: 10s, backendRequest: 3s}, retry: {codes: [503, 500, 503], attempts: 3, backoff: 0s}"
    )
    plain = http_rule(
        "filters: [{type: URLRewrite, urlRewrite: {}}],retry: {}, timeouts: {request: 0s, backendRequest: 1s}"
    )

    assert away.redirect == Redirect("https", "shop.test", 8443, PathChange(full="/b"), 308)
    assert changed.rewrite == Rewrite("b.test", PathChange(prefix=""))
    assert [(one.numerator, one.denominator) for one in changed.mirrors] == [(1, 1000), (100, 100)]
    assert (changed.request_timeout, changed.backend_timeout) == (timedelta(seconds=10), timedelta(seconds=3))
    assert changed.retry == RouteRetry((500, 503), 3, timedelta(milliseconds=1))
    assert (plain.rewrite, plain.retry, plain.request_timeout) == (Rewrite(), RouteRetry(), timedelta())
    assert http_rule("filters: [{type: RequestRedirect, requestRedirect: {}}]").redirect == Redirect()


def test_a_grant_names_who_may_refer_to_what() -> None:
    spec = (
        "{from: [{group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: web}],"
        '     to: [{group: "", kind: Service, name: orders}]}'
    )
    grant = meaning(a_document("ReferenceGrant", "g", spec).replace("io/v1\n", "io/v1beta1\n"))

    assert isinstance(grant, ReferenceGrant)
    assert grant.allows("GRPCRoute", "web", ORDERS)
    assert not grant.allows("HTTPRoute", "web", ORDERS)
    assert not grant.allows("GRPCRoute", "shop", ORDERS)
    assert not grant.allows("GRPCRoute", "web", V2)
    assert not grant.allows("GRPCRoute", "web", ServiceRef("other", "orders", 50051))
    assert meaning(a_document("ReferenceGrant", "g", spec.replace('""', "core"))) == grant


MODIFIER = "filters: [{type: RequestHeaderModifier, requestHeaderModifier: %s}]"
REDIRECT = "{type: RequestRedirect, requestRedirect: {}}"
PREFIX = "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("matches: [{method: {}}]", "neither service nor method is given. Write one, or leave `method` out"),
        ("matches: [{method: {service: /a.B}}]", "'/a.B' is no gRPC service. Write package.Service"),
        ("matches: [{method: {method: a.b}}]", "'a.b' is no gRPC method. Write its name only"),
        ("matches: [{method: {type: RegularExpression, service: '(?!a)b'}}]", "invalid perl operator: \\(\\?!"),
        ("matches: [{method: {type: RegularExpression, service: 'a)(b'}}]", "unexpected \\): a\\)\\(b"),
        ("matches: [{method: {type: RegularExpression, method: 'a{99}'}}]", "steps. Simplify it to 100 or fewer"),
        # Envoy 1.40 reads bytes, 52 steps. Those before it read UTF-8.
        (
            "matches: [{headers: [{name: a, type: RegularExpression, value: '.{24}'}]}]",
            "is too large: its RE2 program has 196 steps. Simplify it to 100 or fewer",
        ),
        ("matches: [{method: {type: RegularExpression, method: 'ü+'}}]", "is no regular expression for ASCII text"),
        (
            "matches: [{method: {type: Prefix, method: a}}]",
            "'Prefix' is not known. Write 'Exact' or 'RegularExpression'",
        ),
        ("matches: [{headers: [{name: ':path', value: a}]}]", "':path' is not allowed. Use letters, digits and "),
        ("matches: [{headers: [{name: a, value: a  b}]}]", "a value is 1 to 4096 ASCII characters"),
        (
            "matches: [{}, {headers: [{name: b, type: RegularExpression, value: '['}]}]",
            "matches.1.headers.0: '\\[' is not RE2: missing \\]: \\[",
        ),
        ("backendRefs: [{name: orders}]", "port is missing. Add `port:`"),
        ("backendRefs: [{name: orders, port: 1, weight: 1000001}]", "1000001 is too large. Write 1000000 or less"),
        (
            "backendRefs: [{name: orders, port: 1, kind: ServiceImport}]",
            "'ServiceImport' is not known. Write 'Service'",
        ),
        (
            "backendRefs: [{name: a, port: 1, filters: [{type: RequestMirror}]}]",
            "Proa does not support it here. Use one",
        ),
        ("filters: [{type: ExtensionRef}]", "Gateway API has ExtensionRef, Proa does not support it here"),
        ("filters: [{type: RequestHeaderModifier}]", "needs requestHeaderModifier. Add it"),
        (
            "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {}, responseHeaderModifier: {}}]",
            "responseHeaderModifier does not belong to type RequestHeaderModifier. Remove it",
        ),
        (MODIFIER % "{set: [{name: Host, value: a}]}", "Host cannot be changed here"),
        (MODIFIER % "{set: [{name: a, value: b}], remove: [A]}", "the header a is named twice. Say one thing about it"),
        (MODIFIER % "{remove: ['a b']}", "'a b' is not allowed"),
        (f"{MODIFIER[:-1] % '{}'}, {(MODIFIER % '{}')[10:]}", "two filters of type RequestHeaderModifier"),
        (
            f"filters: [{{type: RequestMirror, requestMirror: {{{MIRROR}, percent: 1, fraction: {{numerator: 1}}}}}}]",
            "both percent and fraction are given. Keep one",
        ),
        (
            f"filters: [{{type: RequestMirror, requestMirror: {{{MIRROR}, fraction: {{numerator: 101}}}}}}]",
            "numerator is more than denominator. Make it less",
        ),
        ("sessionPersistence: {}", "Gateway API has this field, Proa does not support it. Remove it"),
        ("matches: [" + ", ".join(["{}"] * 65) + "]", "spec.rules.0.matches: there are 65. Keep 64 or fewer"),
        ("name: a}, {name: a", "two rules are named a. Rename one"),
        ("}, {".join(["matches: [" + ", ".join(["{}"] * 43) + "]"] * 3), "the rules have 129 matches"),
        ("}, {".join([f"name: r{n}" for n in range(17)]), "spec.rules: there are 17. Keep 16 or fewer"),
    ],
)
def test_what_a_grpc_route_may_not_say_is_refused(rule: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    problems = parse(a_grpc_route("a", f"{{{rule}}}"), "routes.yaml", "/").problems

    assert capfd.readouterr() == ("", ""), "RE2 would say it there"
    assert len(problems) == 1
    assert pytest.raises(Exception, match=message).matches(problems[0])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("matches: [{path: {value: a}}]", "'a' is no path. Start it with /"),
        ("matches: [{path: {value: '/a?b'}}]", "'/a\\?b' is no path"),
        (
            "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: '/\\1'}}}]",
            "is no path. Start it with /, and write what a URL may not hold as %20",
        ),
        ("matches: [{path: {type: Exact, value: /a//b}}]", "has // in it, which servers read differently"),
        ("matches: [{path: {value: /a/..}}]", "has /.. in it"),
        ("matches: [{path: {value: /a%2Fb}}]", "has %2F in it"),
        ("matches: [{path: {type: RegularExpression, value: ''}}]", "is no regular expression"),
        ("matches: [{method: get}]", "'get' is not known"),
        ("matches: [{queryParams: [{name: 'a b', value: c}]}]", "'a b' is not allowed"),
        ("filters: [{type: CORS}]", "Gateway API has CORS, Proa does not support it here"),
        (f"filters: [{REDIRECT}], {TO_WEB}", "a redirected request goes to no backend"),
        (f"filters: [{REDIRECT}, {PREFIX}]", "RequestRedirect and URLRewrite exclude each other"),
        (
            f"filters: [{PREFIX}], matches: [{{path: {{type: Exact, value: /a}}}}]",
            "replacePrefixMatch needs exactly one",
        ),
        (f"filters: [{PREFIX}], matches: [{{}}, {{}}]", "replacePrefixMatch needs exactly one"),
        (
            "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: ''}}}]",
            "'' is no path",
        ),
        (
            "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replacePrefixMatch: ''}}}]",
            "type ReplaceFullPath needs replaceFullPath. Add it",
        ),
        (
            f"filters: [{PREFIX.replace('replacePrefix', 'replaceFullPath: /, replacePrefix')}]",
            "replaceFullPath does not belong to type ReplacePrefixMatch. Remove it",
        ),
        ("filters: [{type: URLRewrite, urlRewrite: {hostname: '*.a'}}]", "'\\*.a' stands for many names. Give one"),
        ("filters: [{type: URLRewrite, urlRewrite: {hostname: 10.0.0.1}}]", "'10.0.0.1' is no host name"),
        ("filters: [{type: RequestRedirect, requestRedirect: {statusCode: 304}}]", "304 is not known"),
        ("timeouts: {request: 1s, backendRequest: 2s}", "backendRequest is longer than request. Make it shorter"),
        ("timeouts: {request: 1}", "1 has no unit"),
        ("retry: {codes: [200]}", "200 is too small. Write 400 or more"),
        ("name: A", "'A' is not allowed"),
    ],
)
def test_what_an_http_route_may_not_say_is_refused(rule: str, message: str) -> None:
    problems = parse(an_http_route("a", f"{{{rule}}}"), "routes.yaml", "/").problems

    assert len(problems) == 1
    assert pytest.raises(Exception, match=message).matches(problems[0])


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        ("[]", "spec.parentRefs: there are none. Write one"),
        ("[{name: a}]", 'a Gateway as parent is not built yet. Write group: "" and kind: Service'),
        ("[{kind: Service, name: a}]", "there is no Service in group gateway.networking.k8s.io, which is the default"),
        ('[{group: "", kind: Pod, name: a}]', "kind Pod is no parent that Proa knows"),
        ('[{group: "", kind: Service, name: a}, {group: "", kind: Service, name: a}]', "two parentRefs select a"),
        (
            '[{group: "", kind: Service, name: a}, {group: "", kind: Service, name: a, port: 1}]',
            "two parentRefs select a",
        ),
        (
            '[{group: "", kind: Service, name: a, port: 1}, {group: "", kind: Service, name: a, port: 1}]',
            "two parentRefs",
        ),
    ],
)
def test_parents_are_different_services_or_parts_of_one(parents: str, message: str) -> None:
    [problem] = parse(a_document("GRPCRoute", "a", f"{{parentRefs: {parents}}}"), "routes.yaml", "/").problems

    assert message in str(problem)


def test_parts_of_one_service_are_parents_of_their_own() -> None:
    parents = ", ".join(f'{{group: "", kind: Service, name: a, port: {port}}}' for port in (1, 2))

    assert len(getattr(meaning(a_document("GRPCRoute", "a", f"{{parentRefs: [{parents}]}}")), "parents", ())) == 2


def test_a_route_of_another_version_is_refused() -> None:
    [problem] = parse(a_grpc_route("a", "").replace("/v1\n", "/v1alpha2\n"), "routes.yaml", "/").problems

    assert "is not known. Write 'gateway.networking.k8s.io/v1'" in str(problem)


POLICY = """{targetRefs: [{kind: Service, name: orders}],
timeouts: {request: 2s, streamIdle: 0s, maxStreamDuration: 1h},
methods: [{method: {service: a.B, method: C}, timeouts: {request: 5s}, retry: {disabled: true}}],
loadBalancer: {type: ConsistentHash, consistentHash: {type: Cookie, cookie: {name: User, ttl: 1h}}}}"""


def test_a_policy_limits_calls_names_methods_and_keeps_calls_together() -> None:
    policy = meaning(a_policy("p", POLICY))

    assert isinstance(policy, BackendTrafficPolicy)
    assert policy.timeouts == Timeouts(timedelta(seconds=2), timedelta(), timedelta(hours=1))
    assert policy.methods == (MethodPolicy("a.B", "C", Timeouts(timedelta(seconds=5)), Retry(disabled=True)),)
    assert policy.affinity == Affinity(cookie="User", ttl=timedelta(hours=1))


def test_the_mesh_may_say_what_holds_for_every_service() -> None:
    mesh = meaning(
        a_document("Mesh", "default", "{defaults: {timeouts: {request: 5s}, retry: {numRetries: 1}}}", "default")
    )

    assert isinstance(mesh, Mesh)
    assert (mesh.timeouts, mesh.retry) == (Timeouts(request=timedelta(seconds=5)), Retry(num_retries=1))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("methods: [{method: {service: B/C, method: d}}]", "'B/C' is not allowed; use the full name of a gRPC service"),
        ("methods: [{method: {service: a.B}}]", "spec.methods.0.method.method is missing"),
        ("methods: [{method: {service: a.B, method: C}}, {method: {service: a.B, method: C}}]", "a.B/C twice"),
        ("loadBalancer: {type: ConsistentHash, consistentHash: {type: Header}}", "type Header needs header. Add it"),
        (
            "loadBalancer: {type: ConsistentHash,consistentHash: {type: Header, header: {name: a}, cookie: {name: b}}}",
            "cookie does not belong to type Header",
        ),
        ("timeouts: {request: -1s}", "'-1s' is not a duration"),
    ],
)
def test_what_a_policy_may_not_say_is_refused(spec: str, message: str) -> None:
    text = a_policy("p", f"{{targetRefs: [{{kind: Service, name: orders}}], {spec}}}")

    [problem] = parse(text, "policy.yaml", "/").problems

    assert message.replace("; use", ". Use") in str(problem)

"""What is accepted at the door compiles to what Envoy accepts: nothing is left for a proxy to refuse."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from mesh.agent.envoy import find
from mesh.config import parse
from mesh.model.documents import Documents
from mesh.model.schema import Idempotency, Method, Schema
from mesh.translate.resources import instance_resources, resources_for
from tests.builders import a_view, a_workload, an_instance
from tests.envoy.routed import inlined

pytestmark = pytest.mark.envoy

SHOP = "---\n".join((
    a_workload("web", "upstreams: [{service: stock}, {service: site}, {service: site, port: 81}]"),
    a_workload("stock"),
    a_workload("stock-v2", "service: stock, version: v2, port: 50051"),
    a_workload("site", "ports: [{port: 80, appProtocol: http}, {port: 81, appProtocol: http2}]"),
))  # fmt: skip
METHODS = [Method("a.B", "C"), Method("a.B", "D", idempotency=Idempotency.IDEMPOTENT), Method("a.B", "E", True, True)]

words = st.sampled_from(
    ["a", "X-A", "content-type", "grpc-timeout", ":path", "host", "a b", "x-envoy-retry-on", "%", "~", "ü"]
)
texts = st.sampled_from(
    ["1", "100%", "%REQ(x)%", "a b", "a  b", "a\n", "\\1", "{}", "a,b", '"', "é", "x" * 5000, ""]
) | st.text(max_size=6)
regexes = st.sampled_from(
    ["a.*", "(a|b)+", "\\pN+", "a{99}", "(?i)x", "[[:word:]]", "(?=a)", "(", "\\C", ".", "^a$", "(?P<n>a)", "a{2,1}"]
) | st.text(alphabet="ab(|)[]{}*+?.\\^$-:,0123", max_size=10)  # fmt: skip
paths = st.sampled_from(
    ["/", "/a", "/a/", "/a/b", "/" + "a" * 1023, "/%41", "/a%", "/a;b", "//", "/a?b", "/..", "a", "/~!$&'()*+,;=:@"]
)
durations = st.sampled_from(["0s", "1ms", "5s", "99999h99999h99999h99999h", "1h30m", "1"])
hosts = st.sampled_from(["b.test", "b", "*.b", "10.0.0.1", "b_c", "a" * 254])
names = st.sampled_from(["a.B", "a", "A_b.C1", "", ".a", "a.", "a/b", "ü"])
methods = st.sampled_from(["C", "D", "E", "F_1", "", "1", "a.b"])


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping with some of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


def lists(of: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(of, max_size=most)


def by_type(values: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    exact = st.fixed_dictionaries({"name": words, "value": values})
    return exact | st.fixed_dictionaries({"type": st.just("RegularExpression"), "name": words, "value": regexes})


services = st.sampled_from(["stock", "stock-v2", "site", "site-v1", "gone"])
refs = st.fixed_dictionaries({"name": services, "port": st.sampled_from([50051, 80, 81])})
headers = lists(st.fixed_dictionaries({"name": words, "value": texts}), 2)
changes = some(set=headers, add=headers, remove=lists(words, 2))
path_changes = st.one_of(
    st.fixed_dictionaries({"type": st.just("ReplaceFullPath"), "replaceFullPath": paths}),
    st.fixed_dictionaries({"type": st.just("ReplacePrefixMatch"), "replacePrefixMatch": paths | st.just("")}),
)
fractions = st.fixed_dictionaries(
    {"numerator": st.integers(0, 10**12)}, optional={"denominator": st.integers(1, 10**12)}
)
mirrors = st.fixed_dictionaries(
    {"backendRef": refs}, optional={"percent": st.integers(0, 100)}
) | st.fixed_dictionaries({"backendRef": refs, "fraction": fractions})


def filter_of(kind: str, field: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.just(kind), field: values})


of_headers = filter_of("RequestHeaderModifier", "requestHeaderModifier", changes) | filter_of(
    "ResponseHeaderModifier", "responseHeaderModifier", changes
)
of_grpc = of_headers | filter_of("RequestMirror", "requestMirror", mirrors)
of_http = st.one_of(
    of_grpc,
    filter_of("URLRewrite", "urlRewrite", some(hostname=hosts, path=path_changes)),
    filter_of(
        "RequestRedirect",
        "requestRedirect",
        some(scheme=st.sampled_from(["http", "https"]), hostname=hosts, path=path_changes,
             port=st.integers(1, 65535), statusCode=st.sampled_from([301, 302, 303, 307, 308])),
    ),
)  # fmt: skip
backends = lists(
    st.fixed_dictionaries(
        {"name": services, "port": st.sampled_from([50051, 80, 81])},
        optional={"weight": st.sampled_from([0, 1, 7, 1_000_000]), "filters": lists(of_headers, 2)},
    )
)
grpc_matches = some(
    method=some(service=names, method=methods)
    | st.fixed_dictionaries({"type": st.just("RegularExpression"), "service": regexes}),
    headers=lists(by_type(texts), 2),
)
http_matches = some(
    path=some(type=st.sampled_from(["Exact", "PathPrefix"]), value=paths)
    | st.fixed_dictionaries({"type": st.just("RegularExpression"), "value": regexes}),
    headers=lists(by_type(texts), 2),
    queryParams=lists(by_type(texts), 2),
    method=st.sampled_from(["GET", "CONNECT"]),
)
rules = {
    "GRPCRoute": some(matches=lists(grpc_matches, 30), filters=lists(of_grpc), backendRefs=backends),
    "HTTPRoute": some(
        matches=lists(http_matches, 30), filters=lists(of_http, 2), backendRefs=backends,
        timeouts=some(request=durations, backendRequest=durations),
        retry=some(codes=lists(st.sampled_from([400, 503, 599]), 2), attempts=st.integers(0, 10), backoff=durations),
    ),
}  # fmt: skip
triggers = st.lists(st.sampled_from(["unavailable", "reset", "connect-failure", "internal"]), min_size=1, max_size=3)
retries = some(
    disabled=st.booleans(), numRetries=st.integers(1, 10), allowUnsafe=st.booleans(),
    retryOn=st.fixed_dictionaries({"triggers": triggers}),
    perRetry=some(timeout=durations, backOff=some(baseInterval=durations, maxInterval=durations)),
)  # fmt: skip
timeouts = some(request=durations, streamIdle=durations, maxStreamDuration=durations)
hashes = st.fixed_dictionaries(
    {"type": st.just("Header"), "header": st.fixed_dictionaries({"name": words})}
) | st.fixed_dictionaries(
    {"type": st.just("Cookie"), "cookie": st.fixed_dictionaries({"name": words}, optional={"ttl": durations})}
)
policies = some(
    timeouts=timeouts, retry=retries,
    methods=lists(st.fixed_dictionaries(
        {"method": st.fixed_dictionaries({"service": names, "method": methods})},
        optional={"timeouts": timeouts, "retry": retries},
    )),
    loadBalancer=st.fixed_dictionaries({"type": st.just("ConsistentHash"), "consistentHash": hashes}),
)  # fmt: skip


@st.composite
def documents_of(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for number in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["GRPCRoute", "HTTPRoute", "BackendTrafficPolicy"]))
        service = draw(st.sampled_from(["stock", "site"]))
        if kind == "BackendTrafficPolicy":
            api, spec = "proa.mesh/v1alpha1", {"targetRefs": [{"kind": "Service", "name": service}], **draw(policies)}
        else:
            parent = {"group": "", "kind": "Service", "name": service}
            api = "gateway.networking.k8s.io/v1"
            spec = {"parentRefs": [parent], "rules": draw(lists(rules[kind], 4))}
        metadata = {"name": f"d{number}", "namespace": "shop"}
        found.append({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec})
    return found


SEEN: dict[str, str] = {}
"""What Envoy said of a configuration that it was asked about before."""


@pytest.mark.timeout(1800)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(documents_of())
def test_envoy_accepts_what_was_accepted(tmp_path: Path, written: list[dict[str, Any]]) -> None:
    parsed = parse("\n---\n".join([SHOP, *map(json.dumps, written)]), "mesh.yaml", "/")
    event(f"accepted {len(parsed.documents) - 4} of {len(written)}")
    mesh = Documents.of(one.resource for one in parsed.documents)
    schemas = {("shop", "stock", "v1"): Schema.of(METHODS)}

    config = json.dumps(
        inlined(resources_for(a_view(mesh, "web", schemas)), instance_resources(an_instance(mesh, "web")))
    )
    if config not in SEEN:
        SEEN[config] = asked(tmp_path, config)

    assert SEEN[config] == ""


def asked(folder: Path, config: str) -> str:
    """What Envoy says against the configuration."""
    (folder / "config.json").write_text(config)
    command = [str(find().path), "--mode", "validate", "-c", "config.json", "--disable-hot-restart", "-l", "error"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stderr[-1000:] if done.returncode else ""

"""HTTPRoute by what a real Envoy does with requests."""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from tests.builders import a_policy, a_workload, an_http_route
from tests.envoy.routed import cluster, running

pytestmark = pytest.mark.envoy

PORTS = "ports: [{port: 80, appProtocol: http}]"
SHOP = (
    a_workload("web", "upstreams: [{service: site}]"),
    a_workload("site", PORTS),
    a_workload("site-v2", f"service: site, version: v2, {PORTS}"),
)
ALL, V2 = cluster("site", port=80), cluster("site", "v2", port=80)
TO_ALL, TO_V2 = "backendRefs: [{name: site, port: 80}]", "backendRefs: [{name: site-v2, port: 80}]"


@dataclass
class Site:
    """Answers with what it got. `/fail` answers 503, and `/slow` when the test is over."""

    name: str
    paths: list[str] = field(default_factory=list)
    over: Event = field(default_factory=Event)

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        self.paths.append(path)
        if path.startswith("/slow"):
            self.over.wait(10)
        body = json.dumps({"name": self.name, "path": path, "headers": headers})
        return 503 if path.startswith("/fail") else 200, body.encode()

    @contextmanager
    def serving(self) -> Iterator[int]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, body = site.answer(self.path, {key.lower(): value for key, value in self.headers.items()})
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                with suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            self.over.set()
            server.shutdown()
            server.server_close()
            thread.join()


@dataclass
class Caller:
    port: int

    async def get(self, path: str, **headers: str) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Status, the answer as JSON, and its headers."""
        return await asyncio.to_thread(
            self._get, path, {key.replace("_", "-"): value for key, value in headers.items()}
        )

    def _get(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, Any], dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers={"host": "site", **headers})
            response = connection.getresponse()
            body = response.read()
            return response.status, json.loads(body) if body else {}, {k.lower(): v for k, v in response.getheaders()}
        finally:
            connection.close()


@asynccontextmanager
async def site(folder: Path, *texts: str) -> AsyncIterator[tuple[Caller, dict[str, Site]]]:
    """A caller of `site` in a shop with these documents besides, and its two versions by cluster."""
    sites = {ALL: Site("all"), V2: Site("v2")}
    with ExitStack() as stack:
        ports = {name: stack.enter_context(one.serving()) for name, one in sites.items()}
        async with running(folder, [*SHOP, *texts], "site", ports) as port:
            yield Caller(port), sites


def route(rules: str) -> str:
    return an_http_route("r", rules, "site")


async def test_requests_go_by_path_method_header_and_query(tmp_path: Path) -> None:
    rules = (
        f"{{matches: [{{path: {{type: Exact, value: /a}}}}, {{path: {{value: /b/}}}},"
        f"{{path: {{type: RegularExpression, value: '/[0-9]+'}}}}, {{headers: [{{name: X-V, value: '2'}}]}},"
        f"{{queryParams: [{{name: v, value: '2'}}]}}, {{path: {{value: /m}}, method: POST}}], {TO_V2}}},"
        f"{{matches: [{{path: {{value: /c}}}}, {{path: {{value: /m}}}}], {TO_ALL}}}"
    )
    async with site(tmp_path, route(rules)) as (caller, _):
        paths = ["/a", "/b", "/b/x", "/12", "/c?v=2", "/c/x", "/m", "/none?v=2", "/a?x", "/bx", "/a/", "/none"]
        found = [(await caller.get(path))[:2] for path in paths]
        by_header = await caller.get("/none", x_v="2")

    names = [answer.get("name", status) for status, answer in found]
    assert names == ["v2", "v2", "v2", "v2", "all", "all", "all", "v2", "v2", 404, 404, 404]
    assert by_header[1]["name"] == "v2"
    assert found[-1][1]["message"] == "no rule of the routes of site fits this call"


async def test_paths_and_hosts_are_rewritten(tmp_path: Path) -> None:
    def rewrite(prefix: str, change: str) -> str:
        filters = f"filters: [{{type: URLRewrite, urlRewrite: {{{change}}}}}]"
        return f"{{matches: [{{path: {{value: {prefix}}}}}], {filters}, {TO_ALL}}}"

    def path(new: str) -> str:
        return f"path: {{type: ReplacePrefixMatch, replacePrefixMatch: '{new}'}}"

    rules = ", ".join([
        rewrite("/foo", path("/xyz")), rewrite("/bar", path("")), rewrite("/baz", path("/")),
        rewrite("/full", "hostname: b.test, path: {type: ReplaceFullPath, replaceFullPath: /one}"),
    ])  # fmt: skip
    async with site(tmp_path, route(rules)) as (caller, _):
        asked = ["/foo/bar", "/foo", "/foo/", "/bar/a", "/bar/", "/bar", "/baz/a?q=1", "/baz", "/full/x?q=1"]
        answers = [(await caller.get(path))[1] for path in asked]

    assert [answer["path"] for answer in answers] == [
        "/xyz/bar", "/xyz", "/xyz/", "/a", "/", "/", "/a?q=1", "/", "/one?q=1"
    ]  # fmt: skip
    assert answers[-1]["headers"]["host"] == "b.test"


@pytest.mark.parametrize(
    ("redirect", "status", "location"),
    [
        ("{}", 302, "http://site/old/x?q=1"),
        ("{scheme: https}", 302, "https://site/old/x?q=1"),
        ("{scheme: http}", 302, "http://site/old/x?q=1"),
        ("{scheme: https, hostname: b.test}", 302, "https://b.test/old/x?q=1"),
        ("{scheme: https, port: 8443, hostname: b.test, statusCode: 301}", 301, "https://b.test:8443/old/x?q=1"),
        ("{path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}, statusCode: 308}", 308, "http://site/new/x?q=1"),
        ("{path: {type: ReplacePrefixMatch, replacePrefixMatch: /}, statusCode: 307}", 307, "http://site/x?q=1"),
        ("{path: {type: ReplaceFullPath, replaceFullPath: /one}, statusCode: 303}", 303, "http://site/one?q=1"),
    ],
)
async def test_callers_are_sent_elsewhere(redirect: str, status: int, location: str, tmp_path: Path) -> None:
    rule = (
        f"{{matches: [{{path: {{value: /old}}}}], filters: [{{type: RequestRedirect, requestRedirect: {redirect}}}]}}"
    )
    async with site(tmp_path, route(rule)) as (caller, _):
        answer = await caller.get("/old/x?q=1")
        with_port = await caller.get("/old/x?q=1", host="site:80")

    assert (answer[0], answer[2]["location"]) == (status, location)
    port = 443 if "https" in redirect else 80
    assert with_port[2]["location"] == location.replace("//site", f"//site:{port}")


async def test_a_backend_that_is_not_there_is_500_for_its_share_and_one_without_endpoints_503(tmp_path: Path) -> None:
    rules = (
        "{matches: [{path: {value: /gone}}], backendRefs: [{name: gone, port: 80}]},"
        "{matches: [{path: {value: /half}}], backendRefs: [{name: site, port: 80}, {name: gone, port: 80}]},"
        "{matches: [{path: {value: /empty}}], backendRefs: [{name: empty, port: 80}]}"
    )
    async with site(tmp_path, a_workload("empty", PORTS), route(rules)) as (caller, _):
        gone, empty = await caller.get("/gone"), await caller.get("/empty")
        half = {(await caller.get("/half"))[0] for _ in range(50)}

    assert (gone[0], gone[1]["message"]) == (500, "HTTPRoute shop/r has no backend here that could answer")
    assert (empty[0], half) == (503, {200, 500})


async def test_rules_limit_and_retry(tmp_path: Path) -> None:
    rules = (
        f"{{matches: [{{path: {{value: /slow}}}}], timeouts: {{request: 300ms}}, {TO_ALL}}},"
        f"{{matches: [{{path: {{value: /slow/try}}}}], timeouts: {{backendRequest: 200ms}}, {TO_ALL}}},"
        f"{{matches: [{{path: {{value: /fail}}}}], retry: {{codes: [503], attempts: 2, backoff: 1ms}}, {TO_ALL}}},"
        f"{{matches: [{{path: {{value: /fail/once}}}}], {TO_ALL}}}"
    )
    async with site(tmp_path, route(rules)) as (caller, sites):
        slow, per_try = await caller.get("/slow"), await caller.get("/slow/try")
        failed, once = await caller.get("/fail"), await caller.get("/fail/once")
        paths = sites[ALL].paths

    assert (slow[0], per_try[0], failed[0], once[0]) == (504, 504, 503, 503)
    assert (paths.count("/fail"), paths.count("/fail/once")) == (3, 1)


async def test_requests_of_one_user_stay_together(tmp_path: Path) -> None:
    """With one endpoint each there is nothing to choose, but a cookie is given to who has none."""
    cookie = "loadBalancer: {type: ConsistentHash, consistentHash: {type: Cookie, cookie: {name: user, ttl: 60s}}}"
    policy = a_policy("p", f"{{targetRefs: [{{kind: Service, name: site}}], {cookie}}}")
    async with site(tmp_path, policy) as (caller, _):
        given, known = await caller.get("/"), await caller.get("/", cookie="user=1")

    assert given[2]["set-cookie"].startswith('user="')
    assert "set-cookie" not in known[2]

"""A shop of unmodified services in several languages, behind sidecars from mesh files alone (`tests/mesh/shop`)."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.mesh.running import RunningMesh, admin, alive, eventually, start, wait_until_ready
from tests.ports import free_port

pytestmark = pytest.mark.envoy

SHOP = Path(__file__).with_name("shop")
PROGRAMS = {"node.yaml": "node", "java.yaml": "javac", "go.yaml": "go", "redis.yaml": "redis-server"}
"""What a file needs. `java` alone may come without the compiler that `java Server.java` uses."""

FIXED_PORT = "16379"
"""In `redis.yaml`; a free one takes its place."""

SILENCE = 16
"""Seconds. Envoy's own default ends every HTTP request after 15."""


@dataclass(frozen=True)
class Quiet:
    """Calls that were begun when the mesh was ready, in which nothing was said since."""

    since: float
    stream: http.client.HTTPResponse
    upgraded: socket.socket
    raw: socket.socket


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """All of the shop that this machine has programs for. In the end it has to leave nothing."""
    folder = tmp_path_factory.mktemp("polyglot") / "shop"
    shutil.copytree(SHOP, folder)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    redis = folder / "redis.yaml"
    redis.write_text(redis.read_text().replace(FIXED_PORT, str(free_port())))
    files = [folder / name for name, program in PROGRAMS.items() if shutil.which(program)]
    mesh = start(folder.with_name("state"), folder / "mesh.yaml", *files)
    try:
        wait_until_ready(mesh)
        yield mesh
    finally:
        mesh.remember()
        mesh.end()


@pytest.fixture(scope="module", autouse=True)
def quiet(shop: RunningMesh) -> Iterator[Quiet]:
    """Begun before the first test, so that the silence has passed when the last one looks."""
    http_address, raw_address = upstream(shop, "web"), upstream(shop, "web:82")
    asking = http.client.HTTPConnection(http_address, timeout=30)
    asking.request("GET", f"/stream/{SILENCE}")
    with connect(http_address) as upgraded, connect(raw_address) as raw:
        upgraded.sendall(
            b"GET /socket HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        yield Quiet(time.monotonic(), asking.getresponse(), upgraded, raw)
    asking.close()


def upstream(mesh: RunningMesh, key: str) -> str:
    return mesh.upstream("caller", key)


def outbound(mesh: RunningMesh) -> str:
    """The one port of a workload that declares no upstreams."""
    address: str = mesh.instance("talker")["envoy"]["outbound"]
    return address


def connect(address: str) -> socket.socket:
    host, _, port = address.partition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def get(address: str, path: str = "/who", *, host: str = "", post: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of one HTTP/1.1 request."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET" if post is None else "POST", path, body=post, headers={"host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def who(address: str, path: str = "/who", *, host: str = "") -> dict[str, object]:
    status, body = get(address, path, host=host)
    assert status == 200, body
    answer: dict[str, object] = json.loads(body)
    return answer


def talk(address: str, said: bytes) -> bytes:
    """What the other end of a TCP connection answers first."""
    with connect(address) as connection:
        connection.sendall(said)
        return connection.recv(1000)


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@pytest.mark.parametrize(
    ("service", "language"),
    [
        pytest.param("prices", "node", marks=needs("node"), id="node, below a shell"),
        pytest.param("quotes", "java", marks=needs("javac"), id="java"),
    ],
)
def test_a_web_server_in_any_language_is_called_by_name(shop: RunningMesh, service: str, language: str) -> None:
    before = requests_at(shop, service)

    assert get(outbound(shop), "/a?b=c", host=service) == (200, f"{language} /a?b=c".encode())
    assert requests_at(shop, service) == before + 1, "it went through the sidecar of the service"


def requests_at(mesh: RunningMesh, workload: str) -> int:
    """How many requests the sidecar of a workload has passed to its service."""
    stats = admin(mesh.instance(workload), "/stats?format=json&filter=^cluster.app/80.upstream_rq_total$")["stats"]
    return sum(stat["value"] for stat in stats)


@needs("go")
def test_a_tcp_service_in_go_that_its_own_toolchain_starts(shop: RunningMesh) -> None:
    assert talk(upstream(shop, "echo"), b"hello") == b"hello"


@needs("redis-server")
@pytest.mark.parametrize("service", ["cache", "sessions"])
def test_a_database_with_a_given_port_and_one_with_its_own(shop: RunningMesh, service: str) -> None:
    assert talk(upstream(shop, service), b"SET a b\r\n") == b"+OK\r\n"
    assert talk(upstream(shop, service), b"GET a\r\n") == b"$1\r\nb\r\n"


def test_a_service_runs_in_its_own_virtual_environment(shop: RunningMesh) -> None:
    assert str(who(upstream(shop, "web"))["prefix"]).endswith("shop/.venv")


def test_calls_are_spread_over_instances_and_versions(shop: RunningMesh) -> None:
    seen: Counter[tuple[object, object]] = Counter()

    def is_even() -> bool:
        """On a busy machine an instance may miss its health checks for a moment."""
        seen.clear()
        seen.update((answer["name"], answer["pid"]) for answer in (who(upstream(shop, "web")) for _ in range(60)))
        return len(seen) == 3 and min(seen.values()) > 5

    eventually(is_even, otherwise=lambda: str(seen))
    assert sorted(str(name) for name, _ in seen) == ["web-v1", "web-v1", "web-v2"]


def test_one_connection_reaches_every_instance(shop: RunningMesh) -> None:
    """Balanced by request: a caller that keeps its connection does not stay with one callee."""
    connection = http.client.HTTPConnection(upstream(shop, "web"), timeout=10)
    seen = set()
    for _ in range(30):
        connection.request("GET", "/who")
        seen.add(connection.getresponse().read())
    connection.close()

    assert len(seen) == 3


def test_every_port_of_a_workload_has_its_own_upstream(shop: RunningMesh) -> None:
    assert who(upstream(shop, "web"))["port"] != who(upstream(shop, "web:81"))["port"]
    assert talk(upstream(shop, "web:82"), b"hello") == b"HELLO"


@pytest.mark.parametrize("host", ["web", "web:80", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local:80"])
def test_http_is_routed_by_the_host_header(shop: RunningMesh, host: str) -> None:
    assert str(who(outbound(shop), host=host)["name"]).startswith("web-v")


def test_the_outbound_port_serves_as_http_proxy(shop: RunningMesh) -> None:
    """With `http_proxy` in its environment an unmodified program calls `http://web/`."""
    environment = psutil.Process(shop.instance("talker")["pid"]).environ()

    assert environment["http_proxy"] == f"http://{outbound(shop)}"
    assert str(who(outbound(shop), "http://web/who", host="web")["name"]).startswith("web-v")


def test_a_caller_may_be_older_than_http_1_1(shop: RunningMesh) -> None:
    assert talk(upstream(shop, "web"), b"GET / HTTP/1.0\r\nhost: web\r\n\r\n").startswith(b"HTTP/1.0 200 OK\r\n")


@pytest.mark.parametrize("host", ["nonesuch", "web:99", "accounts", "accounts.users"])
def test_a_host_that_the_workload_may_not_name_is_not_found(shop: RunningMesh, host: str) -> None:
    status, body = get(outbound(shop), host=host)

    assert (status, json.loads(body)["details"]) == (404, "direct_response")
    assert "no service of this name can be called from here" in json.loads(body)["message"]


def test_a_service_of_another_namespace_is_a_declared_upstream(shop: RunningMesh) -> None:
    assert who(upstream(shop, "accounts.users"))["name"] == "accounts"
    assert shop.instance("accounts")["identity"] == "spiffe://proa.local/ns/users/sa/bookkeeper"


def test_an_inbound_port_refuses_whoever_has_no_certificate(shop: RunningMesh) -> None:
    inbound = shop.instance("accounts")["envoy"]["inbound"]

    with pytest.raises((ConnectionError, http.client.HTTPException)):
        get(inbound)


def test_a_worker_without_ports_calls_others(shop: RunningMesh) -> None:
    answers = shop.state.folder / "workloads" / "shop.worker" / "answers"

    eventually(lambda: answers.exists() and len(answers.read_text().splitlines()) > 3)
    assert shop.instance("worker")["address"] is None


def test_large_bodies_pass_both_ways(shop: RunningMesh) -> None:
    body = os.urandom(3 * 1024 * 1024)

    assert get(upstream(shop, "web"), "/", post=body) == (200, body)


def test_what_a_service_prints_is_kept(shop: RunningMesh) -> None:
    done = shop.proa("logs", "talker", "--tail", "2")

    assert done.stdout == "99999\n100000\n"


def test_a_service_that_ends_is_started_again(shop: RunningMesh) -> None:
    address = upstream(shop, "accounts.users")
    before = who(address)["pid"]

    assert get(address, "/quit")[0] == 503
    assert eventually_another(address, before) != before


def test_what_a_shell_started_ends_with_the_shell(shop: RunningMesh) -> None:
    address = upstream(shop, "accounts.users")
    server = psutil.Process(int(str(who(address)["pid"])))
    shell = psutil.Process(shop.instance("accounts")["pid"])
    assert server.parent() == shell

    shell.kill()
    eventually(lambda: not alive(server))
    assert eventually_another(address, server.pid) != server.pid


def eventually_another(address: str, before: object) -> object:
    """The process that answers there once it is not `before`. Meanwhile it is the sidecar that says no, at once."""

    def another() -> object:
        status, body = get(address)
        assert status in (200, 503)
        pid = json.loads(body)["pid"] if status == 200 else None
        return pid if pid != before else None

    return eventually(another)


def test_silence_ends_no_call(quiet: Quiet) -> None:
    """A response that takes its time, a WebSocket, a TCP connection."""
    assert b"".join(iter(quiet.stream.readline, b"")) == b"begun\nended\n"
    assert time.monotonic() - quiet.since > SILENCE - 1

    assert b" 101 " in quiet.upgraded.recv(1000).splitlines()[0]
    for connection, answer in ((quiet.upgraded, b"hello"), (quiet.raw, b"HELLO")):
        connection.sendall(b"hello")
        assert connection.recv(1000) == answer

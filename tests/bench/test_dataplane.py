"""The benchmark runs seldom, so what it measures is started here once: both pairs, and calls go through them."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.bench.pairs import Pair, minimal_pair, own_pair
from tests.bench.rig import RULERS, load_ruler
from tests.bench.routed import path_of, translating, view_of

pytestmark = pytest.mark.envoy

METHODS = 30


class Echo(grpc.GenericRpcHandler):
    """Answers every method with what it got."""

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda request, _: request)


@pytest.fixture
def application() -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(1), handlers=[Echo()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


def test_calls_of_the_routed_methods_go_through_the_pair_and_nothing_is_left(tmp_path: Path, application: int) -> None:
    with own_pair(tmp_path, application, METHODS, METHODS // 3) as own:
        assert call(own, path_of(METHODS - 1)) == call(own, path_of(0)) == b"echo"
        with pytest.raises(grpc.RpcError, match="no rule of the routes of orders fits"):
            call(own, path_of(METHODS))

    assert not any(map(is_running, own.pids.values()))


@pytest.mark.skipif(not (RULERS / "minimal_pair.py").exists(), reason="needs the rulers (RULERS=<folder>)")
def test_calls_go_through_the_small_pair_with_the_same_certificates(tmp_path: Path, application: int) -> None:
    with (
        own_pair(tmp_path, application, METHODS, METHODS // 3) as own,
        minimal_pair(load_ruler("minimal_pair"), own, application) as minimal,
    ):
        assert call(minimal, path_of(METHODS)) == b"echo"

    assert not any(map(is_running, (*own.pids.values(), *minimal.pids.values())))


def test_the_view_that_is_timed_is_one() -> None:
    assert translating(view_of(3, 10)) > 0


def call(pair: Pair, path: str) -> Any:
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{pair.port}", options=options) as channel:
        method: Any = channel.unary_unary(path)
        return method(b"echo", timeout=10)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

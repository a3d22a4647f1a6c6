"""How an agent starts its Envoy and its service, and what it says about them. Real Envoys."""

import json
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mesh.agent.ports import RANGE

pytestmark = pytest.mark.envoy

Eventually = Callable[[Callable[[], object]], Awaitable[None]]

SHOW_ENVIRONMENT = """
import json, os, sys, time
print(json.dumps({"argv": sys.argv[1:], "cwd": os.getcwd(), **os.environ}), flush=True)
time.sleep(600)
"""


async def test_an_instance_comes_up_and_says_where_it_is(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    agent = await start_agent("python", "-m", "http.server", "--bind", "${host}", "${port}", health="http")

    await eventually(lambda: control_plane.report.healthy)

    report = control_plane.report
    assert (report.agent_pid, report.envoy_version, report.envoy_ready) == (agent.process.pid, "1.40.0", True)
    assert (report.reason, report.service_restarts, report.envoy_restarts) == ("", 0, 0)
    assert report.pid
    assert report.envoy_pid
    hello = control_plane.hellos[0]
    assert (hello.namespace, hello.workload, hello.instance, hello.generation) == ("shop", "orders", "orders-0", "g1")
    addresses = [hello.addresses.inbound[50051], hello.addresses.app[50051], hello.addresses.outbound]
    assert all(address.startswith("127.0.0.1:") for address in addresses)
    assert len({*addresses} & {f"127.0.0.1:{port}" for port in RANGE}) == 3

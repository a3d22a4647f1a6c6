"""How an agent starts its Envoy and its service, and what it says about them. Real Envoys."""

import json
import socket
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mesh.agent.ports import RANGE, holder
from mesh.api.proa.v1 import agents_pb2
from tests.ports import free_port

pytestmark = pytest.mark.envoy

Eventually = Callable[[Callable[[], object]], Awaitable[None]]

HTTP_SERVER = ("python", "-m", "http.server", "--bind", "${host}", "${port}")

SHOW_ENVIRONMENT = """
import json, os, sys, time
print(json.dumps({"arguments": sys.argv[1:], "folder": os.getcwd(), **os.environ}), flush=True)
time.sleep(600)
"""


async def test_an_instance_comes_up_and_says_what_runs_where(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    agent = await start_agent(*HTTP_SERVER, health="http")

    await eventually(lambda: control_plane.report.healthy)

    report = control_plane.report
    assert report.agent_pid == agent.process.pid
    assert report.pid
    assert report.envoy_pid
    assert (report.reason, report.service_restarts, report.envoy_restarts) == ("", 0, 0)
    assert (report.envoy_version, report.envoy_ready, list(report.exposed)) == ("1.40.0", True, [])
    hello = control_plane.hellos[0]
    assert (hello.namespace, hello.workload, hello.instance, hello.generation) == ("shop", "orders", "orders-0", "g1")
    at = hello.addresses
    ours = {f"127.0.0.1:{port}" for port in RANGE}
    assert len({at.inbound[50051], at.app[50051], at.outbound} & ours) == 3


async def test_the_service_starts_only_when_its_envoy_listens(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    agent = await start_agent("sleep", "600")

    await eventually(lambda: control_plane.report.healthy)

    reports = control_plane.reports
    assert reports[0].reason == "its Envoy has not started yet"
    assert not any(report.pid or report.healthy for report in reports if not report.envoy_ready)
    log = agent.logged
    assert (
        log.index("attached") < log.index("envoy_started") < log.index("envoy_listens") < log.index("service_started")
    )


async def test_the_service_gets_what_it_was_promised(
    control_plane: Any, start_agent: Any, eventually: Eventually, tmp_path: Path
) -> None:
    agent = await start_agent(
        *("python", "-c", SHOW_ENVIRONMENT, "${port}", "${port.admin-ui}", "${upstreams.stock}", "$${HOME}"),
        ports=[
            agents_pb2.PlannedPort(name="main", number=50051, protocol=agents_pb2.APP_PROTOCOL_GRPC),
            agents_pb2.PlannedPort(name="admin-ui", number=80, protocol=agents_pb2.APP_PROTOCOL_HTTP),
        ],
        upstreams=[agents_pb2.PlannedUpstream(key="stock", env="STOCK_ADDR")],
        env={"DATABASE": "${state}/orders.db", "PYTHON": "${python}", "HOST": "localhost"},
    )

    await eventually(lambda: agent.service_output)

    seen = json.loads(agent.service_output)
    at = control_plane.hellos[0].addresses
    main, ui = (at.app[number].rpartition(":")[2] for number in (50051, 80))
    assert seen["arguments"] == [main, ui, at.upstreams["stock"], "${HOME}"]
    assert (seen["PORT"], seen["PORT_MAIN"], seen["PORT_ADMIN_UI"]) == (main, main, ui)
    assert seen["STOCK_ADDR"] == at.upstreams["stock"]
    assert seen["HOST"] == "localhost", "the document wins"
    assert seen["DATABASE"] == str(tmp_path / "state" / "workloads" / "shop.orders" / "orders.db")
    assert seen["PYTHON"] == sys.executable
    assert seen["folder"] == str(tmp_path)


async def test_what_the_agent_keeps_is_for_its_owner_alone(
    control_plane: Any, start_agent: Any, eventually: Eventually, tmp_path: Path
) -> None:
    await start_agent("sleep", "600")
    await eventually(lambda: control_plane.report.healthy)

    state = tmp_path / "state"
    folders = [state / "instances" / "shop.orders-0", state / "workloads" / "shop.orders", state / "logs"]
    kept = [path for folder in folders for path in folder.rglob("*") if not path.is_symlink()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (*folders, *kept) if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept if path.is_file()} == {0o600}
    assert stat.S_IMODE(Path(control_plane.hellos[0].addresses.admin).stat().st_mode) == 0o600


async def test_a_service_that_never_passes_its_check_was_never_healthy(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    """It listens where it wants; the reason says where it should."""
    port = free_port()
    await start_agent("python", "-m", "http.server", "--bind", "127.0.0.1", str(port), health="tcp")

    await eventually(lambda: "It listens on" in control_plane.report.reason)

    app = control_plane.hellos[0].addresses.app[50051]
    assert control_plane.report.reason == (
        f"mesh.yaml:3: nothing listens at {app}. "
        f"It listens on 127.0.0.1:{port}: let it listen on {app} ($HOST:$PORT), or write `targetPort: {port}`"
    )
    assert not any(report.healthy for report in control_plane.reports)


@pytest.mark.parametrize(
    ("command", "plan", "reason"),
    [
        pytest.param(
            ["no-such-command"],
            {},
            "mesh.yaml:3: there is no command `no-such-command` on the PATH. Install it, or correct `command:`",
            id="no such command",
        ),
        pytest.param(
            ["sleep", "600"],
            {"working_directory": "/no/such/folder"},
            "mesh.yaml:3: there is no folder /no/such/folder. "
            "Make it, or change `workingDirectory:`, which is relative to the file",
            id="no such folder",
        ),
        pytest.param(
            ["sleep", "${prot}"],
            {},
            "mesh.yaml:3: ${prot} is not known to this workload. Did you mean ${port}? There are ${host}, ${outbound}, "
            "${port}, ${port.main}, ${python}, ${state}; write $${prot} for the plain text",
            id="no such variable",
        ),
    ],
)
async def test_a_start_that_cannot_work_is_explained(
    control_plane: Any, start_agent: Any, eventually: Eventually, command: list[str], plan: Any, reason: str
) -> None:
    await start_agent(*command, **plan)

    await eventually(lambda: control_plane.report.envoy_ready and control_plane.report.reason == reason)


async def test_a_service_that_exits_at_once_is_explained_by_its_last_words(
    control_plane: Any, start_agent: Any, eventually: Eventually, tmp_path: Path
) -> None:
    await start_agent("sh", "-c", "echo no such table: orders >&2; exit 3", health="tcp")

    await eventually(lambda: control_plane.report.service_restarts >= 2)

    output = tmp_path / "state" / "logs" / "shop.orders-0.log"
    after = [report.reason for report in control_plane.reports if report.service_restarts and not report.pid]
    assert after[0].startswith("mesh.yaml:3: the service exited with code 3 after 0.")
    assert after[0].endswith(f" s: no such table: orders. Its output is in {output}")
    assert not any(report.healthy for report in control_plane.reports)


async def test_a_service_that_goes_to_the_background_is_told_to_stay(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    await start_agent("true", health="tcp")

    await eventually(lambda: "code 0" in control_plane.report.reason)
    assert ". A service stays in the foreground until it gets SIGTERM. Its output is in" in control_plane.report.reason


async def test_a_fixed_port_that_is_taken_is_explained_and_tried_again(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        await start_agent(
            *HTTP_SERVER,
            health="http",
            ports=[
                agents_pb2.PlannedPort(name="main", number=80, protocol=agents_pb2.APP_PROTOCOL_HTTP, target_port=port)
            ],
        )
        await eventually(lambda: "targetPort" in control_plane.report.reason)
        assert f"`targetPort: {port}` is in use by {holder(port)}" in control_plane.report.reason

    await eventually(lambda: control_plane.report.healthy)


async def test_a_service_that_somebody_else_starts_is_only_checked(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    with socket.create_server(("0.0.0.0", 0)) as debugged:
        port = debugged.getsockname()[1]
        ports = [agents_pb2.PlannedPort(name="main", number=80, protocol=agents_pb2.APP_PROTOCOL_TCP, target_port=port)]
        await start_agent(health="tcp", ports=ports)

        await eventually(lambda: control_plane.report.healthy and control_plane.report.exposed)
        assert (control_plane.report.pid, list(control_plane.report.exposed)) == (0, [f"0.0.0.0:{port}"])

    await eventually(lambda: not control_plane.report.healthy)
    assert control_plane.report.reason == (
        f"mesh.yaml:3: nothing listens at 127.0.0.1:{port}. "
        "Look at it where it was started: without `command:` that is not here"
    )


async def test_a_service_that_others_may_reach_is_reported(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    """Also when it is a child of the command, as with `npm start`."""
    await start_agent("sh", "-c", "python -m http.server --bind 0.0.0.0 $PORT & wait", health="tcp")

    await eventually(lambda: control_plane.report.exposed)

    port = control_plane.hellos[0].addresses.app[50051].rpartition(":")[2]
    assert list(control_plane.report.exposed) == [f"0.0.0.0:{port}"]


async def test_a_taken_port_is_replaced_at_the_next_start(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    agent = await start_agent("sleep", "600")
    await eventually(lambda: control_plane.report.healthy)
    before = control_plane.hellos[-1].addresses
    agent.process.kill()
    await agent.process.wait()

    await eventually(lambda: holder(int(before.inbound[50051].rpartition(":")[2])) == "")
    with socket.create_server(("127.0.0.1", int(before.app[50051].rpartition(":")[2]))):
        agent = await start_agent("sleep", "600")
        await eventually(lambda: len(control_plane.hellos) == 2)

    after = control_plane.hellos[-1].addresses
    assert after.app[50051] != before.app[50051]
    assert (after.inbound[50051], after.outbound) == (before.inbound[50051], before.outbound)
    assert "port_changed name=app/50051" in agent.logged


async def test_an_instance_has_one_agent(control_plane: Any, start_agent: Any, eventually: Eventually) -> None:
    await start_agent("sleep", "600")
    await eventually(lambda: control_plane.report.healthy)

    second = await start_agent("sleep", "600")

    assert await second.process.wait() == 1
    assert "error: shop/orders/orders-0: another agent runs this instance." in second.logged
    assert control_plane.report.healthy


async def test_a_port_that_is_stolen_before_envoy_listens_makes_the_agent_start_again_with_another(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    thieves: list[socket.socket] = []
    control_plane.on_hello = lambda hello: thieves.append(
        socket.create_server(("127.0.0.1", int(hello.addresses.inbound[50051].rpartition(":")[2])))
    )

    agent = await start_agent("sleep", "600")

    assert await agent.process.wait() == 1
    for thief in thieves:
        thief.close()
    assert "took this port before Envoy could listen on it" in agent.logged
    assert "Traceback" not in agent.logged

"""How an instance leaves: callers first, then the service, then its Envoy. Real Envoys."""

import asyncio
import signal
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

pytestmark = pytest.mark.envoy

Eventually = Callable[[Callable[[], object]], Awaitable[None]]
Running = Callable[[int], bool]

ECHO = """
import asyncio, os, signal
async def talk(reader, writer):
    while data := await reader.read(100):
        writer.write(data)
    writer.close()
async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    async with await asyncio.start_server(talk, os.environ["HOST"], os.environ["PORT"]):
        await end.wait()
        print("asked to end", flush=True)
end = asyncio.Event()
asyncio.run(main())
"""


class Caller:
    """A caller's connection through the sidecar's inbound port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def of(cls, control_plane: Any) -> "Caller":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        host, _, port = control_plane.hellos[-1].addresses.inbound[50051].rpartition(":")
        caller = cls(*await asyncio.open_connection(host, int(port), ssl=context))
        assert await caller.call() == b"hello"
        return caller

    async def call(self) -> bytes:
        self.writer.write(b"hello")
        return await self.reader.read(100)

    async def leave(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def test_sigterm_tells_the_control_plane_first_then_waits_for_callers_then_ends_the_service_and_envoy(
    control_plane: Any, start_agent: Any, eventually: Eventually, running: Running
) -> None:
    agent = await start_agent("python", "-c", ECHO, health="tcp", drain=Duration(seconds=20))
    await eventually(lambda: control_plane.report.healthy)
    service, envoy = control_plane.report.pid, control_plane.report.envoy_pid
    caller = await Caller.of(control_plane)
    control_plane.may_answer_drain.clear()

    agent.process.terminate()
    await eventually(lambda: "drain" in control_plane.events)
    assert await caller.call() == b"hello"
    control_plane.may_answer_drain.set()
    await eventually(lambda: "drained" in agent.logged)
    assert await caller.call() == b"hello", "nobody is cut off who was not told yet"
    assert agent.service_output == ""
    await caller.leave()

    assert await agent.process.wait() == 0
    assert agent.service_output == "asked to end\n"
    assert not running(service)
    assert not running(envoy)
    assert not Path(control_plane.hellos[0].addresses.admin).exists()
    assert "how=leaves" in agent.logged


async def test_sigusr1_keeps_the_endpoint_and_waits_for_callers_to_leave_by_themselves(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    agent = await start_agent("python", "-c", ECHO, health="tcp", drain=Duration(seconds=20))
    await eventually(lambda: control_plane.report.healthy)
    caller = await Caller.of(control_plane)

    agent.process.send_signal(signal.SIGUSR1)
    await eventually(lambda: "how=mesh_ends" in agent.logged)
    assert await caller.call() == b"hello"
    assert agent.service_output == ""
    await caller.leave()

    assert await agent.process.wait() == 0
    assert agent.service_output == "asked to end\n"
    assert "drain" not in control_plane.events


async def test_an_instance_that_nobody_calls_ends_at_once(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    agent = await start_agent("python", "-c", ECHO, health="tcp", drain=Duration(seconds=20))
    await eventually(lambda: control_plane.report.healthy)
    started = time.monotonic()

    agent.process.send_signal(signal.SIGUSR1)

    assert await agent.process.wait() == 0
    assert time.monotonic() - started < 10


async def test_callers_that_do_not_leave_are_waited_for_no_longer_than_drain(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    agent = await start_agent("python", "-c", ECHO, health="tcp", drain=Duration(seconds=1))
    await eventually(lambda: control_plane.report.healthy)
    caller = await Caller.of(control_plane)

    agent.process.send_signal(signal.SIGUSR1)

    assert await agent.process.wait() == 0
    assert "drain_timed_out after=1s" in agent.logged
    await caller.leave()


async def test_a_control_plane_that_is_away_is_waited_for_no_longer_than_drain(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    agent = await start_agent("python", "-c", ECHO, health="tcp", drain=Duration(seconds=1))
    await eventually(lambda: control_plane.report.healthy)
    await control_plane.stop()

    agent.process.terminate()

    assert await agent.process.wait() == 0
    assert "drain_timed_out after=1s" in agent.logged
    await control_plane.start()


async def test_a_service_that_ignores_sigterm_is_killed_after_grace(
    control_plane: Any, start_agent: Any, eventually: Eventually, running: Running
) -> None:
    stubborn = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    agent = await start_agent("sh", "-c", stubborn, grace=Duration(nanos=300_000_000))
    await eventually(lambda: agent.service_output)
    service = control_plane.report.pid

    agent.process.terminate()

    assert await agent.process.wait() == 0
    assert f"service_stopped pid={service} status=-9" in agent.logged


async def test_a_second_signal_kills(
    control_plane: Any, start_agent: Any, eventually: Eventually, running: Running
) -> None:
    agent = await start_agent("python", "-c", ECHO, health="tcp", drain=Duration(seconds=20))
    await eventually(lambda: control_plane.report.healthy)
    family = [control_plane.report.pid, control_plane.report.envoy_pid]
    caller = await Caller.of(control_plane)

    agent.process.terminate()
    await eventually(lambda: "departing" in agent.logged)
    agent.process.terminate()

    assert await agent.process.wait() == 130
    await eventually(lambda: not any(map(running, family)))
    assert agent.service_output == ""
    caller.writer.transport.abort()


async def test_an_instance_can_leave_before_it_is_up(
    control_plane: Any, start_agent: Any, eventually: Eventually
) -> None:
    agent = await start_agent("no-such-command")
    await eventually(lambda: control_plane.report.envoy_ready)

    agent.process.terminate()

    assert await agent.process.wait() == 0

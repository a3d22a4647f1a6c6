"""What somebody sends is read when it is known who that is, and of a workload no more than it has to say."""

import asyncio
import gc
import tracemalloc
from contextlib import suppress

import grpc
import pytest

from mesh.api.proa.v1 import agents_pb2
from mesh.controlplane import requests
from mesh.controlplane.requests import LARGEST_OF_WORKLOADS
from tests.controlplane.conftest import Remote
from tests.controlplane.test_access import DENIED

EMPTY = b"\x0a\x00"
"""One more message in a list of them: two bytes, and about eighty in memory."""
APPLY = "/proa.v1.DocumentService/ApplyDocuments"
ATTACH = "/proa.v1.AgentService/Attach"


async def answer(channel: grpc.aio.Channel, method: str, content: bytes) -> tuple[grpc.StatusCode, str]:
    call = channel.stream_stream(method)(timeout=20, wait_for_ready=True)
    await call.write(content)
    await call.done_writing()
    with suppress(grpc.aio.AioRpcError):
        await call.read()
    async with asyncio.timeout(20):
        return await call.code(), await call.details()


async def test_what_nobody_has_let_in_is_not_parsed(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    before = requests.parsed

    def watched(method: str, parse: requests.Parse, content: bytes) -> object:
        if method == APPLY:
            read.append(len(content))
        return before(method, parse, content)

    monkeypatch.setattr("mesh.controlplane.entrance.parsed", watched)
    async with remote.as_workload("orders") as orders, remote.as_stranger() as stranger:
        code, _ = await answer(orders, APPLY, EMPTY * 100_000)
        other, _ = await answer(stranger, APPLY, EMPTY * 10_000)
        assert (code, other, read) == (DENIED, DENIED, [])
    async with remote.as_role("operator") as operator:
        await answer(operator, APPLY, EMPTY)
        assert read == [len(EMPTY)]


async def test_what_was_refused_is_not_kept_until_garbage_is_collected(remote: Remote) -> None:
    megabyte = b"\0" * 1024 * 1024
    async with remote.as_workload("orders") as orders:
        await answer(orders, APPLY, megabyte)
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            for method in (APPLY, "/grpc.health.v1.Health/Check", "/proa.v1.WorkloadService/WatchWorkloads") * 3:
                code, _ = await answer(orders, method, megabyte)
                assert code in (DENIED, grpc.StatusCode.INVALID_ARGUMENT)
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()
    assert kept < 2 * len(megabyte)


async def test_a_message_of_a_workload_is_bounded(remote: Remote) -> None:
    loaded = agents_pb2.InstanceReport(loaded=[agents_pb2.LoadedCertificate()] * LARGEST_OF_WORKLOADS)
    too_large = agents_pb2.AttachRequest(report=loaded).SerializeToString()
    async with remote.as_workload("orders") as orders:
        code, details = await answer(orders, ATTACH, too_large)
    assert (code, "are the most" in details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)


async def test_what_cannot_be_read_is_refused(remote: Remote) -> None:
    async with remote.as_role("operator") as operator:
        for method in (APPLY, "/grpc.health.v1.Health/Check", "/proa.v1.WorkloadService/WatchWorkloads"):
            assert await answer(operator, method, b"\x0a\xff") == (
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{method}: the request cannot be read. Send what the protos of Proa say",
            )

"""What a caller gets to hear when a call goes wrong."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from mesh.controlplane.errors import ErrorInterceptor
from mesh.errors import ConfigError, IdentityError, MeshError, NotFoundError, StateError, UnresolvedError, UsageError


@pytest.fixture
async def failing(tmp_path) -> AsyncIterator[Any]:
    """`failing(how)` is a channel to a server whose calls do `how(context)`."""
    running: list[Any] = []

    async def channel_to(how: Any) -> grpc.aio.Channel:
        async def call(request: bytes, context: Any) -> bytes:
            await how(context)
            return b""

        async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
            yield b"first"
            await how(context)

        server = grpc.aio.server(interceptors=[ErrorInterceptor()])
        methods = {
            "Call": grpc.unary_unary_rpc_method_handler(call),
            "Stream": grpc.unary_stream_rpc_method_handler(stream),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("proa.v1.Probe", methods),))
        server.add_insecure_port(f"unix:{tmp_path}/probe.sock")
        await server.start()
        channel = grpc.aio.insecure_channel(f"unix:{tmp_path}/probe.sock")
        running.extend([channel.close, lambda: server.stop(None)])
        return channel

    yield channel_to
    for stop in running:
        await stop()


async def answers(channel: grpc.aio.Channel) -> list[tuple[grpc.StatusCode, str]]:
    """How a unary call and a stream to `channel` end."""
    call = channel.unary_unary("/proa.v1.Probe/Call")(b"")
    stream = channel.unary_stream("/proa.v1.Probe/Stream")(b"")
    assert await stream.read() == b"first"
    return [(await one.code(), await one.details()) for one in (call, stream)]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (NotFoundError, grpc.StatusCode.NOT_FOUND),
        (ConfigError, grpc.StatusCode.INVALID_ARGUMENT),
        (UnresolvedError, grpc.StatusCode.INVALID_ARGUMENT),
        (UsageError, grpc.StatusCode.INVALID_ARGUMENT),
        (IdentityError, grpc.StatusCode.INVALID_ARGUMENT),
        (StateError, grpc.StatusCode.INTERNAL),
    ],
)
async def test_an_error_for_people_keeps_its_words(failing, kind: type[MeshError], status):
    async def how(context: Any) -> None:
        raise kind("mesh.yaml:3", "it is wrong", "Mend it")

    assert await answers(await failing(how)) == [(status, "mesh.yaml:3: it is wrong. Mend it")] * 2


async def test_a_failure_of_ours_says_nothing_of_the_inside(failing, caplog):
    async def how(context: Any) -> None:
        raise ValueError("secret")

    for status, words in await answers(await failing(how)):
        assert status is grpc.StatusCode.INTERNAL
        assert "secret" not in words
        number = words.partition("(number ")[2].partition(")")[0]
        assert number in caplog.text
    assert "ValueError: secret" in caplog.text


async def test_a_call_that_ends_itself_ends_as_it_says(failing):
    async def how(context: Any) -> None:
        await context.abort(grpc.StatusCode.ABORTED, "as I say")

    assert await answers(await failing(how)) == [(grpc.StatusCode.ABORTED, "as I say")] * 2

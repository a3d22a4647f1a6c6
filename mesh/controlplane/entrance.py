"""Every call goes through a door before it is served, and its messages are bytes until then."""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc

from mesh.controlplane.access import Door
from mesh.controlplane.errors import Handler, Refused, status_of
from mesh.controlplane.requests import Requests, parsed
from mesh.errors import MeshError
from mesh.registry.caller import CALLER
from mesh.xds.peer import spiffe_id

log = logging.getLogger(__name__)


class AccessInterceptor(grpc.aio.ServerInterceptor):
    """Everything that a server serves is behind its door. Who has come in is in `CALLER`."""

    def __init__(self, door: Door, refused: Refused) -> None:
        self._door = door
        self._refused = refused

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        return _behind(self._door, self._refused, handler_call_details.method, handler) if handler else handler


def _behind(door: Door, refused: Refused, method: str, handler: Any) -> Handler:
    parse = handler.request_deserializer

    async def refuse(context: Any, error: MeshError) -> NoReturn:
        log.warning("access_refused method=%s peer=%s reason=%s", method, context.peer(), error)
        status = status_of(error)
        refused(status.name)
        await context.abort(status, str(error))
        raise AssertionError("abort does not return")

    async def enter(context: Any) -> None:
        try:
            CALLER.set(await door.enter(method, context))
        except MeshError as error:
            await refuse(context, error)

    async def read(content: bytes, context: Any) -> Any:
        try:
            return parsed(method, parse, content) if parse else content
        except MeshError as error:
            problem = error.with_traceback(None)
        del content
        return await refuse(context, problem)

    async def begin(content: bytes, context: Any) -> Any:
        try:
            await enter(context)
            return await read(content, context)
        finally:
            # What is raised outlives the call, with all frames that it came through, until garbage is collected.
            del content

    async def begin_stream(contents: Any, context: Any) -> Any:
        await enter(context)
        return Requests(contents, lambda content: read(content, context)) if parse else contents

    # Without a deserializer: gRPC would parse what nobody has let in yet.
    codecs = {"response_serializer": handler.response_serializer}
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(_call(begin, handler.unary_unary), **codecs)
    if handler.unary_stream:
        return grpc.unary_stream_rpc_method_handler(_stream(begin, door, handler.unary_stream), **codecs)
    return grpc.stream_stream_rpc_method_handler(_stream(begin_stream, door, handler.stream_stream), **codecs)


Begin = Callable[[Any, Any], Awaitable[Any]]
"""Lets the caller in, then says what it asks for."""


def _call(begin: Begin, serve: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def behind(content: Any, context: Any) -> Any:
        try:
            request = await begin(content, context)
        finally:
            del content
        return await serve(request, context)

    return behind


def _stream(begin: Begin, door: Door, serve: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    if not inspect.isasyncgenfunction(serve):

        async def writes(content: Any, context: Any) -> None:
            try:
                request = await begin(content, context)
            finally:
                del content
            await _until_closed(asyncio.ensure_future(serve(request, context)), door, context)

        return writes

    async def yields(content: Any, context: Any) -> AsyncIterator[Any]:
        try:
            request = await begin(content, context)
        finally:
            del content
        closed = asyncio.ensure_future(door.closed(context))
        responses = serve(request, context)
        try:
            while (response := await _before(closed, responses)) is not None:
                yield response
            if closed.done():
                await _turn_out(context)
        finally:
            closed.cancel()

    return yields


async def _until_closed(serving: asyncio.Future[None], door: Door, context: Any) -> None:
    closed = asyncio.ensure_future(door.closed(context))
    try:
        await asyncio.wait((serving, closed), return_when=asyncio.FIRST_COMPLETED)
    finally:
        closed.cancel()
        is_over = serving.done()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    if not is_over:
        await _turn_out(context)
    await serving


async def _before(closed: asyncio.Future[None], responses: AsyncIterator[Any]) -> Any:
    """The next response; None after the last, or when the door is closed first."""
    response = asyncio.ensure_future(anext(responses, None))
    try:
        await asyncio.wait((response, closed), return_when=asyncio.FIRST_COMPLETED)
        return response.result() if response.done() else None
    finally:
        response.cancel()


async def _turn_out(context: Any) -> NoReturn:
    log.warning("turned_out peer=%s identity=%s", context.peer(), spiffe_id(context.auth_context()))
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, "what let this stream in was revoked, or has expired")
    raise AssertionError("abort does not return")

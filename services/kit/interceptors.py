"""What surrounds every call that a service answers."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from typing import Any, Final, Never, TypeAlias

import grpc
from grpc_status import rpc_status

from kit import logging
from kit.errors import Refusal
from kit.status import status_of

log = logging.get(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Around = Callable[[str, Context], AbstractAsyncContextManager[None]]
"""From the full method name and the call's context to what is entered before the handler and left after it."""

PASSED_ON: Final = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""The weather: true of a service as long as it is true of one that it calls, and callers know what to do about it."""

MAKERS: Final = {
    # (request is a stream, response is a stream)
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


class Surround(grpc.aio.ServerInterceptor):
    """Enters `around` for every call, but not for gRPC's own services (health, reflection).

    Streaming handlers have to be asynchronous generators, not the style that writes to the context.
    """

    def __init__(self, around: Around) -> None:
        self._around = around

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        # None: this server has no such method; gRPC then answers UNIMPLEMENTED.
        if handler is None or method.startswith("/grpc."):
            return handler
        return surrounded(handler, partial(self._around, method))


def surrounded(handler: Handler, around: Callable[[Context], AbstractAsyncContextManager[None]]) -> Handler:
    make = MAKERS[handler.request_streaming, handler.response_streaming]
    wrap = many if handler.response_streaming else one
    behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    return make(
        wrap(behaviour, around),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def one(behaviour: Any, around: Callable[[Context], AbstractAsyncContextManager[None]]) -> Any:
    async def respond(request: Any, context: Context) -> Any:
        async with around(context):
            return await behaviour(request, context)

    return respond


def many(behaviour: Any, around: Callable[[Context], AbstractAsyncContextManager[None]]) -> Any:
    async def respond(request: Any, context: Context) -> AsyncIterator[Any]:
        async with around(context), aclosing(behaviour(request, context)) as responses:
            async for response in responses:
                yield response

    return respond


@asynccontextmanager
async def answer_errors(method: str, context: Context) -> AsyncIterator[None]:
    """A `Refusal` is answered with its details; what nobody foresaw with INTERNAL and an id.

    The log has the traceback under that id. Left alone, gRPC would send the exception's text to the caller.
    """
    try:
        yield
    except grpc.aio.AbortError:
        raise  # the handler has chosen the status itself
    except Refusal as refusal:
        await context.abort_with_status(rpc_status.to_status(status_of(refusal, domain(method))))
    except grpc.aio.AioRpcError as error:
        await answer_upstream(method, context, error)
    except Exception as error:  # noqa: BLE001 - the last resort
        await answer_unforeseen(method, context, error)


async def answer_upstream(method: str, context: Context, error: grpc.aio.AioRpcError) -> Never:
    """A service that we call failed, and ours did not say what that means."""
    if error.code() not in PASSED_ON:
        await answer_unforeseen(method, context, error)
    incident = incident_id()
    log.warning("upstream_failed", id=incident, method=method, code=error.code().name, details=error.details())
    # Its own words stay in the log: they tell of addresses and certificates.
    await context.abort(error.code(), f"A service that this one needs answered {error.code().name} (id {incident})")


async def answer_unforeseen(method: str, context: Context, error: Exception) -> Never:
    incident = incident_id()
    log.unforeseen("call_failed", error, id=incident, method=method)
    await context.abort(grpc.StatusCode.INTERNAL, f"Internal error (id {incident}). The log of the service tells more")


def incident_id() -> str:
    return uuid.uuid4().hex[:12]


def domain(method: str) -> str:
    """`/bookstore.orders.v1.OrderService/GetOrder` -> `bookstore.orders.v1`."""
    return method.removeprefix("/").partition("/")[0].rpartition(".")[0]

"""What goes wrong in a call, as its gRPC status. Nothing of the inside reaches a caller."""

import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NoReturn, TypeAlias

import grpc

from mesh.errors import AccessError, ConfigError, IdentityError, LimitError, MeshError, NotFoundError, UsageError
from mesh.registry.caller import CALLER

STATUS: Final = {
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    ConfigError: grpc.StatusCode.INVALID_ARGUMENT,
    UsageError: grpc.StatusCode.INVALID_ARGUMENT,
    IdentityError: grpc.StatusCode.INVALID_ARGUMENT,
    LimitError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    AccessError: grpc.StatusCode.PERMISSION_DENIED,
}
"""Every other MeshError is a failure of ours and INTERNAL; its words are for people all the same."""

ASK: Final = "Look at the name where the control plane runs: proa get workloads -A"

OURS: Final = ("/proa.v1.", "/envoy.service.status.v3.")
"""How the names of methods begin that Proa itself implements."""

Refused = Callable[[str], None]
"""Is told the name of the status of each call that is refused or fails."""

# In quotes: the types of grpc are only generic in their stubs.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"

log = logging.getLogger(__name__)


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Answers a MeshError with its words, anything else with a number that the log explains."""

    def __init__(self, refused: Refused = lambda _: None) -> None:
        self._refused = refused

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        is_ours = handler_call_details.method.startswith(OURS)
        return self._guarded(handler) if handler and is_ours else handler

    def _guarded(self, handler: Any) -> Handler:
        codecs = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._call(handler.unary_unary), **codecs)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(self._stream(handler.unary_stream), **codecs)
        return grpc.stream_stream_rpc_method_handler(self._stream(handler.stream_stream), **codecs)

    def _call(self, serve: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
        async def guarded(request: Any, context: Any) -> Any:
            try:
                return await serve(request, context)
            except Exception as error:  # noqa: BLE001 # this is where it ends, whatever it is
                # What is raised outlives the call, with its frames, until garbage is collected.
                del request
                await self._abort(context, error)

        return guarded

    def _stream(self, serve: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                async for response in serve(request, context):
                    yield response
            except Exception as error:  # noqa: BLE001 # this is where it ends, whatever it is
                del request
                await self._abort(context, error)

        return guarded

    async def _abort(self, context: Any, error: Exception) -> NoReturn:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if isinstance(error, MeshError):
            status = status_of(error)
            self._refused(status.name)
            log.info("call_refused status=%s peer=%s reason=%s", status.name, context.peer(), error)
            await context.abort(status, _words(error))
        number = secrets.token_hex(4)
        self._refused(grpc.StatusCode.INTERNAL.name)
        log.error("call_failed number=%s", number, exc_info=error)
        await context.abort(grpc.StatusCode.INTERNAL, f"control plane: it failed (number {number}). Look at its log")
        raise AssertionError("abort does not return")


def status_of(error: MeshError) -> grpc.StatusCode:
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), grpc.StatusCode.INTERNAL)


def _words(error: MeshError) -> str:
    """Remedies name what there is, which is not for an agent: it may have been broken into."""
    if isinstance(error, NotFoundError) and CALLER.get().is_agent:
        return str(NotFoundError(error.where, error.problem, ASK))
    return str(error)

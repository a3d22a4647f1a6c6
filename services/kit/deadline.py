"""The deadline of the call being answered, handed on to the calls that answer it.

gRPC for Python does not hand it on by itself. Without that, a service works on for callers who have long gone.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Final

import grpc

from kit.interceptors import Context

DEFAULT: Final = timedelta(seconds=5)
"""For a unary call that has no deadline of its own while nothing else sets one. A stream then has none."""

MARGIN: Final = timedelta(milliseconds=20)
"""Kept back, so that we can still answer when a call of ours runs out of time: two proxies and a response take less."""

_ends_at: ContextVar[float | None] = ContextVar("deadline_ends_at", default=None)


@asynccontextmanager
async def keep_deadline(method: str, context: Context) -> AsyncIterator[None]:
    """Surrounds a call with its deadline: calls made inside, also by tasks started inside, end before it."""
    # Never reset: gRPC answers each call in a task, thus in a context, of its own.
    _ends_at.set(ends_at(context.time_remaining(), time.monotonic()))
    yield


def ends_at(remaining: float | None, now: float) -> float | None:
    """`remaining` is None for a call without deadline."""
    return None if remaining is None else now + remaining


def timeout_for(own: float | None, end: float | None, now: float, default: float | None) -> float | None:
    """Seconds that an outgoing call may take: the least of its own timeout and what the incoming call leaves.

    0 when nothing is left; gRPC then answers DEADLINE_EXCEEDED without sending.
    """
    left = None if end is None else max(0.0, end - MARGIN.total_seconds() - now)
    return min((limit for limit in (own, left) if limit is not None), default=default)


def _limited(call: grpc.aio.ClientCallDetails, default: timedelta | None = None) -> grpc.aio.ClientCallDetails:
    timeout = timeout_for(
        call.timeout, _ends_at.get(), time.monotonic(), None if default is None else default.total_seconds()
    )
    return grpc.aio.ClientCallDetails(call.method, timeout, call.metadata, call.credentials, call.wait_for_ready)


# One class per kind of call: a channel takes each interceptor for the first kind that it finds in it.


class UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_limited(client_call_details, DEFAULT), request)


class UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_limited(client_call_details), request)


class StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(_limited(client_call_details), request_iterator)


class StreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(_limited(client_call_details), request_iterator)


INTERCEPTORS: Final = (UnaryUnary(), UnaryStream(), StreamUnary(), StreamStream())
"""For the channels through which a service calls others."""

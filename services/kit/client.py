"""How a service reaches the others."""

from typing import Final

import grpc

from kit import deadline

OPTIONS: Final = (
    # The other end is a sidecar on this machine, soon back when it restarts. gRPC would wait 1 s, then up to 120 s.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Retries belong to one layer. Ours is the mesh, which knows which methods are idempotent.
    ("grpc.enable_retries", 0),
    # Else an `http_proxy` of the environment would be asked to reach this machine.
    ("grpc.enable_http_proxy", 0),
)


def connect(address: str) -> grpc.aio.Channel:
    """A channel to `address` (host:port); use it with `async with`. It connects with the first call.

    Its calls keep the deadline of the call being answered (see `deadline`). No load balancing: one address,
    one connection; the sidecar spreads the calls.
    """
    return grpc.aio.insecure_channel(address, options=OPTIONS, interceptors=deadline.INTERCEPTORS)

"""What no sidecar's configuration may hold: each line has a measured price (docs/benchmarks.md)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

TLS13 = "TLSv1_3"
LEAST_WINDOW = 1 << 20
LEAST_STREAMS = 100
MOST_LINEAR_ROUTES = 20
MOST_PRINCIPALS = 3


def findings(config: Any, path: str = "") -> Iterator[str]:
    """Every finding in a configuration as JSON (proto field names), with its path."""
    if isinstance(config, dict):
        yield from (f"{path}: {problem}" for problem in _mapping(config))
        for key, value in config.items():
            yield from findings(value, f"{path}.{key}")
    elif isinstance(config, list):
        for index, value in enumerate(config):
            yield from findings(value, f"{path}.{index}")


def _mapping(config: dict[str, Any]) -> Iterator[str]:
    yield from (price for too_dear, price in PRICES if too_dear(config))
    if "common_tls_context" in config:
        yield from _tls(config["common_tls_context"])
    if "http_filters" in config:
        yield from _filters(config["http_filters"])


def _narrow(config: dict[str, Any], window: str) -> bool:
    return int(config.get(window, LEAST_WINDOW)) < LEAST_WINDOW


def _counts_by_status(config: dict[str, Any]) -> bool:
    return str(config.get("@type", "")).endswith("router.v3.Router") and config.get("dynamic_stats") is not False


PRICES: Final[Sequence[tuple[Callable[[dict[str, Any]], bool], str]]] = (
    (lambda c: "tracing" in c, "a tracing block costs 1.16 even at 0 %"),
    (lambda c: len(c.get("principals", [])) > MOST_PRINCIPALS, "principals cost 2.4 at a hundred; use a matcher tree"),
    (lambda c: len(c.get("routes", [])) > MOST_LINEAR_ROUTES, "routes cost 1.9 at a thousand; use a matcher tree"),
    (lambda c: "ext_authz" in str(c.get("name", "")), "ext_authz costs 1.47"),
    (_counts_by_status, "dynamic_stats costs 1.04"),
    (lambda c: c.get("use_oghttp2_codec", False), "oghttp2 costs 1.23"),
    (lambda c: int(c.get("max_concurrent_streams", LEAST_STREAMS)) < LEAST_STREAMS, "few streams cost up to 2.2"),
    (lambda c: "per_connection_buffer_limit_bytes" in c, "a small buffer costs 1.36 with large messages"),
    (lambda c: _narrow(c, "initial_stream_window_size"), "a small window costs 2.2 with large messages"),
    (lambda c: _narrow(c, "initial_connection_window_size"), "a small window costs 2.2 with large messages"),
)


def _tls(context: dict[str, Any]) -> Iterator[str]:
    params = context.get("tls_params", {})
    versions = {params.get("tls_minimum_protocol_version"), params.get("tls_maximum_protocol_version")}
    if versions != {TLS13}:
        yield f"TLS versions are {versions}, not 1.3 alone"


def _filters(filters: list[dict[str, Any]]) -> Iterator[str]:
    *others, last = filters
    if last["name"] != "envoy.filters.http.router":
        yield "the router is not last"
    for one in others:
        if not one.get("disabled"):
            yield f"{one['name']} is enabled without effect, which costs 0.9 %"

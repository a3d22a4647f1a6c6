"""The metrics of the control plane. `docs/metrics.md` says what each of them means."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import datetime, timedelta
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client import Counter as CountedHere
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mesh.model.shape import Role
from mesh.registry.leases import Lease
from mesh.registry.registry import Registry
from mesh.registry.status import OTHER_TYPES, ProxyState, StatusBoard, Tally
from mesh.snapshot.types import TYPES

COMPILE_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
CHANGE_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

# What can be counted is listed before it happens: a series that begins with 1 has no increase.
LABELS: Final = {url: url.rpartition(".")[2] for url in sorted(TYPES)} | {OTHER_TYPES: OTHER_TYPES}
LEASE_STATES: Final = ("healthy", "unhealthy", "client", "draining", "detached")
REFUSALS: Final = ("identity", "limit", "protocol")
STATUSES: Final = ("INTERNAL", "INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED")

MESSAGES: Final[tuple[tuple[str, str, Callable[[Tally], int]], ...]] = (
    ("proa_xds_responses", "Responses that were sent.", lambda tally: tally.responses),
    ("proa_xds_sent_bytes", "Size of these responses.", lambda tally: tally.bytes),
    ("proa_xds_acks", "Responses that were accepted.", lambda tally: tally.acks),
    ("proa_xds_nacks", "Responses that were refused.", lambda tally: tally.nacks),
)


class Numbers(CollectorRegistry):
    """What a scrape is answered from. Here what is measured where it happens, and what the process uses."""

    def __init__(self) -> None:
        super().__init__()
        disable_created_metrics()  # type: ignore[no-untyped-call]
        ProcessCollector(registry=self)
        PlatformCollector(registry=self)
        self.compiling = Histogram(
            "proa_compile_seconds", "One pass of the compiler.", buckets=COMPILE_BUCKETS, registry=self
        )
        self.changing = Histogram(
            "proa_change_to_ack_seconds",
            "From a change until every connected proxy has answered for it.",
            buckets=CHANGE_BUCKETS,
            registry=self,
        )
        self._refused = CountedHere(
            "proa_refused_calls", "Calls of the API that were refused, or failed.", ["status"], registry=self
        )
        for status in STATUSES:
            self._refused.labels(status)
        self._handshakes = CountedHere("proa_tls_handshakes", "Those that have begun.", registry=self)

    def refused(self, status: str) -> None:
        """A call has ended with this status."""
        self._refused.labels(status).inc()

    def begun(self) -> None:
        """A handshake, which may fail."""
        self._handshakes.inc()


@dataclass(frozen=True, slots=True, eq=False)
class MeshNumbers(Collector):
    """Looks at the mesh when it is asked, so that what goes on there costs nothing.

    `problems` is the number of instances and targets that could not be compiled; `pending` how long ago the oldest
    change was that some proxy has yet to answer for. `expiries` says when certificates end, by kind; `rotating` since
    when the present step of a rotation lasts.
    """

    registry: Registry
    board: StatusBoard
    _: KW_ONLY
    version: str
    problems: Callable[[], int]
    pending: Callable[[], timedelta]
    expiries: Callable[[], Mapping[str, datetime]]
    rotating: Callable[[], timedelta]

    def collect(self) -> Iterator[Metric]:
        yield _gauges("proa_build_info", "Which Proa this is.", "version", {self.version: 1})
        yield from self._registered()
        yield GaugeMetricFamily(
            "proa_compile_problems", "Instances and targets that keep what they had.", self.problems()
        )
        yield GaugeMetricFamily(
            "proa_change_pending_seconds",
            "Since the oldest change that is not answered for.",
            self.pending().total_seconds(),
        )
        yield from self._certificates()
        yield from self._streams()
        yield from self._messages()

    def _registered(self) -> Iterator[Metric]:
        registry = self.registry
        leases = Counter(_state(lease, registry.attached(lease.id)) for lease in registry.leases.values())
        yield GaugeMetricFamily("proa_revision", "Number of the last change of documents.", registry.state.revision)
        yield _gauges(
            "proa_leases", "Instances and clients.", "state", {state: leases[state] for state in LEASE_STATES}
        )
        yield CounterMetricFamily("proa_leases_ended", "Those that were forgotten.", registry.ended)

    def _certificates(self) -> Iterator[Metric]:
        ends = {kind: expiry.timestamp() for kind, expiry in self.expiries().items()}
        yield _gauges("proa_certificate_expiry_timestamp_seconds", "When the first of a kind ends.", "kind", ends)
        yield GaugeMetricFamily(
            "proa_rotation_step_seconds",
            "Since the present step of a rotation of the root began.",
            self.rotating().total_seconds(),
        )

    def _streams(self) -> Iterator[Metric]:
        board = self.board
        clients = {lease.id.node_id for lease in self.registry.leases.values() if lease.role is Role.GRPC_CLIENT}
        # A client that no program uses has no stream, and nothing is wrong with it.
        counted = (p for p in board.proxies() if p.state is not ProxyState.DISCONNECTED or p.node_id not in clients)
        states = Counter(proxy.state for proxy in counted)
        refused = dict.fromkeys(REFUSALS, 0) | {one.reason: one.count for one in board.refused_streams()}
        yield _gauges("proa_proxies", "Expected proxies.", "state", {str(state): states[state] for state in ProxyState})
        yield GaugeMetricFamily("proa_xds_streams", "Open streams of proxies.", board.connected_streams)
        yield GaugeMetricFamily("proa_xds_queued_streams", "Those that have yet to answer for something.", board.queued)
        yield _counters("proa_xds_refused_streams", "Streams that were not served.", "reason", refused)

    def _messages(self) -> Iterator[Metric]:
        totals = self.board.totals()
        tallies = {label: totals.get(type_url, Tally()) for type_url, label in LABELS.items()}
        for name, meaning, count in MESSAGES:
            yield _counters(name, meaning, "type", {label: count(tally) for label, tally in tallies.items()})


def _state(lease: Lease, is_attached: bool) -> str:
    if not is_attached:
        return "detached"
    if lease.draining:
        return "draining"
    if lease.role is Role.GRPC_CLIENT:
        return "client"
    return "healthy" if lease.report.healthy else "unhealthy"


def _gauges(name: str, meaning: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for which, value in values.items():
        family.add_metric([which], value)
    return family


def _counters(name: str, meaning: str, label: str, values: Mapping[str, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, meaning, labels=[label])
    for which, value in values.items():
        family.add_metric([which], value)
    return family

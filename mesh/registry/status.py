"""What every proxy has been told and how it answered: written by xDS streams, read by the status service and drains."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property, partial
from itertools import chain, groupby
from typing import Final

from mesh.registry.changes import Changes

OTHER_TYPES: Final = "other"
"""What all types are counted under that are none of the mesh."""


class ProxyState(StrEnum):
    """How far a proxy is."""

    SYNCED = "synced"
    PENDING = "pending"
    NACKED = "nacked"
    DISCONNECTED = "disconnected"


WORST_FIRST: Final = (ProxyState.NACKED, ProxyState.PENDING, ProxyState.SYNCED)


class Delivery(StrEnum):
    """How far one resource is on its way to a proxy."""

    ASKED = "asked"
    SENT = "sent"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class ResourceStatus:
    """A resource that a proxy follows. `version` is the one that it was sent last, empty when it has none."""

    type_url: str
    name: str
    delivery: Delivery
    version: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """A resource that a proxy was sent and has refused as it is now.

    `error` is in the proxy's own words. `last_good` is the version that it goes on with, empty when it never had one.
    """

    name: str
    version: str
    error: str
    last_good: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a resource, or its removal, is not sent yet: (type URL, name) of what the proxy has to accept before."""

    type_url: str
    name: str
    needs: tuple[tuple[str, str], ...]
    is_removal: bool = False


@dataclass(frozen=True, slots=True)
class TypeStatus:
    """One resource type of one proxy.

    `sent`, `acked` and `nacked` are digests of all that the proxy has of the type, or would have, empty for nothing;
    each with the time since when it is the one. `error` is in the proxy's own words, about a refusal that still stands;
    `refused` are the resources that it concerns. `resources` is how many the proxy has, `held` which are held back.
    """

    type_url: str
    sent: str = ""
    acked: str = ""
    error: str = ""
    resources: int = 0
    nacked: str = ""
    sent_at: datetime | None = None
    acked_at: datetime | None = None
    nacked_at: datetime | None = None
    refused: tuple[Refused, ...] = ()
    held: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StreamReport:
    """What one stream says of its proxy when it is asked.

    `config_version` is the digest of the configuration that the proxy should have. The counts are those of the stream,
    and of resources alone.
    """

    types: tuple[TypeStatus, ...] = ()
    config_version: str = ""
    bytes_sent: int = 0
    resources_sent: int = 0
    waits: tuple[Wait, ...] = ()


@dataclass(frozen=True)
class ProxyStatus:
    """One proxy, connected or not. After its stream has ended, `report` is the last one.

    With several streams (an old and a new Envoy, or one for each type) `state` is that of the worst one, and `report`
    has each type from the newest one that follows it. `last_nack` is kept after the refusal was mended.
    """

    node_id: str
    identity: str
    since: datetime
    envoy_version: str = ""
    state: ProxyState = ProxyState.DISCONNECTED
    connected_since: datetime | None = None
    last_nack: str = ""
    streams: int = 0
    ask: Callable[[], StreamReport] = field(default=StreamReport, compare=False, repr=False)

    @cached_property
    def report(self) -> StreamReport:
        """Found out when it is read for the first time, and as of then."""
        return self.ask()


@dataclass(frozen=True, slots=True)
class RefusedStreams:
    """Streams that were ended for one `reason` since the control plane started; `last` is what the last one was told.

    Who could not prove who he is has no node id that could be believed, so these are not counted by proxy.
    """

    reason: str
    count: int
    last: str
    at: datetime


@dataclass(slots=True)
class Tally:
    """Messages about one resource type since the start of the process; `bytes` are those of the responses."""

    responses: int = 0
    bytes: int = 0
    acks: int = 0
    nacks: int = 0

    def sent(self, size: int) -> None:
        self.responses += 1
        self.bytes += size


@dataclass(slots=True, eq=False)
class StreamStatus:
    """One open stream. `report` says how far its proxy is, and `look` what it follows, when somebody asks.

    It `lags` while the proxy has yet to answer for something; what it has refused it has answered for. It `refuses`
    while a refusal stands. `tally` is what messages about a type are counted in, on all streams.
    """

    began: datetime
    tally: Callable[[str], Tally]
    _changed: Callable[[], None]
    _refused: Callable[[str], None]
    report: Callable[[], StreamReport] = StreamReport
    look: Callable[[], Iterable[ResourceStatus]] = tuple
    lags: bool = True
    refuses: bool = False

    def stands(self, *, lags: bool, refuses: bool) -> None:
        """From now on."""
        if (lags, refuses) != (self.lags, self.refuses):
            self.lags, self.refuses = lags, refuses
            self._changed()

    def refused(self, words: str) -> None:
        """The proxy has sent a NACK."""
        self._refused(words)

    @property
    def state(self) -> ProxyState:
        if self.refuses:
            return ProxyState.NACKED
        return ProxyState.PENDING if self.lags else ProxyState.SYNCED


@dataclass(slots=True, eq=False)
class _Proxy:
    node_id: str
    identity: str
    since: datetime
    envoy_version: str = ""
    state: ProxyState = ProxyState.DISCONNECTED
    last_nack: str = ""
    last_report: StreamReport = StreamReport()
    streams: tuple[StreamStatus, ...] = ()
    is_forgotten: bool = False

    def status(self) -> ProxyStatus:
        return ProxyStatus(
            self.node_id,
            self.identity,
            self.since,
            self.envoy_version,
            self.state,
            connected_since=self.streams[-1].began if self.streams else None,
            last_nack=self.last_nack,
            streams=len(self.streams),
            ask=self.report,
        )

    def report(self) -> StreamReport:
        return _joined([stream.report() for stream in self.streams]) if self.streams else self.last_report

    def lags(self) -> bool:
        return not self.is_forgotten and any(stream.lags for stream in self.streams)

    def worst(self) -> ProxyState:
        if len(self.streams) == 1:
            return self.streams[0].state
        return min((stream.state for stream in self.streams), key=WORST_FIRST.index, default=ProxyState.DISCONNECTED)


def _joined(reports: Sequence[StreamReport]) -> StreamReport:
    """The newest report is the last one, and all but types and waits is as it says."""
    if len(reports) == 1:
        return reports[0]
    spoken_by = {one.type_url: number for number, report in enumerate(reports) for one in report.types}
    types = {one.type_url: one for report in reports for one in report.types}
    waits = (
        wait for number, report in enumerate(reports) for wait in report.waits if spoken_by.get(wait.type_url) == number
    )
    return replace(reports[-1], types=tuple(one for _, one in sorted(types.items())), waits=tuple(waits))


class StatusBoard:
    """All proxies that are expected or connected.

    `changes` is notified when one comes, goes, or refuses something, and when the state of one or `lagging` differs.
    Streams say how they stand; all else is asked of them when somebody reads it.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.changes = Changes()
        self._now = now
        self._proxies: dict[str, _Proxy] = {}
        self._lagging: set[str] = set()
        self._refused_streams: dict[str, RefusedStreams] = {}
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)

    def proxies(self) -> tuple[ProxyStatus, ...]:
        """All of them, sorted by node id."""
        return tuple(proxy.status() for _, proxy in sorted(self._proxies.items()) if not proxy.is_forgotten)

    def proxy(self, node_id: str) -> ProxyStatus | None:
        """One of them, or None when it is neither expected nor connected."""
        proxy = self._proxies.get(node_id)
        return proxy.status() if proxy and not proxy.is_forgotten else None

    def resources(self, node_id: str) -> tuple[ResourceStatus, ...] | None:
        """What a proxy follows, each type by the newest stream that does; None when it is not connected."""
        proxy = self._proxies.get(node_id)
        if proxy is None or not proxy.streams:
            return None
        by_type: dict[str, tuple[ResourceStatus, ...]] = {}
        for stream in proxy.streams:
            by_type |= {url: tuple(same) for url, same in groupby(stream.look(), lambda one: one.type_url)}
        return tuple(chain.from_iterable(by_type.values()))

    def expect(self, node_id: str, identity: str) -> None:
        """The proxy is listed from now on, although it may not have connected yet."""
        proxy = self._proxies.setdefault(node_id, _Proxy(node_id, identity, self._now()))
        proxy.identity, proxy.is_forgotten = identity, False
        self._refresh(proxy)

    def forget(self, node_id: str) -> None:
        """The proxy is neither listed nor waited for any more, unless it is expected or connects again."""
        if proxy := self._proxies.get(node_id):
            proxy.is_forgotten = True
            self._drop_if_gone(proxy)
            self._refresh(proxy)

    @contextmanager
    def connected(self, node_id: str, identity: str, envoy_version: str) -> Iterator[StreamStatus]:
        """The proxy has a stream, which ends with the block."""
        self.expect(node_id, identity)
        proxy = self._proxies[node_id]
        proxy.envoy_version = envoy_version
        stream = StreamStatus(
            self._now(), self._tallies.__getitem__, partial(self._refresh, proxy), partial(self._refused, proxy)
        )
        proxy.streams = (*proxy.streams, stream)
        self._refresh(proxy)
        try:
            yield stream
        finally:
            proxy.last_report = proxy.report()
            # Whoever answers these has the stream, too: a circle.
            stream.report, stream.look = StreamReport, tuple
            proxy.streams = tuple(other for other in proxy.streams if other is not stream)
            self._drop_if_gone(proxy)
            self._refresh(proxy)

    def refuse_stream(self, reason: str, words: str) -> None:
        """A stream was ended for `reason`, one of few; its peer was told `words`."""
        before = self._refused_streams.get(reason)
        count = before.count + 1 if before else 1
        self._refused_streams[reason] = RefusedStreams(reason, count, words, self._now())

    def refused_streams(self) -> tuple[RefusedStreams, ...]:
        """All of them, sorted by reason."""
        return tuple(refused for _, refused in sorted(self._refused_streams.items()))

    def totals(self) -> Mapping[str, Tally]:
        """By type URL, or `OTHER_TYPES`: what was said on all streams, also on those that have ended."""
        return {type_url: replace(tally) for type_url, tally in sorted(self._tallies.items())}

    @property
    def connected_streams(self) -> int:
        return sum(len(proxy.streams) for proxy in self._proxies.values())

    @property
    def queued(self) -> int:
        """How many streams have yet to answer for something."""
        return sum(stream.lags for proxy in self._proxies.values() for stream in proxy.streams)

    def lagging(self) -> tuple[str, ...]:
        """Node ids of the connected proxies that have yet to answer for something that was published."""
        return tuple(sorted(self._lagging))

    async def wait_synced(self, timeout: timedelta) -> bool:
        """Waits until every connected proxy has answered for all that was published; says whether that came in time.

        What was published before the call is waited for, even when no stream has seen it yet. A refusal is an answer.
        """
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                seen = self.changes.number
                while self._lagging:
                    seen = await self.changes.after(seen)
        except TimeoutError:
            return False
        return True

    def _refresh(self, proxy: _Proxy) -> None:
        state = proxy.worst()
        if state is not proxy.state:
            proxy.state, proxy.since = state, self._now()
        if proxy.lags():
            self._lagging.add(proxy.node_id)
        else:
            self._lagging.discard(proxy.node_id)
        self.changes.notify()

    def _refused(self, proxy: _Proxy, words: str) -> None:
        proxy.last_nack = words
        self.changes.notify()

    def _drop_if_gone(self, proxy: _Proxy) -> None:
        if proxy.is_forgotten and not proxy.streams:
            del self._proxies[proxy.node_id]

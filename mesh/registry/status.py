"""What every proxy has been told and how it answered: written by xDS streams, read by the status service and drains."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
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
    """What one stream says of its proxy.

    `is_quiet`: the proxy has answered for everything that it should have. `config_version` is the digest of the
    configuration that it should have. The counts are those of the stream, and of resources alone.
    """

    types: tuple[TypeStatus, ...] = ()
    is_quiet: bool = False
    config_version: str = ""
    bytes_sent: int = 0
    resources_sent: int = 0
    waits: tuple[Wait, ...] = ()

    @property
    def state(self) -> ProxyState:
        if any(each.error for each in self.types):
            return ProxyState.NACKED
        return ProxyState.SYNCED if self.is_quiet else ProxyState.PENDING


@dataclass(frozen=True, slots=True)
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
    report: StreamReport = StreamReport()
    last_nack: str = ""
    streams: int = 0


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
    """One open stream, and where it reports. `look` lists what its proxy follows, when somebody asks.

    `tally` is what messages about a type are counted in, on all streams.
    """

    began: datetime
    tally: Callable[[str], Tally]
    _changed: Callable[[], None]
    look: Callable[[], Iterable[ResourceStatus]] = tuple
    last_report: StreamReport = StreamReport()
    last_nack: str = ""
    _is_outdated: bool = True

    def report(self, report: StreamReport) -> None:
        """`report` holds for the configuration as it is now."""
        self.last_report, self._is_outdated = report, False
        self._changed()

    def outdated(self) -> None:
        """Something has changed since the last report; the next one says whether it concerns the proxy."""
        if not self._is_outdated:
            self._is_outdated = True
            self._changed()

    def refused(self, words: str) -> None:
        """The proxy has sent a NACK."""
        self.last_nack = words
        self._changed()

    def lags(self) -> bool:
        """Whether the proxy has yet to answer for something. What it has refused it has answered for."""
        return self._is_outdated or not self.last_report.is_quiet


@dataclass(slots=True, eq=False)
class _Proxy:
    status: ProxyStatus
    streams: list[StreamStatus] = field(default_factory=list)
    is_forgotten: bool = False
    lagged: bool = False

    def status_at(self, now: datetime) -> ProxyStatus:
        was, newest = self.status, next(reversed(self.streams), None)
        state = self._state()
        return replace(
            was,
            state=state,
            since=was.since if state is was.state else now,
            connected_since=newest.began if newest else None,
            report=_joined([stream.last_report for stream in self.streams]) if newest else was.report,
            last_nack=next((one.last_nack for one in reversed(self.streams) if one.last_nack), was.last_nack),
            streams=len(self.streams),
        )

    def lags(self) -> bool:
        return any(stream.lags() for stream in self.streams)

    def _state(self) -> ProxyState:
        states = {stream.last_report.state for stream in self.streams}
        worst_first = (ProxyState.NACKED, ProxyState.PENDING, ProxyState.SYNCED)
        return next((state for state in worst_first if state in states), ProxyState.DISCONNECTED)


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
    """All proxies that are expected or connected. `changes` is notified when `proxies` or `lagging` would differ."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.changes = Changes()
        self._now = now
        self._proxies: dict[str, _Proxy] = {}
        self._refused_streams: dict[str, RefusedStreams] = {}
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)

    def proxies(self) -> tuple[ProxyStatus, ...]:
        """All of them, sorted by node id."""
        listed = (proxy.status for proxy in self._proxies.values() if not proxy.is_forgotten)
        return tuple(sorted(listed, key=lambda status: status.node_id))

    def proxy(self, node_id: str) -> ProxyStatus | None:
        """One of them, or None when it is neither expected nor connected."""
        proxy = self._proxies.get(node_id)
        return proxy.status if proxy and not proxy.is_forgotten else None

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
        proxy = self._proxies.setdefault(node_id, _Proxy(ProxyStatus(node_id, identity, self._now())))
        proxy.status = replace(proxy.status, identity=identity)
        proxy.is_forgotten = False
        self.changes.notify()

    def forget(self, node_id: str) -> None:
        """The proxy is neither listed nor waited for any more, unless it is expected or connects again."""
        if proxy := self._proxies.get(node_id):
            proxy.is_forgotten = True
            self._drop_if_gone(proxy)
            self.changes.notify()

    @contextmanager
    def connected(self, node_id: str, identity: str, envoy_version: str) -> Iterator[StreamStatus]:
        """The proxy has a stream, which ends with the block."""
        self.expect(node_id, identity)
        proxy = self._proxies[node_id]
        proxy.status = replace(proxy.status, envoy_version=envoy_version)
        stream = StreamStatus(self._now(), self._tallies.__getitem__, partial(self._refresh, proxy))
        proxy.streams.append(stream)
        self._refresh(proxy)
        try:
            yield stream
        finally:
            proxy.streams.remove(stream)
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
        return sum(stream.lags() for proxy in self._proxies.values() for stream in proxy.streams)

    def lagging(self) -> tuple[str, ...]:
        """Node ids of the connected proxies that have yet to answer for something that was published."""
        lagging = (proxy for proxy in self._proxies.values() if not proxy.is_forgotten and proxy.lags())
        return tuple(sorted(proxy.status.node_id for proxy in lagging))

    async def wait_synced(self, timeout: timedelta) -> bool:
        """Waits until every connected proxy has answered for all that was published; says whether that came in time.

        What was published before the call is waited for, even when no stream has seen it yet. A refusal is an answer.
        """
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                seen = self.changes.number
                while self.lagging():
                    seen = await self.changes.after(seen)
        except TimeoutError:
            return False
        return True

    def _refresh(self, proxy: _Proxy) -> None:
        status, lags = proxy.status_at(self._now()), proxy.lags()
        if (status, lags) != (proxy.status, proxy.lagged):
            proxy.status, proxy.lagged = status, lags
            self.changes.notify()

    def _drop_if_gone(self, proxy: _Proxy) -> None:
        if proxy.is_forgotten and not proxy.streams:
            del self._proxies[proxy.status.node_id]

"""What the board says of proxies that come, answer, lag and go."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from mesh.registry.status import (
    Delivery,
    ProxyState,
    ProxyStatus,
    ResourceStatus,
    StatusBoard,
    StreamReport,
    StreamStatus,
    Tally,
    TypeStatus,
    Wait,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LONG = timedelta(seconds=30)


@dataclass(frozen=True)
class Standing:
    """How a stream stands, and what it says when it is asked."""

    report: StreamReport
    lags: bool = False
    refuses: bool = False

    def of(self, stream: StreamStatus) -> None:
        stream.report = lambda: self.report
        stream.stands(lags=self.lags, refuses=self.refuses)


SYNCED = Standing(StreamReport(config_version="v1", bytes_sent=10, resources_sent=1))
PENDING = Standing(StreamReport(config_version="v2"), lags=True)
NACKED = Standing(StreamReport(types=(TypeStatus("type", error="bad"),)), refuses=True)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> StatusBoard:
    return StatusBoard(clock)


def the_proxy(board: StatusBoard) -> ProxyStatus:
    [status] = board.proxies()
    return status


def test_a_proxy_that_is_expected_is_listed_as_disconnected(board: StatusBoard) -> None:
    board.expect("b", "spiffe://b")
    board.expect("a", "spiffe://a")

    assert [(one.node_id, one.identity, one.state) for one in board.proxies()] == [
        ("a", "spiffe://a", ProxyState.DISCONNECTED),
        ("b", "spiffe://b", ProxyState.DISCONNECTED),
    ]


def test_a_connected_proxy_is_what_its_stream_reports(board: StatusBoard, clock: Clock) -> None:
    with board.connected("a", "spiffe://a", "1.40.0") as stream:
        assert the_proxy(board).state is ProxyState.PENDING
        clock.now += MINUTE
        SYNCED.of(stream)

        status = the_proxy(board)
        assert (status.state, status.since, status.connected_since) == (ProxyState.SYNCED, NOON + MINUTE, NOON)
        assert (status.envoy_version, status.report) == ("1.40.0", SYNCED.report)
        assert board.proxy("a") == status


def test_the_time_of_a_state_is_when_it_began(board: StatusBoard, clock: Clock) -> None:
    with board.connected("a", "spiffe://a", "") as stream:
        SYNCED.of(stream)
        clock.now += MINUTE
        Standing(StreamReport(config_version="v2")).of(stream)

        assert the_proxy(board).since == NOON


def test_a_refusal_that_stands_comes_before_all_else(board: StatusBoard) -> None:
    with board.connected("a", "spiffe://a", "") as stream:
        NACKED.of(stream)

        assert the_proxy(board).state is ProxyState.NACKED


def test_the_words_of_a_refusal_are_kept_when_it_was_mended(board: StatusBoard) -> None:
    with board.connected("a", "spiffe://a", "") as stream:
        stream.refused("a: bad cluster")
        SYNCED.of(stream)
    with board.connected("a", "spiffe://a", ""):
        pass

    assert the_proxy(board).last_nack == "a: bad cluster"


def test_a_proxy_that_has_gone_keeps_its_last_report(board: StatusBoard, clock: Clock) -> None:
    with board.connected("a", "spiffe://a", "1.40.0") as stream:
        SYNCED.of(stream)
        clock.now += MINUTE

    status = the_proxy(board)
    assert (status.state, status.since, status.connected_since) == (ProxyState.DISCONNECTED, NOON + MINUTE, None)
    assert (status.envoy_version, status.report) == ("1.40.0", SYNCED.report)


def test_two_streams_of_a_proxy_show_the_worse_state_and_the_newer_report(board: StatusBoard) -> None:
    with board.connected("a", "spiffe://a", "1.39.0") as old:
        with board.connected("a", "spiffe://a", "1.40.0") as new:
            PENDING.of(old)
            SYNCED.of(new)
            assert (the_proxy(board).state, the_proxy(board).report) == (ProxyState.PENDING, SYNCED.report)
        assert (the_proxy(board).state, the_proxy(board).report) == (ProxyState.PENDING, PENDING.report)


def test_streams_of_one_type_each_are_seen_as_one_proxy(board: StatusBoard) -> None:
    refused = TypeStatus("clusters", error="bad")
    wait = Wait("routes", "r", (("clusters", "c"),))
    with board.connected("a", "spiffe://a", "") as clusters, board.connected("a", "spiffe://a", "") as routes:
        Standing(StreamReport(types=(refused,)), refuses=True).of(clusters)
        Standing(StreamReport(types=(TypeStatus("routes"),), waits=(wait,))).of(routes)
        clusters.look = lambda: iter([ResourceStatus("clusters", "c", Delivery.REFUSED)])
        routes.look = lambda: iter([ResourceStatus("routes", "r", Delivery.ACCEPTED)])

        assert the_proxy(board).state is ProxyState.NACKED
        assert the_proxy(board).report.types == (refused, TypeStatus("routes"))
        assert the_proxy(board).report.waits == (wait,)
        assert [one.name for one in board.resources("a") or ()] == ["c", "r"]


def test_of_a_type_that_two_streams_follow_the_newer_one_is_seen(board: StatusBoard) -> None:
    with board.connected("a", "spiffe://a", "") as old, board.connected("a", "spiffe://a", "") as new:
        wait = Wait("type", "held", ())
        Standing(StreamReport(types=(TypeStatus("type", sent="v1"),), waits=(wait,))).of(old)
        Standing(StreamReport(types=(TypeStatus("type", sent="v2"),))).of(new)
        old.look = lambda: iter([ResourceStatus("type", "a", Delivery.SENT)])
        new.look = lambda: iter([ResourceStatus("type", "b", Delivery.SENT)])

        assert (the_proxy(board).report.types, the_proxy(board).report.waits) == ((TypeStatus("type", sent="v2"),), ())
        assert [one.name for one in board.resources("a") or ()] == ["b"]


def test_a_forgotten_proxy_is_not_listed(board: StatusBoard) -> None:
    board.expect("a", "spiffe://a")
    board.forget("a")
    board.forget("never there")

    assert board.proxies() == ()
    assert board.proxy("a") is None


def test_a_forgotten_proxy_that_is_connected_is_listed_when_it_is_expected_again(board: StatusBoard) -> None:
    with board.connected("a", "spiffe://a", "") as stream:
        SYNCED.of(stream)
        board.forget("a")
        assert board.proxies() == ()

        board.expect("a", "spiffe://a")
        assert the_proxy(board).state is ProxyState.SYNCED


def test_a_forgotten_proxy_leaves_nothing_behind_when_its_stream_ends(board: StatusBoard) -> None:
    with board.connected("a", "spiffe://a", "") as stream:
        SYNCED.of(stream)
        board.forget("a")

    board.expect("a", "spiffe://a")
    assert the_proxy(board).report == StreamReport()


def test_what_can_be_seen_is_a_change_and_nothing_else(board: StatusBoard) -> None:
    with board.connected("a", "spiffe://a", "") as stream:
        SYNCED.of(stream)
        seen = board.changes.number
        SYNCED.of(stream)
        assert board.changes.number == seen

        PENDING.of(stream)
        assert board.changes.number == seen + 1
        stream.stands(lags=True, refuses=False)
        assert board.changes.number == seen + 1


def test_that_a_proxy_begins_to_lag_can_be_seen(board: StatusBoard) -> None:
    with board.connected("a", "spiffe://a", "") as stream:
        SYNCED.of(stream)
        seen = board.changes.number

        stream.stands(lags=True, refuses=False)
        stream.stands(lags=True, refuses=False)

        assert (board.changes.number, board.lagging()) == (seen + 1, ("a",))


@pytest.mark.parametrize("answered", [SYNCED, NACKED], ids=["synced", "refused"])
async def test_a_wait_ends_when_every_proxy_has_answered(board: StatusBoard, answered: Standing) -> None:
    with board.connected("a", "spiffe://a", "") as a, board.connected("b", "spiffe://b", "") as b:
        PENDING.of(a)
        answered.of(b)
        waiting = asyncio.create_task(board.wait_synced(LONG))
        await asyncio.sleep(0)
        assert board.lagging() == ("a",)
        answered.of(a)

        assert await waiting


async def test_a_change_that_no_stream_has_seen_yet_is_waited_for(board: StatusBoard) -> None:
    with board.connected("a", "spiffe://a", "") as stream:
        SYNCED.of(stream)
        stream.stands(lags=True, refuses=False)
        waiting = asyncio.create_task(board.wait_synced(LONG))
        await asyncio.sleep(0)
        assert board.lagging() == ("a",)
        SYNCED.of(stream)

        assert await waiting


@pytest.mark.parametrize("ends", ["gone", "forgotten"])
async def test_a_proxy_that_goes_is_not_waited_for(board: StatusBoard, ends: str) -> None:
    connection = board.connected("a", "spiffe://a", "")
    connection.__enter__()
    waiting = asyncio.create_task(board.wait_synced(LONG))
    await asyncio.sleep(0)
    assert board.lagging() == ("a",)

    if ends == "forgotten":
        board.forget("a")
    else:
        connection.__exit__(None, None, None)

    assert await waiting


async def test_a_wait_that_takes_too_long_says_so(board: StatusBoard) -> None:
    with board.connected("a", "spiffe://a", ""):
        assert not await board.wait_synced(timedelta(milliseconds=1))


def test_streams_that_are_refused_are_counted_by_reason(board: StatusBoard) -> None:
    for reason, words in (("protocol", "no node id"), ("identity", "not yours"), ("protocol", "no type")):
        board.refuse_stream(reason, words)

    counted = [(refused.reason, refused.count, refused.last) for refused in board.refused_streams()]
    assert counted == [("identity", 1, "not yours"), ("protocol", 2, "no type")]


def test_who_is_connected_can_be_looked_at(board: StatusBoard) -> None:
    board.expect("a", "spiffe://a")
    assert board.resources("a") is None
    assert board.resources("never there") is None

    with board.connected("a", "spiffe://a", "") as stream:
        assert board.resources("a") == ()
        stream.look = lambda: iter([ResourceStatus("type", "name", Delivery.SENT, "v1")])
        assert board.resources("a") == (ResourceStatus("type", "name", Delivery.SENT, "v1"),)
        with board.connected("a", "spiffe://a", ""):
            assert board.proxies()[0].streams == 2
            assert board.resources("a") == (ResourceStatus("type", "name", Delivery.SENT, "v1"),)


def test_messages_are_counted_by_type_also_of_streams_that_have_ended(board: StatusBoard) -> None:
    for _ in range(2):
        with board.connected("a", "spiffe://a", "") as stream:
            stream.tally("type").sent(100)
            stream.tally("type").acks += 1

    assert board.totals() == {"type": Tally(responses=2, bytes=200, acks=2)}


def test_streams_are_counted_as_long_as_they_are_open_and_queued_as_long_as_they_lag(board: StatusBoard) -> None:
    board.expect("b", "spiffe://b")
    with board.connected("a", "spiffe://a", "") as one, board.connected("a", "spiffe://a", ""):
        assert (board.connected_streams, board.queued) == (2, 2)
        SYNCED.of(one)
        assert (board.connected_streams, board.queued) == (2, 1)

    assert (board.connected_streams, board.queued) == (0, 0)

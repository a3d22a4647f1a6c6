"""What the kit promises without a process: deadlines, pages, errors, settings, log lines, transactions."""

import asyncio
import json
import logging
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, select, text, update
from sqlalchemy.exc import OperationalError

from kit import errors, paging, settings
from kit.deadline import timeout_for
from kit.errors import AlreadyExists, Invalid, NotFound, StartError, Unmet, Violation
from kit.interceptors import domain
from kit.logging import Lines
from kit.status import status_of

TABLES = MetaData()
COUNTERS = Table("counters", TABLES, Column("id", Integer, primary_key=True), Column("value", Integer, nullable=False))


@pytest.mark.parametrize(
    ("own", "end", "default", "expected"),
    [
        pytest.param(None, None, None, None, id="a stream without any deadline has none"),
        pytest.param(None, None, 5.0, 5.0, id="a unary call without any deadline gets the default"),
        pytest.param(1.0, None, 5.0, 1.0, id="its own timeout wins over the default"),
        pytest.param(9.0, None, 5.0, 9.0, id="also when it is longer"),
        pytest.param(None, 102.0, 5.0, 1.98, id="what is left of the incoming call, less the margin"),
        pytest.param(None, 160.0, 5.0, 59.98, id="also when that is more than the default"),
        pytest.param(1.0, 102.0, 5.0, 1.0, id="the least of both"),
        pytest.param(3.0, 102.0, 5.0, 1.98, id="the least of both, the other way round"),
        pytest.param(None, 100.01, 5.0, 0.0, id="nothing is left"),
    ],
)
def test_a_call_gets_what_the_incoming_one_leaves(own, end, default, expected):
    assert timeout_for(own, end, 100.0, default) == (None if expected is None else pytest.approx(expected))


def test_a_page_token_leads_back_to_its_key():
    assert paging.key_before(paging.token_after(123456789)) == 123456789
    assert paging.key_before("") is None


@pytest.mark.parametrize("token", ["x", "!!!", "LTE=", "OTk5OTk5OTk5OTk5OTk5OTk5OTk=", "1", "é", "MQ==\n"])
def test_a_page_token_of_somebody_else_is_invalid(token):
    with pytest.raises(Invalid, match="page_token"):
        paging.key_before(token)


def test_the_page_size_has_a_default_and_a_limit():
    assert [paging.page_size(asked) for asked in (0, 1, 100, 101)] == [20, 1, 100, 100]
    with pytest.raises(Invalid, match="page_size"):
        paging.page_size(-1)


def test_check_names_every_rule_that_does_not_hold():
    with pytest.raises(Invalid) as caught:
        errors.check((False, "a", "is bad"), (True, "b", "is bad"), (False, "c", "is worse"))

    assert caught.value.violations == (Violation("a", "is bad"), Violation("c", "is worse"))


@pytest.mark.parametrize(
    ("refusal", "code"),
    [(Invalid, 3), (NotFound, 5), (AlreadyExists, 6), (Unmet, 9)],
    ids=["INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION"],
)
def test_each_refusal_has_its_code_and_a_reason_for_programs(refusal, code):
    status = status_of(refusal("WHY", "because", {"id": "7"}), "bookstore.orders.v1")

    assert (status.code, status.message) == (code, "because")
    assert status.details[0].type_url.endswith("google.rpc.ErrorInfo")


@pytest.mark.parametrize("refusal", [Invalid, Unmet])
def test_a_status_stays_small_enough_for_headers(refusal):
    many = tuple(Violation(f"books/{number}", "1000 wanted, 999999 available") for number in range(10**6, 10**6 + 500))

    status = status_of(refusal("WHY", "é" * 5000, violations=many), "bookstore.orders.v1")

    assert status.ByteSize() < 4096


def test_the_domain_of_an_error_is_the_proto_package():
    assert domain("/bookstore.orders.v1.OrderService/GetOrder") == "bookstore.orders.v1"


def test_settings_have_defaults_but_for_the_port():
    read = settings.read({"PORT": "50051"})

    assert (read.host, read.port, read.grace) == ("127.0.0.1", 50051, timedelta(seconds=8))
    assert (read.data_dir, read.reflection) == (Path.cwd() / "data", True)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        pytest.param({}, "PORT: this variable is not set. Set it to a port, 0 to 65535", id="no port"),
        pytest.param({"PORT": "x"}, "PORT: 'x' is not a port", id="a port that is no number"),
        pytest.param({"PORT": "70000"}, "PORT: '70000' is not a port", id="a port out of range"),
        pytest.param({"PORT": "1", "GRACE_SECONDS": "nan"}, "GRACE_SECONDS: 'nan'", id="a grace that is no time"),
        pytest.param({"PORT": "1", "LOG_FORMAT": "xml"}, "LOG_FORMAT: 'xml' is not plain or json", id="a format"),
        pytest.param({"PORT": "1", "LOG_LEVEL": "loud"}, "LOG_LEVEL: 'loud'", id="a log level"),
    ],
)
def test_a_bad_setting_is_named(environment, message):
    with pytest.raises(StartError, match=message):
        settings.read(environment)


@pytest.mark.parametrize("address", ["", "here", ":1", "host:", "host:http"])
def test_an_address_needs_host_and_port(address):
    with pytest.raises(StartError, match="CATALOG_ADDR"):
        settings.read({"PORT": "1", "CATALOG_ADDR": address}).address("CATALOG_ADDR")


def test_a_log_line_is_an_event_and_its_fields():
    record = logging.LogRecord("orders", logging.INFO, "", 0, "order_placed", (), None)
    record.fields = {"order": "o-1", "total": 9498}

    assert Lines("plain").format(record).endswith("INFO    orders order_placed order=o-1 total=9498")
    line = json.loads(Lines("json").format(record))
    assert {key: line[key] for key in ("event", "order", "total")} == {
        "event": "order_placed",
        "order": "o-1",
        "total": 9498,
    }


async def one_counter(transaction):
    await transaction.execute(text("INSERT OR IGNORE INTO counters VALUES (1, 0)"))


async def value(database):
    async with database.read() as transaction:
        return (await transaction.execute(select(COUNTERS.c.value))).scalar_one()


async def increment(database):
    """Reads, then writes: what loses updates if the lock is taken between the two."""
    async with database.write() as transaction:
        seen = (await transaction.execute(select(COUNTERS.c.value))).scalar_one()
        await asyncio.sleep(0)
        await transaction.execute(update(COUNTERS).values(value=seen + 1))


async def test_no_update_is_lost_between_tasks_and_processes(open_database):
    first, second = await open_database(TABLES, one_counter), await open_database(TABLES, one_counter)

    await asyncio.gather(*(increment(database) for database in (first, second) for _ in range(20)))

    assert await value(first) == 40


async def test_a_transaction_that_fails_leaves_nothing(open_database):
    database = await open_database(TABLES, one_counter)

    async def fail():
        async with database.write() as transaction:
            await transaction.execute(update(COUNTERS).values(value=7))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert await value(database) == 0


async def test_a_caller_who_leaves_at_any_moment_leaves_no_lock_and_no_half_change(open_database):
    database = await open_database(TABLES, one_counter)
    finished = 0
    for turns in range(60):
        task = asyncio.create_task(increment(database))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        finished += not isinstance((await asyncio.gather(task, return_exceptions=True))[0], BaseException)

    before = await value(database)
    async with asyncio.timeout(3):
        await increment(database)

    assert await value(database) == before + 1
    assert finished <= before <= 60


async def test_a_reader_cannot_write(open_database):
    database = await open_database(TABLES, one_counter)

    async with database.read() as transaction:
        with pytest.raises(OperationalError, match="readonly"):
            await transaction.execute(update(COUNTERS).values(value=7))


async def test_the_folder_of_a_database_is_private(open_database, tmp_path):
    await open_database(TABLES)

    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700

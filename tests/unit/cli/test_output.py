"""Answers on the screen."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from mesh.cli.options import Format
from mesh.cli.output import ago, as_json, plain, table, write

NOW = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(seconds=59.9), "59s"),
        (timedelta(minutes=3, seconds=10), "3m10s"),
        (timedelta(hours=2, minutes=5, seconds=1), "2h5m"),
        (timedelta(days=4, hours=7), "4d"),
        (timedelta(seconds=-3), "0s"),
    ],
)
def test_how_long_ago(since: timedelta, text: str) -> None:
    assert ago(NOW - since, NOW) == text


def test_a_plain_table_can_be_cut_into_columns() -> None:
    text = plain(("name", "state"), [("orders", "SYNCED"), ("a", "")])

    assert text.splitlines() == ["NAME    STATE", "orders  SYNCED", "a       -"]


def test_without_rows_the_answer_is_a_sentence_and_stdout_stays_empty(capsys: pytest.CaptureFixture[str]) -> None:
    table(("name",), [], empty="There is no proxy.")

    assert capsys.readouterr() == ("", "There is no proxy.\n")


def test_json_has_the_fields_that_are_empty(capsys: pytest.CaptureFixture[str]) -> None:
    from mesh.api.proa.v1.status_pb2 import Proxy

    write(as_json(Proxy(node_id="a/b/c")), Format.JSON)

    printed = json.loads(capsys.readouterr().out)
    assert printed["nodeId"] == "a/b/c"
    assert printed["lastNack"] == ""
    assert printed["types"] == []
    assert printed["bytesSent"] == 0


def test_yaml_keeps_the_order_of_fields(capsys: pytest.CaptureFixture[str]) -> None:
    write({"kind": "Mesh", "apiVersion": "ü"}, Format.YAML)

    assert capsys.readouterr().out == "kind: Mesh\napiVersion: ü\n"


@pytest.mark.parametrize("width", [30, 80, 200])
def test_a_terminal_of_any_width_shows_whole_addresses(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))

    table(("instance", "address", "calls"), [("bookstore/orders-0", "127.0.0.1:28641", "a=127.0.0.1:1 " * 4)], empty="")

    out = capsys.readouterr().out
    assert "bookstore/orders-0" in out
    assert "127.0.0.1:28641" in out
    assert "…" not in out


def test_a_narrow_terminal_shows_the_title_of_an_empty_column(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")

    table(("proxy", "last NACK"), [("bookstore/orders/orders-0", "")], empty="")

    assert "…" not in capsys.readouterr().out

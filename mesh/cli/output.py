"""Answers on the screen: tables for people, JSON and YAML for programs."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol, TextIO

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from mesh.cli.options import ConfigFormat, Format


def as_json(message: Message) -> dict[str, Any]:
    """With every field, also those that are empty, so that a program finds what it looks for."""
    plain: dict[str, Any] = MessageToDict(message, always_print_fields_with_no_presence=True)
    _make_numbers(message.DESCRIPTOR, plain)
    return plain


def _make_numbers(descriptor: Any, plain: dict[str, Any]) -> None:
    """Protobuf's JSON has 64-bit numbers as text; ours are counts, which every reader of JSON can hold."""
    for field in descriptor.fields:
        value = plain.get(field.json_name)
        if field.cpp_type == field.CPPTYPE_INT64 and isinstance(value, str):
            plain[field.json_name] = int(value)
        elif field.message_type:
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, dict):
                    _make_numbers(field.message_type, part)


def show(answer: Message, output: Format, columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """An answer as a table of `rows`, or for a program with all that is in it."""
    if output is Format.TABLE:
        table(columns, rows, empty=empty)
    else:
        write(as_json(answer), output)


def write(value: Any, output: Format | ConfigFormat) -> None:
    """`value` as JSON, or as YAML; a list of documents in YAML is a stream of them."""
    if output == Format.JSON:
        print(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        print(as_yaml(value), end="")


def as_yaml(value: Any) -> str:
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """A table: with colours on a terminal, plain columns otherwise. Without rows says `empty`, on stderr."""
    rows = list(rows)
    if not rows:
        print(empty, file=sys.stderr)
    elif sys.stdout.isatty():
        _on_terminal(columns, rows)
    else:
        print(plain(columns, rows))


def plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """One line per row, for a file or a pipe; an empty cell is a dash, so that columns can be counted."""
    lines = [[column.upper() for column in columns], *[[" ".join(cell.split()) or "-" for cell in row] for row in rows]]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


MAX_WIDTH = 10_000
COLOURS = {"SYNCED": "green", "PENDING": "yellow", "NACKED": "red", "DISCONNECTED": "red"}


def _on_terminal(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for column in columns[:-1]:
        drawn.add_column(column.upper(), no_wrap=True)
    drawn.add_column(
        columns[-1].upper(), min_width=max(len(word) for row in [columns, *rows] for word in ["", *row[-1].split()])
    )
    for row in rows:
        drawn.add_row(*[Text(cell, style=COLOURS.get(cell, "")) for cell in row])
    console = Console()
    # Half an address is worth nothing: what does not fit is left to the terminal to wrap.
    needed = Measurement.get(console, console.options.update(max_width=MAX_WIDTH), drawn).minimum
    Console(width=max(console.width, needed)).print(drawn)


def count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def ago(then: datetime, now: datetime) -> str:
    """How long it is since `then`, in one unit or two: `42s`, `3m10s`, `2h5m`, `4d`."""
    seconds = max(0, int((now - then).total_seconds()))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60}m"
    return f"{seconds // 86400}d"


@contextmanager
def perhaps_unread(stream: TextIO) -> Iterator[None]:
    """For a command that goes on although nobody reads any more: a closed terminal, a pipe into `head`."""
    try:
        yield
        stream.flush()
    except OSError:
        # What is in the buffer must not fail again when Python flushes it at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def say(text: str, stream: TextIO) -> None:
    with perhaps_unread(stream):
        print(text, file=stream)


class Problem(Protocol):
    where: str
    problem: str
    remedy: str


def report(problems: Iterable[Problem], grade: str = "error") -> None:
    """A line for each problem, on stderr."""
    for one in problems:
        print(f"{grade}: {one.where}: {one.problem}. {one.remedy}", file=sys.stderr)

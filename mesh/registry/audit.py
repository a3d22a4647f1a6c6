"""The audit log: who has changed what, and when; what was there before and after. Bounded: the oldest go."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import delete, func, insert, select
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from mesh.model.documents import Key
from mesh.registry.access_rows import AUDIT
from mesh.registry.state import Kept, State

MOST: Final = 10_000
LONGEST: Final = 16 * 1024
"""Characters of what was there before, and of what is there now."""

K = TypeVar("K")
V = TypeVar("V")

HIDDEN: Final = "***"
CHANGED: Final = "*** (changed)"


@dataclass(frozen=True, slots=True)
class Entry:
    """`old` and `new` are empty where there was or is nothing."""

    at: datetime
    who: str
    what: str
    subject: str
    old: str = ""
    new: str = ""


def entries(before: State, after: State, at: datetime, who: str) -> tuple[Entry, ...]:
    """What has changed between the two, as far as somebody has asked for it. Pure."""
    return tuple(Entry(at, who, *change) for change in _changes(before, after))


async def add(connection: AsyncConnection, new: Iterable[Entry]) -> None:
    """Writes them in the transaction of the change itself: there is no change without its entry."""
    rows = [_row(entry) for entry in new]
    if not rows:
        return
    await connection.execute(insert(AUDIT), rows)
    newest = (await connection.execute(select(func.max(AUDIT.c.number)))).scalar_one()
    await connection.execute(delete(AUDIT).where(AUDIT.c.number <= newest - MOST))


async def newest(connection: AsyncConnection, most: int) -> tuple[Entry, ...]:
    """The newest first."""
    chosen = select(AUDIT).order_by(AUDIT.c.number.desc()).limit(most)
    return tuple(_entry(row) for row in (await connection.execute(chosen)).mappings())


def _changes(before: State, after: State) -> Iterator[tuple[str, str, str, str]]:
    yield from _documents("file", before.file, after.file)
    yield from _documents("applied", before.applied, after.applied)
    for key, was, now in _differences(before.operations, after.operations):
        yield "workload operated", str(key), _operation(was), _operation(now)
    for name, _, since in _differences(before.revoked, after.revoked):
        yield "identity revoked" if since else "identity restored", name, "", ""
    for origin, had, has in _differences(before.known, after.known):
        if origin.service:
            subject = f"{origin.namespace}/{origin.service}"
            yield (
                "schema pushed" if has else "schema deleted",
                subject,
                had.digest if had else "",
                has.digest if has else "",
            )


def _documents(label: str, old: Mapping[Key, Kept], new: Mapping[Key, Kept]) -> Iterator[tuple[str, str, str, str]]:
    for key, was, now in _differences(old, new):
        was_json, now_json = (json.loads(one.written.json) if one else None for one in (was, now))
        if was_json != now_json:
            what = "created" if was is None else "deleted" if now is None else "changed"
            yield f"document {what} ({label})", str(key), _told(was_json, was_json), _told(now_json, was_json)


def _differences(old: Mapping[K, V], new: Mapping[K, V]) -> Iterator[tuple[K, V | None, V | None]]:
    for key in sorted({**old, **new}, key=str):
        was, now = old.get(key), new.get(key)
        if was is not now and was != now:
            yield key, was, now


def _told(document: Any, before: Any) -> str:
    """Its text without what may be secret; whether that has changed is told."""
    if document is None:
        return ""
    return _short(json.dumps(_redacted(document, before or {}), sort_keys=True))


def _redacted(document: Mapping[str, Any], before: Mapping[str, Any]) -> Mapping[str, Any]:
    """Any variable of a workload may be a password, and everything in a Secret is one."""
    told = dict(document)
    for field in ("data", "stringData"):
        if isinstance(values := document.get(field), dict):
            told[field] = _hidden(values, before.get(field) or {})
    spec = document.get("spec")
    if isinstance(spec, dict) and isinstance(values := spec.get("env"), dict):
        told["spec"] = {**spec, "env": _hidden(values, (before.get("spec") or {}).get("env") or {})}
    return told


def _hidden(values: Mapping[str, Any], before: Mapping[str, Any]) -> Mapping[str, str]:
    return {name: HIDDEN if before.get(name, value) == value else CHANGED for name, value in values.items()}


def _operation(operation: Any) -> str:
    if operation is None:
        return ""
    replicas = "as written" if operation.replicas is None else operation.replicas
    return f"replicas: {replicas}, restarts: {operation.restarts}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ({len(text) - LONGEST} characters more)"


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "at": entry.at.isoformat(),
        "who": entry.who,
        "what": entry.what,
        "subject": entry.subject,
        "old": _short(entry.old),
        "new": _short(entry.new),
    }


def _entry(row: RowMapping) -> Entry:
    return Entry(datetime.fromisoformat(row["at"]), row["who"], row["what"], row["subject"], row["old"], row["new"])

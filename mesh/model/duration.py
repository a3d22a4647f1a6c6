"""Durations as Gateway API writes them (GEP-2257): `250ms`, `1m30s`."""

import re
from datetime import timedelta
from typing import Final

# Always with fullmatch: to `$` a newline at the end is no difference.
_DURATION: Final = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}")
_UNITS: Final = {
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}


def duration(text: str) -> timedelta:
    """Raises ValueError for anything else."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration; write for example 250ms, 5s or 1m30s")
    return sum((int(n) * _UNITS[unit] for n, unit in re.findall(r"([0-9]+)(ms|h|m|s)", text)), timedelta())


def shown(length: timedelta) -> str:
    """As `duration` reads it, to the millisecond."""
    rest, parts = round(length / timedelta(milliseconds=1)), []
    for unit, one in _UNITS.items():
        count, rest = divmod(rest, one // timedelta(milliseconds=1))
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"

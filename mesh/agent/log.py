"""The agent's own log: one line for each event, with its fields, on stderr."""

import json
import sys
from datetime import UTC, datetime

from mesh.model.printable import printable


def log(event: str, **fields: object) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    print(now, event, *(f"{name}={_text(value)}" for name, value in fields.items()), file=sys.stderr, flush=True)


def _text(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not set(text) & set(' "='):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return printable(quoted, len(quoted))

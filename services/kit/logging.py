"""Log lines: an event and its fields, as text for people or as JSON for machines. What libraries log looks the same."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

Format = Literal["plain", "json"]


class Log:
    """`log.info("order_placed", order=order.id)`: the event is a word that never changes, what varies is a field."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def info(self, event: str, **fields: object) -> None:
        self._logger.info(event, extra={"fields": fields})

    def warning(self, event: str, **fields: object) -> None:
        self._logger.warning(event, extra={"fields": fields})

    def unforeseen(self, event: str, error: Exception, **fields: object) -> None:
        """An error that nobody foresaw, with its traceback."""
        self._logger.error(event, extra={"fields": fields}, exc_info=error)


def get(name: str) -> Log:
    return Log(logging.getLogger(name))


def configure(level: str, form: Format) -> None:
    """All log lines of this process go to stderr. Call it once, at the start."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(form))
    logging.basicConfig(level=level, handlers=[handler], force=True)


class Lines(logging.Formatter):
    def __init__(self, form: Format) -> None:
        super().__init__()
        self._line = json_line if form == "json" else plain_line

    def format(self, record: logging.LogRecord) -> str:
        fields = dict(getattr(record, "fields", {}))
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return self._line(record, fields)


def json_line(record: logging.LogRecord, fields: dict[str, object]) -> str:
    head = {"time": moment(record), "level": record.levelname, "logger": record.name, "event": record.getMessage()}
    return json.dumps(head | fields, default=str, ensure_ascii=False)


def plain_line(record: logging.LogRecord, fields: dict[str, object]) -> str:
    traceback = fields.pop("traceback", None)
    said = "".join(f" {name}={value!s}" for name, value in fields.items())
    line = f"{moment(record)} {record.levelname:<7} {record.name} {record.getMessage()}{said}"
    return line if traceback is None else f"{line}\n{traceback}"


def moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")

"""`proa/v1/options.proto` in a proto, as values. What makes no sense is left out, with a sentence."""

import re
from datetime import timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from mesh.api.proa.v1 import options_pb2
from mesh.model.schema import CallOptions, RateLimit
from mesh.model.traffic import Retry, Timeouts

LONGEST: Final = timedelta(days=365)
MOST_RETRIES: Final = 10
MOST_REQUESTS: Final = 1_000_000_000
MOST_CALLERS: Final = 100

_CALLER: Final = re.compile(r"([a-z0-9][a-z0-9.-]{0,252}/)?[a-z0-9][a-z0-9.-]{0,252}")


def call_options(message: options_pb2.CallOptions, where: str, problems: list[str]) -> CallOptions:
    """Adds to `problems` for what is not within bounds; `where` is the method or service that says it."""
    reader = _Reader(where, problems)
    return CallOptions(
        timeouts=reader.timeouts(message.timeouts) if message.HasField("timeouts") else None,
        retry=reader.retry(message.retry) if message.HasField("retry") else None,
        rate_limit=reader.rate_limit(message.rate_limit) if message.HasField("rate_limit") else None,
        callers=reader.callers(message.authorization),
    )


class _Reader:
    def __init__(self, where: str, problems: list[str]) -> None:
        self._where = where
        self._problems = problems

    def timeouts(self, said: options_pb2.CallOptions.Timeouts) -> Timeouts:
        names = ("request", "stream_idle", "max_stream_duration")
        return Timeouts(*(self._duration(said, name, f"timeouts.{name}") for name in names))

    def retry(self, said: options_pb2.CallOptions.Retry) -> Retry:
        per_retry, back_off = said.per_retry, said.per_retry.back_off
        base = self._duration(back_off, "base_interval", "back_off.base_interval")
        longest = self._duration(back_off, "max_interval", "back_off.max_interval")
        if base and longest and longest < base:
            self._problem("back_off.max_interval is shorter than base_interval")
            longest = None
        return Retry(
            disabled=said.disabled if said.HasField("disabled") else None,
            num_retries=self._num_retries(said.num_retries) if said.HasField("num_retries") else None,
            triggers=self._triggers(said.retry_on),
            per_try_timeout=self._duration(per_retry, "timeout", "per_retry.timeout"),
            base_interval=base,
            max_interval=longest,
        )

    def rate_limit(self, said: options_pb2.CallOptions.RateLimit) -> RateLimit | None:
        per = self._duration(said, "per", "rate_limit.per")
        if per and 1 <= said.requests <= MOST_REQUESTS:
            return RateLimit(said.requests, per)
        self._problem("rate_limit needs `requests` and `per`")
        return None

    def callers(self, said: options_pb2.CallOptions.Authorization) -> tuple[str, ...]:
        good = sorted({caller for caller in said.callers if _CALLER.fullmatch(caller)})[:MOST_CALLERS]
        if len(good) < len(said.callers):
            self._problem("authorization.callers are not all different names of service accounts")
        return tuple(good)

    def _num_retries(self, number: int) -> int | None:
        if 1 <= number <= MOST_RETRIES:
            return number
        self._problem(f"retry.num_retries is {number}, not 1 to {MOST_RETRIES}")
        return None

    def _triggers(self, said: options_pb2.CallOptions.Retry.RetryOn) -> tuple[str, ...] | None:
        known = options_pb2.CallOptions.Trigger.DESCRIPTOR.values_by_number
        if any(trigger not in known or trigger == 0 for trigger in said.triggers):
            self._problem("retry.retry_on.triggers holds one that this Proa does not know")
        found = {_words(known[trigger].name) for trigger in said.triggers if trigger in known and trigger}
        return tuple(sorted(found)) or None

    def _duration(self, said: Message, name: str, shown: str) -> timedelta | None:
        if not said.HasField(name):
            return None
        message: Duration = getattr(said, name)
        # Not ToTimedelta: it fails for what no timedelta can hold.
        seconds = message.seconds + message.nanos / 1e9
        if 0 < seconds <= LONGEST.total_seconds() and (value := timedelta(seconds=seconds)):
            return value
        self._problem(f"{shown} is not within 1 microsecond and {LONGEST.days} days")
        return None

    def _problem(self, text: str) -> None:
        self._problems.append(f"{self._where}: {text}")


def _words(name: str) -> str:
    """`TRIGGER_CONNECT_FAILURE` as documents write it."""
    return name.removeprefix("TRIGGER_").lower().replace("_", "-")

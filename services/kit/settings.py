"""What a service is told by its environment, read once at the start.

| variable         | meaning                                                        | default   |
|------------------|----------------------------------------------------------------|-----------|
| HOST, PORT       | where to listen; port 0: any free one, told in the log         | 127.0.0.1 |
| DATA_DIR         | folder of the database; made when absent                       | ./data    |
| GRACE_SECONDS    | how long calls may take to end after SIGTERM                   | 8         |
| LOG_LEVEL        | DEBUG, INFO, WARNING or ERROR                                  | INFO      |
| LOG_FORMAT       | plain or json                                                  | plain     |
| REFLECTION       | on or off: whether callers may ask for the protos              | on        |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar, cast

from kit.errors import StartError
from kit.logging import Format

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    host: str
    port: int
    data_dir: Path
    grace: timedelta
    log_level: str
    log_format: Format
    reflection: bool
    environment: Mapping[str, str]

    def address(self, name: str) -> str:
        """The `host:port` in the variable `name`, which has to be there."""
        return parse(self.environment, name, None, host_and_port, "an address like 127.0.0.1:50051")

    def number(self, name: str, default: int) -> int:
        """The whole number, 0 or more, in the variable `name`."""
        return parse(self.environment, name, str(default), natural, "a whole number, 0 or more")


def read(environment: Mapping[str, str]) -> Settings:
    """Raises StartError for the first variable that is missing or cannot be used."""
    return Settings(
        host=environment.get("HOST") or "127.0.0.1",
        port=parse(environment, "PORT", None, port, "a port, 0 to 65535"),
        data_dir=Path(environment.get("DATA_DIR") or "data").absolute(),
        grace=parse(environment, "GRACE_SECONDS", "8", seconds, "a number of seconds, 0 or more"),
        log_level=parse(environment, "LOG_LEVEL", "INFO", one_of("DEBUG", "INFO", "WARNING", "ERROR"), "a log level"),
        log_format=cast(Format, parse(environment, "LOG_FORMAT", "plain", one_of("plain", "json"), "plain or json")),
        reflection=parse(environment, "REFLECTION", "on", one_of("on", "off"), "on or off") == "on",
        environment=environment,
    )


def parse(environment: Mapping[str, str], name: str, default: str | None, read: Callable[[str], T], expected: str) -> T:
    text = environment.get(name) or default
    if text is None:
        raise StartError(name, "this variable is not set", f"Set it to {expected}")
    try:
        return read(text)
    except ValueError:
        raise StartError(name, f"{text!r} is not {expected}", "Change this variable") from None


def natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def port(text: str) -> int:
    number = natural(text)
    if number > 65535:
        raise ValueError(text)
    return number


def seconds(text: str) -> timedelta:
    number = float(text)
    if not 0 <= number < 1e6:
        raise ValueError(text)
    return timedelta(seconds=number)


def host_and_port(text: str) -> str:
    host, _, number = text.rpartition(":")
    if not host or not port(number):
        raise ValueError(text)
    return text


def one_of(*words: str) -> Callable[[str], str]:
    """Any case is taken; the word is given back as written here."""

    def read(text: str) -> str:
        for word in words:
            if text.lower() == word.lower():
                return word
        raise ValueError(text)

    return read

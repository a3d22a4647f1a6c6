"""Where something listens."""

from dataclasses import dataclass
from typing import Final

HIGHEST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True, order=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Raises ValueError for text that is not `host:port`."""
        host, _, port = text.rpartition(":")
        if not (host and port.isascii() and port.isdecimal() and int(port) <= HIGHEST_PORT):
            raise ValueError(f"{text!r} is not host:port")
        return cls(host, int(port))

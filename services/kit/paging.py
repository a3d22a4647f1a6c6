"""Page sizes and page tokens of List methods: https://google.aip.dev/158."""

import base64
import binascii
import re
from typing import Final

from kit.errors import check

DEFAULT_SIZE: Final = 20
MAX_SIZE: Final = 100


def page_size(asked: int) -> int:
    check((asked >= 0, "page_size", "has to be 0 or more"))
    return min(asked or DEFAULT_SIZE, MAX_SIZE)


def token_after(key: int) -> str:
    """Asks for what follows the row of this key. Opaque to callers, so that it may change."""
    return base64.urlsafe_b64encode(str(key).encode()).decode()


def key_before(token: str) -> int | None:
    """The key that the page begins after; None on the first page.

    Raises Invalid for a token that `token_after` did not give.
    """
    if not token:
        return None
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    # 18 digits fit into the 64 bits that SQLite has.
    check((re.fullmatch(r"[0-9]{1,18}", text) is not None, "page_token", "is not one that this method gave"))
    return int(text)

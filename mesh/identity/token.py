"""Tokens: what somebody shows once to get a first certificate. Pure; the key and the time are arguments.

A token says by itself what it is for and until when, so that most of what is wrong is refused without looking anything
up. How often it was used, and whether it was revoked, is in the registry.
"""

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from mesh.errors import AccessError

VERSION: Final = "proa1"
LONGEST: Final = 2048
"""Characters of a token. It comes from whoever can reach the port."""

ANOTHER: Final = "Have a new one made: proa token create"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token with this `id` is for: the certificate of a workload's account, or of somebody with a `role`."""

    id: str
    expires: datetime
    namespace: str = ""
    service_account: str = ""
    role: str = ""

    @property
    def subject(self) -> str:
        """For people."""
        return f"role {self.role}" if self.role else f"{self.namespace}/{self.service_account}"


def signed(claims: Claims, key: bytes) -> str:
    """The token. Whoever has it can use it: it is for one pair of eyes, and for no log."""
    said = [claims.id, int(claims.expires.timestamp()), claims.namespace, claims.service_account, claims.role]
    content = _text(json.dumps(said, separators=(",", ":")).encode())
    return f"{VERSION}.{content}.{_text(_mac(content, key))}"


def read(text: str, key: bytes, now: datetime) -> Claims:
    """What the token says. Raises AccessError for one that was not signed with `key`, or has expired."""
    match text.strip().split(".") if len(text) <= LONGEST else []:
        case [version, content, mac] if version == VERSION and _is_signed(content, mac, key):
            id_, expires, namespace, account, role = json.loads(_bytes(content))
        case _:
            raise AccessError("token", "this is no token of this mesh", ANOTHER)
    claims = Claims(id_, datetime.fromtimestamp(expires, UTC), namespace, account, role)
    if claims.expires <= now:
        raise AccessError(f"token {claims.id}", f"it has expired at {claims.expires:%Y-%m-%d %H:%M:%S}Z", ANOTHER)
    return claims


def _is_signed(content: str, mac: str, key: bytes) -> bool:
    try:
        return hmac.compare_digest(_bytes(mac), _mac(content, key))
    except ValueError:
        return False


def _mac(content: str, key: bytes) -> bytes:
    return hmac.digest(key, f"{VERSION}.{content}".encode(), hashlib.sha256)


def _text(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))

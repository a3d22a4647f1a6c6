"""Identities and certificates that are taken back. Pure."""

from dataclasses import replace
from datetime import datetime
from typing import Final

from mesh.errors import LimitError, NotFoundError
from mesh.registry.state import State

MOST: Final = 1000
"""Every proxy is told of each identity among them."""


def revoked(state: State, name: str, now: datetime) -> State:
    """`name` is a SPIFFE id or the serial number of a certificate. Raises LimitError."""
    if name in state.revoked:
        return state
    if len(state.revoked) >= MOST:
        raise LimitError("revoked", f"there are {MOST} already", "Rotate the root, and restore those: proa ca rotate")
    return replace(state, revoked={**state.revoked, name: now})


def restored(state: State, name: str) -> State:
    """Raises NotFoundError when it was not revoked."""
    if name not in state.revoked:
        raise NotFoundError(name, "it is not revoked", "List what is: proa identity list")
    return replace(state, revoked={one: since for one, since in state.revoked.items() if one != name})

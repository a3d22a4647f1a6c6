"""How an instance ends without failing a call."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from enum import Enum, auto
from typing import Final

from mesh.agent.attachment import Attachment
from mesh.agent.envoy import Admin
from mesh.agent.log import log
from mesh.errors import UnreachableError

POLL: Final = 0.1


class Departure(Enum):
    """LEAVES: this instance, others stay, so callers are told. MESH_ENDS: callers leave by themselves."""

    LEAVES = auto()
    MESH_ENDS = auto()


async def callers_gone(departure: Departure, attachment: Attachment, admin: Admin, drain: timedelta) -> None:
    """Returns when nobody calls the instance any more, or when `drain` has passed."""
    try:
        async with asyncio.timeout(drain.total_seconds()):
            if departure is Departure.LEAVES and attachment.is_known:
                await attachment.drain()
                log("drained")
                with suppress(UnreachableError):
                    await admin.drain_inbound()
            with suppress(UnreachableError):  # no Envoy, no connections
                while await admin.inbound_connections():  # noqa: ASYNC110 (Envoy tells nobody)
                    await asyncio.sleep(POLL)
    except TimeoutError:
        log("drain_timed_out", after=f"{drain.total_seconds():g}s")

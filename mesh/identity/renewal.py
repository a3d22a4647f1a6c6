"""When a certificate is to be renewed. Imports nothing, so that an agent may use it, too."""

from datetime import datetime, timedelta
from typing import Final

JITTER: Final = 0.1
"""Share of the lifetime by which renewals are spread, so that instances started together do not renew together."""


def renewal_time(issued: datetime, lifetime: timedelta, chance: float) -> datetime:
    """At half of the lifetime, give or take a tenth of it. `chance` is from 0 up to 1."""
    return issued + lifetime * (0.5 + JITTER * (2 * chance - 1))

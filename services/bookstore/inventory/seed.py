"""The copies that a new inventory has: of the books that a new catalog has."""

from sqlalchemy.dialects.sqlite import insert

from inventory.store import STOCK
from kit import Transaction

# Enough to place orders all day. Of book 13 there are only three, so that an order can be refused.
SEED = dict.fromkeys((*range(1, 21), 42), 100_000) | {13: 3}


async def seed(transaction: Transaction) -> None:
    """Adds the books that are missing; leaves the counts of the others alone."""
    rows = [{"book_id": book_id, "available": copies, "reserved": 0} for book_id, copies in SEED.items()]
    await transaction.execute(insert(STOCK).on_conflict_do_nothing(), rows)

"""What somebody probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches

from mesh.errors import NotFoundError


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """A remedy: the nearest known word, or `otherwise` when none is near."""
    by_lower = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), by_lower, n=1)
    return f"Did you mean {by_lower[near[0]]}?" if near else otherwise


def not_found(where: str, what: str, word: str, known: Iterable[str], listed: str) -> NotFoundError:
    """That there is no such `what`: with the nearest of the known words, or with all of them after `listed`."""
    names = sorted(set(known))
    remedy = did_you_mean(word, names, f"{listed}: {', '.join(names) or 'none'}")
    return NotFoundError(where, f"there is no such {what}", remedy)

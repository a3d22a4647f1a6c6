"""What peers say ends on somebody's terminal."""


def printable(text: str, longest: int) -> str:
    """At most `longest` characters of it, a space for each that moves a cursor, begins a line or turns text round."""
    return "".join(one if one.isprintable() else " " for one in text[:longest])

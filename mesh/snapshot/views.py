"""Views as bytes, made piece by piece."""

from mesh.policy.view import ProxyView
from mesh.snapshot.memo import Memo
from mesh.snapshot.resource import Resource, digest
from mesh.snapshot.seal import Part, by_name, part_of, sealed
from mesh.translate.resources import Piece, pieces_of


class ViewSeal:
    """What the views of one mesh become. What they have in common is made once, and is one object in all of them.

    A part is remembered as long as somebody has it, and a piece as long as a part is made of it: the memos keep their
    keys. So after a change only what the change is about is translated and serialised, and nothing is kept of what
    nobody has any more.
    """

    def __init__(self) -> None:
        self._parts = Memo(self._part)
        self._named = Memo(by_name)
        self._joined = Memo(joined)
        self._pieces = Memo(self._sealed)

    def part(self, view: ProxyView) -> Part:
        """Raises SnapshotError as `seal.part` does."""
        return self._parts.get(view)

    def _part(self, view: ProxyView) -> Part:
        by_type: dict[str, list[Resource]] = {}
        for pieces in pieces_of(view):
            made = self._made(pieces)
            by_type.setdefault(made.type_url, []).append(made)
        return part_of({url: self._named.get(tuple(of_type)) for url, of_type in by_type.items()})

    def _made(self, pieces: tuple[Piece, ...]) -> Resource:
        first, *more = map(self._pieces.get, pieces)
        return self._joined.get((first, *more)) if more else first

    def _sealed(self, piece: Piece) -> Resource:
        return sealed(piece.message(lambda base: self._pieces.get(base).value))


def joined(pieces: tuple[Resource, ...]) -> Resource:
    """The resource whose bytes are those of its pieces: what protobuf reads as the pieces merged."""
    first = pieces[0]
    value = b"".join(piece.value for piece in pieces)
    needs = sorted({need for piece in pieces for need in piece.needs})
    return Resource(first.name, first.type_url, value, digest(value), tuple(needs))

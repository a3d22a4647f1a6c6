"""The certificates of a mesh, and how much of their life is left."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from mesh.api.proa.v1 import ca_pb2

LEFT: Final = 0.3
"""The part of a certificate's life below which its renewal has failed; it is renewed at half of it."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """`remedy` says what to do when it was not renewed."""

    where: str
    not_before: datetime
    not_after: datetime
    remedy: str

    def part_left(self, at: datetime) -> float:
        """The part of its life that is left; below 0 when it has expired."""
        return (self.not_after - at) / (self.not_after - self.not_before)


def certificates_of(authority: ca_pb2.Authority) -> Iterator[Certificate]:
    """The authority's, and those that proxies use."""
    remedy = f"Exchange it in {authority.source}" if authority.source else "Run `proa ca rotate`"
    for one in authority.certificates:
        yield Certificate(one.subject, one.not_before.ToDatetime(UTC), one.not_after.ToDatetime(UTC), remedy)
    for leaf in authority.leaves:
        ends = leaf.not_after.ToDatetime(UTC)
        instance = leaf.node_id.rpartition("/")[2]
        log = f"Look for certificate_not_renewed in `proa logs --agent {instance}`"
        yield Certificate(leaf.node_id, ends - authority.leaf_lifetime.ToTimedelta(), ends, log)

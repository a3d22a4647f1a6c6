"""What `proa ca status` says of certificates that end, and of an authority with a problem."""

from datetime import UTC, datetime, timedelta

import pytest

from mesh.api.proa.v1 import ca_pb2
from mesh.cli.ca import warnings

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
LOOK = "Look for certificate_not_renewed in `proa logs --agent orders-0`"


def authority(root: timedelta = 3_000 * DAY, leaf: timedelta = DAY / 2, **fields: str) -> ca_pb2.Authority:
    """One whose root and whose only leaf have so much of ten years, and of a day, left."""
    it = ca_pb2.Authority(**fields)
    it.leaf_lifetime.FromTimedelta(DAY)
    certificate = it.certificates.add(subject="CN=root", signs=True, root=True)
    certificate.not_after.FromDatetime(NOON + root)
    certificate.not_before.FromDatetime(NOON + root - 3_650 * DAY)
    it.leaves.add(node_id="shop/orders/orders-0").not_after.FromDatetime(NOON + leaf)
    return it


@pytest.mark.parametrize(
    ("given", "warned"),
    [
        pytest.param(authority(), [], id="nothing"),
        pytest.param(
            authority(root=1_000 * DAY), ["CN=root: it expires in 1000d. Run `proa ca rotate`"], id="a root of years"
        ),
        pytest.param(
            authority(root=10 * DAY, source="/etc/ca"),
            ["CN=root: it expires in 10d. Exchange it in /etc/ca"],
            id="of somebody else",
        ),
        pytest.param(
            authority(leaf=DAY / 4),
            [f"shop/orders/orders-0: it expires in 6h0m. {LOOK}"],
            id="a leaf that was not renewed",
        ),
        pytest.param(
            authority(leaf=-DAY / 24),
            [f"shop/orders/orders-0: it expired 1h0m ago. {LOOK}"],
            id="a leaf that has ended",
        ),
        pytest.param(authority(problem="ca: lost. Restore it"), ["ca: lost. Restore it"], id="a problem"),
    ],
)
def test_what_ends_soon_or_is_wrong_is_warned_of(given: ca_pb2.Authority, warned: list[str]) -> None:
    assert list(warnings(given, NOON)) == warned

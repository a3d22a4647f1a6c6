"""What renews a certificate: one of the mesh that is valid now, and a signature by its key."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mesh.errors import AccessError
from mesh.identity.proof import proven
from tests.intruders import Authority, Credentials
from tests.unit.identity.authorities import Ca

ORDERS, KING = "spiffe://proa.local/ns/shop/sa/orders", "spiffe://proa.local/ns/shop/sa/king"
MINUTE = timedelta(minutes=1)
CSR = b"a request"
MESH = Authority.foreign()
NOW = datetime.now(UTC)


def shown(one: Credentials, roots: Sequence[x509.Certificate] = (MESH.certificate,)) -> str:
    """Who it proves to be, when its own key has signed the request."""
    key = load_pem_private_key(one.key.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return proven(one.chain, key.sign(CSR, ec.ECDSA(hashes.SHA256())), CSR, roots, datetime.now(UTC))


def test_a_leaf_of_the_mesh_proves_its_name() -> None:
    assert shown(MESH.leaf(ORDERS)) == ORDERS


def test_several_names_or_none_prove_nothing() -> None:
    assert (shown(MESH.leaf(ORDERS, KING)), shown(MESH.leaf(dns=["orders"])), shown(MESH.leaf())) == ("", "", "")


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(MESH.leaf(ORDERS, ends=-MINUTE), id="expired"),
        pytest.param(MESH.leaf(ORDERS, begins=50 * MINUTE), id="not yet valid"),
        pytest.param(MESH.forged(ORDERS, KING), id="signed by a workload"),
        pytest.param(Authority.foreign().leaf(ORDERS), id="of another authority"),
        pytest.param(Authority.foreign(MESH.certificate).leaf(ORDERS), id="of another authority with the name of ours"),
    ],
)
def test_what_is_not_of_the_mesh_or_has_ended_proves_nothing(one: Credentials) -> None:
    with pytest.raises(AccessError, match="it is not of this mesh, or has ended"):
        shown(one)


def below(above: Ca) -> Credentials:
    """A leaf of an intermediate."""
    assert isinstance(above.key, ec.EllipticCurvePrivateKey)
    leaf = Authority(above.key, above.certificate).leaf(ORDERS)
    return replace(leaf, chain=leaf.chain + above.pem.decode())


def test_an_intermediate_leads_to_a_root_while_both_are_valid() -> None:
    root = Ca("root")
    old = Ca("old root", since=NOW - timedelta(days=40))

    assert shown(below(Ca("between", root)), [root.certificate]) == ORDERS
    for between, top in (
        (Ca("between", root, since=NOW - timedelta(days=40)), root),
        (Ca("between", root, ca=False), root),
        (Ca("between", old), old),
    ):
        with pytest.raises(AccessError, match="it is not of this mesh, or has ended"):
            shown(below(between), [top.certificate])

"""Resources as people read them."""

from google.protobuf.any_pb2 import Any

from mesh.snapshot.plain import KINDS, plain
from mesh.snapshot.seal import part, seal
from mesh.snapshot.types import CLUSTER, SECRET
from tests.unit.translate.scenarios import SCENARIOS


def test_every_resource_is_shown_with_all_that_is_packed_into_it() -> None:
    sealed = seal(part(SCENARIOS["grpc"].shared), part(SCENARIOS["grpc"].own))
    packed = [
        Any(type_url=one.type_url, value=one.value) for named in sealed.resources.values() for one in named.values()
    ]

    shown = plain(packed)

    assert list(shown) == list(KINDS.values())
    assert {kind: [one["name"] for one in shown[KINDS[kind]]] for kind in KINDS} == {
        kind: list(sealed.of(kind)) for kind in KINDS
    }
    assert "envoy.filters.network.http_connection_manager" in str(shown["listeners"])


def test_of_a_secret_nothing_is_shown() -> None:
    assert plain([Any(type_url=SECRET)])["secrets"] == [{}]
    assert plain([Any(type_url=CLUSTER)])["clusters"] == [{}]

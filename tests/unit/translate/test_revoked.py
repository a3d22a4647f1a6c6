"""Who may not call although it has a certificate of the mesh."""

from mesh.model.topology import ServicePort
from mesh.model.workload import Protocol
from mesh.translate.route import inbound_routes
from tests.unit.translate.scenarios import as_json

EVIL = "spiffe://proa.local/ns/shop/sa/evil"
PORT = ServicePort(50051, "grpc", Protocol.GRPC)


def test_a_port_denies_every_revoked_identity_and_nobody_without_one() -> None:
    [host] = as_json(inbound_routes((PORT, (EVIL,))))["virtual_hosts"]
    [(name, config)] = host["typed_per_filter_config"].items()

    assert name == "proa.rbac.deny"
    assert config["rbac"]["rules"] == {
        "action": "DENY",
        "policies": {
            "revoked": {
                "permissions": [{"any": True}],
                "principals": [{"authenticated": {"principal_name": {"exact": EVIL}}}],
            }
        },
    }
    [host] = as_json(inbound_routes((PORT, ())))["virtual_hosts"]
    assert "typed_per_filter_config" not in host

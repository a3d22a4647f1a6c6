"""Documents and leases with valid defaults, so that a test shows only what it is about."""

from datetime import UTC, datetime, timedelta
from typing import Any

from mesh.config import Parsed, Written, parse
from mesh.model.address import Address
from mesh.model.names import Identity, InstanceId
from mesh.model.workload import Workload
from mesh.registry import documents
from mesh.registry.documents import Outcome, together
from mesh.registry.leases import Addresses, Lease
from mesh.registry.state import State

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


def workload(name: str = "orders", spec: str = "") -> str:
    return (
        "apiVersion: proa.mesh/v1alpha1\nkind: Workload\n"
        f"metadata: {{name: {name}, namespace: shop}}\n"
        f"spec: {{command: [serve], port: 50051{', ' if spec else ''}{spec}}}\n"
    )


def policy(name: str, service: str, retries: int = 3) -> str:
    """It says something else than the default, which would change nothing."""
    return (
        "apiVersion: proa.mesh/v1alpha1\nkind: BackendTrafficPolicy\n"
        f"metadata: {{name: {name}, namespace: shop}}\n"
        f"spec: {{targetRefs: [{{kind: Service, name: {service}}}], retry: {{numRetries: {retries}}}}}\n"
    )


def mesh(trust_domain: str) -> str:
    return (
        "apiVersion: proa.mesh/v1alpha1\nkind: Mesh\nmetadata: {name: default}\n"
        f"spec: {{trustDomain: {trust_domain}}}\n"
    )


def call(*texts: str, path: str = "mesh.yaml") -> Parsed:
    """What one call brings: one file with these documents."""
    return together([parse("---\n".join(texts), path, "/srv")])


def applied(state: State, *texts: str, path: str = "applied.yaml", now: datetime = NOON) -> Outcome:
    return documents.apply(state, call(*texts, path=path), now)


def filed(state: State, *texts: str, path: str = "mesh.yaml", now: datetime = NOON) -> Outcome:
    return documents.replace_file_set(state, call(*texts, path=path), now)


def lease(instance: str = "orders-0", spec: str = "", **changes: Any) -> Lease:
    """A lease of `shop/orders` with everything on ports that follow from one another."""
    (written,) = call(workload("orders", spec)).documents
    assert isinstance(written, Written)
    assert isinstance(written.resource, Workload)
    defaults: dict[str, Any] = {
        "id": InstanceId("shop", "orders", instance),
        "generation": "g1",
        "workload": written.resource,
        "document": written.json,
        "identity": Identity("proa.local", "shop", "orders"),
        "addresses": addresses(),
    }
    return Lease(**{**defaults, **changes})


def addresses(base: int = 20_000) -> Addresses:
    at = [Address("127.0.0.1", base + n) for n in range(4)]
    return Addresses({50051: at[0]}, {50051: at[1]}, {"inventory": at[2]}, at[3], "/run/orders.sock")

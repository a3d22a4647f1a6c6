"""`CaService`: the authority for operators."""

from collections.abc import Iterator
from typing import Any, Final

from cryptography import x509

from mesh.api.proa.v1 import ca_pb2, ca_pb2_grpc
from mesh.controlplane.attestation import trust_domain
from mesh.controlplane.rotation import Rotation
from mesh.identity.ca import serial
from mesh.identity.certificates import extension
from mesh.identity.folder import AuthorityFolder
from mesh.identity.journal import Step
from mesh.registry.registry import Registry

STEPS: Final = {
    Step.STEADY: ca_pb2.ROTATION_STEP_STEADY,
    Step.TRUST: ca_pb2.ROTATION_STEP_TRUST,
    Step.RENEW: ca_pb2.ROTATION_STEP_RENEW,
    Step.RETIRE: ca_pb2.ROTATION_STEP_RETIRE,
}


class CaService(ca_pb2_grpc.CaServiceServicer):
    def __init__(self, registry: Registry, rotation: Rotation) -> None:
        self._registry = registry
        self._rotation = rotation

    async def GetAuthority(self, request: ca_pb2.GetAuthorityRequest, context: Any) -> ca_pb2.GetAuthorityResponse:
        return ca_pb2.GetAuthorityResponse(authority=self._authority())

    async def RotateRoot(self, request: ca_pb2.RotateRootRequest, context: Any) -> ca_pb2.RotateRootResponse:
        self._rotation.rotate(force=request.force)
        await self._registry.note("root rotation forced" if request.force else "root rotation begun", "authority")
        return ca_pb2.RotateRootResponse(authority=self._authority())

    def _authority(self) -> ca_pb2.Authority:
        domain = trust_domain(self._registry)
        folder, problem = self._rotation.opened(), self._rotation.problem()
        journal = folder.journal
        return ca_pb2.Authority(
            trust_domain=domain,
            step=STEPS[journal.step],
            since=journal.since,
            certificates=certificates(folder),
            waits_for=(
                ca_pb2.Follower(node_id=one.node_id, why=one.why, left_behind=one.left_behind)
                for one in self._rotation.followers()
            ),
            forced=journal.forced,
            source=str(self._rotation.source or ""),
            problem=str(problem or ""),
            leaves=self._leaves(),
            leaf_lifetime=self._registry.documents.mesh.leaf_lifetime,
        )

    def _leaves(self) -> Iterator[ca_pb2.LeafCertificate]:
        for instance, lease in sorted(self._registry.leases.items()):
            for serial_, not_after in dict.fromkeys((one.serial, one.not_after) for one in lease.report.loaded):
                yield ca_pb2.LeafCertificate(node_id=instance.node_id, serial=serial_, not_after=not_after)


def certificates(folder: AuthorityFolder) -> Iterator[ca_pb2.CaCertificate]:
    """The newest first, and what signs before the roots that it leads to."""
    generations = folder.generations.values()
    signing = folder.generations[folder.journal.signs].chain[0]
    roots = {root for one in generations for root in one.roots}
    for one in dict.fromkeys(one for each in generations for one in (*each.chain, *each.roots)):
        if one in roots or one == signing:
            yield ca_pb2.CaCertificate(
                serial=serial(one),
                key_id=_key_id(one),
                subject=one.subject.rfc4514_string(),
                not_before=one.not_valid_before_utc,
                not_after=one.not_valid_after_utc,
                signs=one == signing,
                root=one in roots,
            )


def _key_id(certificate: x509.Certificate) -> str:
    said = extension(certificate, x509.SubjectKeyIdentifier)
    return said.digest.hex() if said else ""

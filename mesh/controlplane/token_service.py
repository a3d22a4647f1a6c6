"""`TokenService`: tokens are made, listed, revoked, and those with a role are exchanged for a certificate."""

import logging
import secrets
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

from mesh.api.proa.v1 import tokens_pb2, tokens_pb2_grpc
from mesh.controlplane.access import PEOPLE
from mesh.controlplane.attestation import identity_for
from mesh.errors import AccessError, UsageError
from mesh.identity import token
from mesh.identity.ca import CertificateAuthority, public_key
from mesh.identity.token import Claims
from mesh.model.names import Person
from mesh.registry.caller import CALLER
from mesh.registry.registry import Registry
from mesh.registry.tokens import UNLIMITED, Token

LIFETIME: Final = timedelta(hours=1)
LONGEST_JOIN: Final = timedelta(hours=24)
LONGEST_ROLE: Final = timedelta(days=30)
MOST_USES: Final = 1000
LONGEST_NOTE: Final = 200

SESSION: Final = timedelta(minutes=5)
"""How long the certificate of a person is valid: for one command, and not much more."""

log = logging.getLogger(__name__)


class TokenService(tokens_pb2_grpc.TokenServiceServicer):
    def __init__(
        self, registry: Registry, authority: Callable[[], CertificateAuthority], now: Callable[[], datetime]
    ) -> None:
        self._registry = registry
        self._tokens = registry.tokens
        self._authority = authority
        self._now = now

    async def CreateToken(self, request: tokens_pb2.CreateTokenRequest, context: Any) -> tokens_pb2.CreateTokenResponse:
        made = self._made(request)
        roots = self._authority().bundle_pem
        text = token.signed(
            Claims(made.id, made.expires, made.namespace, made.service_account, made.role), await self._tokens.key()
        )
        await self._tokens.create(made)
        log.info("token_created id=%s for=%s by=%s", made.id, made.subject, made.created_by)
        return tokens_pb2.CreateTokenResponse(token=text, made=_message(made), roots_pem=roots)

    async def ListTokens(self, request: tokens_pb2.ListTokensRequest, context: Any) -> tokens_pb2.ListTokensResponse:
        return tokens_pb2.ListTokensResponse(tokens=map(_message, await self._tokens.all()))

    async def RevokeToken(self, request: tokens_pb2.RevokeTokenRequest, context: Any) -> tokens_pb2.RevokeTokenResponse:
        revoked = await self._tokens.revoke(request.id)
        self._registry.revoked.notify()
        log.info("token_revoked id=%s for=%s by=%s", revoked.id, revoked.subject, CALLER.get().name)
        return tokens_pb2.RevokeTokenResponse(token=_message(revoked))

    async def RedeemToken(self, request: tokens_pb2.RedeemTokenRequest, context: Any) -> tokens_pb2.RedeemTokenResponse:
        authority, now = self._authority(), self._tokens.now()
        claims = token.read(request.token, await self._tokens.key(), now)
        if not claims.role:
            raise AccessError(f"token {claims.id}", "it is for a workload", "Use it with `proa agent run`")
        person = Person(authority.trust_domain, claims.role, claims.id)
        public_key(request.csr, person.uri)  # a use is not spent on what cannot be signed
        await self._tokens.spend(claims.id, request.csr)
        leaf = authority.issue(request.csr, person, (), self._now(), min(SESSION, claims.expires - now))
        log.info("token_redeemed id=%s role=%s peer=%s", claims.id, claims.role, context.peer())
        return tokens_pb2.RedeemTokenResponse(
            chain_pem=leaf.chain_pem, bundle_pem=authority.bundle_pem, not_after=leaf.not_after
        )

    def _made(self, request: tokens_pb2.CreateTokenRequest) -> Token:
        """Raises NotFoundError and UsageError."""
        now = self._tokens.now()
        lifetime = request.lifetime.ToTimedelta() if request.HasField("lifetime") else LIFETIME
        longest = LONGEST_ROLE if request.role else LONGEST_JOIN
        if not timedelta() < lifetime <= longest:
            raise UsageError("token", f"it cannot be for {lifetime}", f"Choose a lifetime of {longest} at most")
        if not 0 <= request.uses <= MOST_USES:
            raise UsageError("token", f"it cannot be for {request.uses} uses", f"Choose 1 to {MOST_USES}")
        namespace, account = self._account(request)
        return Token(
            id=secrets.token_hex(4),
            namespace=namespace,
            service_account=account,
            role=request.role,
            uses=request.uses or (UNLIMITED if request.role else 1),
            created=now,
            expires=now + lifetime,
            created_by=CALLER.get().name,
            note=request.note[:LONGEST_NOTE],
        )

    def _account(self, request: tokens_pb2.CreateTokenRequest) -> tuple[str, str]:
        if not request.role:
            identity = identity_for(self._registry, request.namespace, request.workload, request.service_account)
            return identity.namespace, identity.service_account
        if request.role not in PEOPLE or request.workload or request.service_account:
            raise UsageError("token", f"role {request.role!r} cannot be given so", f"Roles are {', '.join(PEOPLE)}")
        return "", ""


def _message(one: Token) -> tokens_pb2.Token:
    return tokens_pb2.Token(**{name: value for name, value in asdict(one).items() if name != "spent_for"})

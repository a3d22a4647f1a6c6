"""An agent's way to a control plane on another machine: by a token first, by its certificates from then on."""

import json
import os
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from mesh.agent.certificate import Certificate
from mesh.agent.new_key import made_apart
from mesh.agent.way import Kept, TokenFile, way_to
from mesh.api.proa.v1 import agents_pb2, tokens_pb2
from mesh.errors import StateError, UsageError
from mesh.identity.ca import new_root, pem, serial
from tests.controlplane.conftest import Plane, today
from tests.unit.registry.builders import workload

WHO = agents_pb2.SignCertificateRequest(namespace="shop", workload="orders")
PLAN = agents_pb2.GetLaunchPlanRequest(namespace="shop", workload="orders")


@pytest.fixture
async def far(listening: Plane) -> Plane:
    await listening.client.start_with(workload("orders"))
    return listening


@pytest.fixture
async def token(far: Plane, tmp_path: Path) -> Path:
    request = tokens_pb2.CreateTokenRequest(namespace="shop", workload="orders")
    made = await far.client.tokens.CreateToken(request)
    path = tmp_path / "orders.token"
    path.touch(0o600)
    path.write_text(json.dumps({"token": made.token, "roots": made.roots_pem}))
    return path


def ignore(**_: str) -> None:
    """Keeps nothing."""


async def test_a_token_is_needed_once_and_calls_go_on_over_any_number_of_renewals(far: Plane, token: Path) -> None:
    server = str(far.settings.listen[0])
    async with way_to(server, WHO, token, None) as way:
        certificate = Certificate(way, WHO, ignore, made_apart)
        attach = None
        for _ in range(4):
            held = await certificate.obtain()
            assert (await way.agents.GetLaunchPlan(PLAN, timeout=5)).plan.identity.endswith("/sa/orders")
            attach = attach or way.agents.Attach()
        kept = Kept(held.chain_pem, held.key_pem, held.trust.bundle_pem)
        attach.cancel()

    async with way_to(server, WHO, None, kept) as way:
        assert way.server == server
        again = await Certificate(way, WHO, ignore, made_apart, kept).obtain()
        assert again.serial != serial(x509.load_pem_x509_certificate(kept.chain_pem.encode()))
    (listed,) = (await far.client.tokens.ListTokens(tokens_pb2.ListTokensRequest())).tokens[:1]
    assert listed.used == 1


async def test_a_certificate_that_is_refused_gives_way_to_a_token(far: Plane, token: Path) -> None:
    async with way_to(str(far.settings.listen[0]), WHO, token, None) as way:
        certificate = Certificate(way, WHO, ignore, made_apart)
        held = await certificate.obtain()
    await far.registry.revoke(held.serial)
    kept = Kept(held.chain_pem, held.key_pem, held.trust.bundle_pem)

    with pytest.raises(Exception, match="no token is given"):
        async with way_to(str(far.settings.listen[0]), WHO, None, kept) as way:
            await Certificate(way, WHO, ignore, made_apart, kept).obtain()


async def test_a_control_plane_with_another_root_is_not_told_the_token(far: Plane, token: Path) -> None:
    other = pem(new_root("proa.local", today())[1])
    token.write_text(json.dumps({**json.loads(token.read_text()), "roots": other}))
    async with way_to(str(far.settings.listen[0]), WHO, token, None) as way:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await Certificate(way, WHO, ignore, made_apart).obtain()
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert (await far.client.tokens.ListTokens(tokens_pb2.ListTokensRequest())).tokens[0].used == 0


@pytest.mark.parametrize("text", ["", "{}", "[]", "nonsense", '{"token": 1, "roots": ""}', '{"token": "x"}'])
def test_a_file_that_holds_no_token_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.token"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"a\.token: this is no file that"):
        TokenFile.read(path)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
async def test_a_token_that_others_may_read_is_not_used(token: Path, mode: int) -> None:
    link = token.with_name("a link")
    link.symlink_to(token)
    token.chmod(mode)
    for path in (token, link):
        with pytest.raises(StateError, match=rf"others may read or write it .*Run `chmod go= {token}`"):
            way_to("127.0.0.1:1", WHO, path, None)
    token.chmod(0o400)
    assert TokenFile.read(link).roots_pem


def test_a_token_may_come_through_a_pipe() -> None:
    reads, writes = os.pipe()
    os.write(writes, b'{"token": "x", "roots": "y"}')
    os.close(writes)
    assert TokenFile.read(Path(f"/dev/fd/{reads}")).token == "x"
    os.close(reads)


@pytest.mark.parametrize(
    ("server", "words"),
    [
        pytest.param("somewhere", "is not host:port", id="no port"),
        pytest.param("host:port", "is not host:port", id="no number"),
        pytest.param("no.such.host.invalid:7443", "this name leads nowhere", id="no such host"),
    ],
)
async def test_an_address_that_leads_nowhere_is_refused(server: str, words: str, token: Path) -> None:
    with pytest.raises(UsageError, match=words):
        async with way_to(server, WHO, token, None):
            pass


async def test_without_token_and_certificate_there_is_no_way() -> None:
    with pytest.raises(UsageError, match="neither a token nor a certificate"):
        async with way_to("127.0.0.1:1", WHO, None, None):
            pass


def test_a_token_is_not_in_what_is_printed_of_it() -> None:
    shown: Any = repr(TokenFile("secret", "roots")), repr(Kept("chain", "secret", "bundle"))
    assert "secret" not in "".join(shown)

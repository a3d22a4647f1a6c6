"""What a real mesh does to a workload whose identity was revoked."""

import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mesh.running import RunningMesh, documents, eventually, workload

pytestmark = pytest.mark.envoy

SERVE = {
    "command": ["python", "-m", "http.server", "--bind", "${host}", "${port}"],
    "ports": [{"port": 80, "appProtocol": "http"}],
}


def status(address: str) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return int(opener.open(f"http://{address}/", timeout=5).status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture
def three(launch: Callable[..., RunningMesh], tmp_path: Path) -> RunningMesh:
    path = tmp_path / "mesh.yaml"
    both = [{"service": "shop"}, {"service": "bank"}]
    path.write_text(
        documents(
            workload("shop", **SERVE),
            workload("bank", **SERVE),
            workload("good", **SERVE, upstreams=both),
            workload("evil", **SERVE, upstreams=both),
        )
    )
    return launch(path)


def test_a_revoked_caller_is_refused_a_revoked_callee_not_called_and_others_go_on(three: RunningMesh) -> None:
    calls = {(who, to): three.upstream(who, to) for who in ("good", "evil") for to in ("shop", "bank")}
    for address in calls.values():
        eventually(lambda at=address: status(at) == 200)

    typo = three.proa("identity", "revoke", "test/evl")
    assert (typo.returncode, "Did you mean test/evil?" in typo.stderr) == (1, True)
    assert three.proa("identity", "revoke", "test/evil").returncode == 0
    eventually(lambda: status(calls["evil", "shop"]) == 403, 30)
    eventually(lambda: status(calls["evil", "bank"]) == 403, 30)
    assert status(calls["good", "shop"]) == 200
    eventually(lambda: not any("/evil/" in node for node in three.proxies()), 30)

    assert three.proa("identity", "revoke", "test/bank").returncode == 0
    eventually(lambda: status(calls["good", "bank"]) == 503, 30)
    assert status(calls["good", "shop"]) == 200
    listed = three.proa("identity", "list").stdout
    assert "spiffe://proa.local/ns/test/sa/bank" in listed
    assert "identity revoked" in three.proa("audit").stdout

    assert three.proa("identity", "restore", "test/bank").returncode == 0
    eventually(lambda: status(calls["good", "bank"]) == 200, 30)

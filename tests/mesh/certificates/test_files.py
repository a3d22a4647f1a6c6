"""A mesh that signs with files of somebody else's authority, which are exchanged while calls go on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mesh.certificates.calls import authority, calling, in_use
from tests.mesh.running import BOOKSTORE, RunningMesh, proa, soon
from tests.unit.identity.authorities import Ca

pytestmark = pytest.mark.envoy


def subjects(found: dict[str, Any]) -> list[str]:
    return [one["subject"] for one in found["certificates"]]


async def test_another_intermediate_and_another_root_lose_no_call(
    launch: Callable[..., RunningMesh], tmp_path: Path, short: Path
) -> None:
    root = Ca("root")
    source = Ca("first", root).write(tmp_path / "files")
    mesh = launch(BOOKSTORE, "--ca", str(source))
    assert subjects(authority(mesh)) == ["CN=first", "CN=root"]
    async with calling(mesh, short) as (calls, _):
        leaves = in_use(mesh)[1]
        Ca("second", root).write(source)
        await soon(lambda: not in_use(mesh)[1] & leaves, within=30)
        assert subjects(authority(mesh)) == ["CN=second", "CN=root"]
        await calls.went_on(200)

        other = Ca("other root")
        Ca("third", other).write(source)
        await soon(lambda: subjects(authority(mesh)) == ["CN=third", "CN=other root"], within=30)
        await soon(lambda: authority(mesh)["step"] == "STEADY", within=30)
        assert in_use(mesh)[0] == {f"{other.certificate.serial_number:x}"}
        await calls.went_on(200)

        (source / "tls.key").write_bytes(Ca("foreign").key_pem)
        await soon(lambda: "does not belong" in authority(mesh)["problem"])
        assert "the mesh goes on with those before" in mesh.proa("ca", "status").stderr
        done = mesh.proa("ca", "rotate")
        assert done.returncode == 2
        assert f"the roots of this mesh come from {source}" in done.stderr
        await calls.went_on(100)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(lambda source: (source / "ca.crt").unlink(), "ca.crt: the authority cannot be read", id="no root"),
        pytest.param(lambda source: (source / "tls.key").chmod(0o644), "others may read", id="a key for all to read"),
        pytest.param(lambda source: Ca("x").write(source, roots=Ca("y").pem), "lead to a root", id="another root"),
    ],
)
def test_files_that_cannot_be_used_are_said_at_once(
    spoil: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    source = Ca("first", Ca("root")).write(tmp_path / "files")
    spoil(source)

    done = proa("up", str(BOOKSTORE), "--state", str(tmp_path / "state"), "--ca", str(source), timeout=30)

    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr

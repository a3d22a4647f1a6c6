"""Which Envoy runs, and what the agent reads from it."""

from pathlib import Path

import pytest

from mesh.agent.envoy import INBOUND_CONNECTIONS, WORKERS_STARTED, Admin, find, version_in
from mesh.errors import StartError, UnreachableError
from mesh.translate.bootstrap import STATS


def an_envoy(folder: Path, says: str) -> dict[str, str]:
    path = folder / "envoy"
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    return {"PROA_ENVOY": str(path)}


def test_the_installed_envoy_is_found() -> None:
    envoy = find({})

    assert envoy.path.name == "envoy"
    assert envoy.path.stat().st_size > 1_000_000, "the binary, not the script that starts it"
    assert envoy.version.startswith("1.")


@pytest.mark.parametrize("version", ["1.36.4", "1.40.0"])
def test_an_envoy_may_be_named(tmp_path: Path, version: str) -> None:
    environment = an_envoy(tmp_path, f"echo envoy  version: 9e5580/{version}/Clean/RELEASE/BoringSSL")

    assert find(environment).version == version


@pytest.mark.parametrize("version", ["1.35.9", "1.41.0", "2.0.0"])
def test_an_envoy_of_a_version_that_proa_does_not_know_is_refused(tmp_path: Path, version: str) -> None:
    environment = an_envoy(tmp_path, f"echo envoy  version: 9e5580/{version}/Clean/RELEASE/BoringSSL")

    with pytest.raises(StartError, match=rf"version {version}; Proa runs 1\.36 to 1\.40. .*PROA_ENVOY"):
        find(environment)


def test_a_program_that_is_no_envoy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="version unknown"):
        find(an_envoy(tmp_path, "echo hello"))


@pytest.mark.parametrize("says", ["exit 1", "kill -9 $$"])
def test_an_envoy_that_does_not_run_is_refused(tmp_path: Path, says: str) -> None:
    with pytest.raises(StartError, match=r"PROA_ENVOY=.*: it does not run"):
        find(an_envoy(tmp_path, says))


def test_an_envoy_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="it does not run"):
        find({"PROA_ENVOY": str(tmp_path / "envoy")})


def test_a_version_is_read_from_what_envoy_says() -> None:
    assert version_in("9e55809337/1.40.0/Clean/RELEASE/BoringSSL") == "1.40.0"
    assert version_in("9e55809337/1.41.0-dev/Modified/DEBUG/BoringSSL") == "1.41.0-dev"


def test_the_bootstrap_keeps_the_statistics_that_are_read() -> None:
    assert {INBOUND_CONNECTIONS, WORKERS_STARTED} <= set(STATS)


async def test_an_envoy_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match=r"admin\.sock: Envoy's admin interface does not answer"):
        await Admin(tmp_path / "admin.sock").is_live()

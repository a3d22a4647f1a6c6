"""The folder of a gRPC client without a sidecar."""

import json
import os
from pathlib import Path

import pytest

from mesh.agent.client_folder import ClientFolder
from mesh.agent.way import Kept
from mesh.errors import StateError
from mesh.model.address import Address

XDS = Address("127.0.0.1", 18000)


@pytest.fixture
def folder(tmp_path: Path) -> ClientFolder:
    made = ClientFolder(tmp_path / "new" / "client")
    made.claim()
    return made


def keep(folder: ClientFolder, number: int) -> None:
    folder.keep_certificate(chain_pem=f"chain {number}", key_pem=f"key {number}", bundle_pem="roots")


def test_only_its_owner_reads_it(folder: ClientFolder) -> None:
    keep(folder, 1)
    folder.keep_bootstrap(folder.client("shop", "reporter"), XDS)

    modes = {path.stat().st_mode & 0o777 for path in folder.path.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert folder.path.stat().st_mode & 0o777 == 0o700


def test_the_files_that_the_bootstrap_names_are_there_and_fit_together(folder: ClientFolder) -> None:
    folder.keep_bootstrap(folder.client("shop", "reporter"), XDS)
    for number in (1, 2, 3):
        keep(folder, number)
    [server] = json.loads(folder.bootstrap.read_text())["xds_servers"]
    files = server["channel_creds"][0]["config"]

    assert Path(files["certificate_file"]).read_text() == "chain 3"
    assert Path(files["private_key_file"]).read_text() == "key 3"
    assert Path(files["ca_certificate_file"]).read_text() == "roots"


def test_a_bootstrap_that_is_the_same_is_not_written_again(folder: ClientFolder) -> None:
    client = folder.client("shop", "reporter")

    assert folder.keep_bootstrap(client, XDS)
    assert not folder.keep_bootstrap(client, XDS)
    assert folder.keep_bootstrap(client, Address("127.0.0.1", 18001))


def test_the_client_stays_the_same_one_until_it_is_another_account(folder: ClientFolder) -> None:
    client = folder.client("shop", "reporter")
    folder.keep_bootstrap(client, XDS)

    assert folder.client("shop", "reporter") == client
    assert folder.client("shop", "clerk").instance != client.instance
    assert folder.client("office", "reporter").instance != client.instance


@pytest.mark.parametrize("text", ["", "[]", "{", '{"node": null}', '{"node": {"id": "shop/reporter/1"}}'])
def test_a_bootstrap_of_somebody_else_is_no_client(folder: ClientFolder, text: str) -> None:
    folder.bootstrap.write_text(text)

    assert folder.client("shop", "reporter").service_account == "reporter"


def test_a_second_one_on_the_same_folder_is_refused(folder: ClientFolder) -> None:
    with pytest.raises(StateError, match="another `proa bootstrap` keeps this folder"):
        ClientFolder(folder.path).claim()


def test_a_folder_that_others_may_look_into_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)

    with pytest.raises(StateError, match="others may look into this folder") as refused:
        ClientFolder(tmp_path).claim()
    assert "chmod 700" in refused.value.remedy


@pytest.mark.parametrize("found", [pytest.param(b"\xff", id="no text"), pytest.param(b"{}", id="of somebody else")])
def test_a_bootstrap_that_is_none_is_replaced(folder: ClientFolder, found: bytes) -> None:
    folder.bootstrap.write_bytes(found)

    assert folder.keep_bootstrap(folder.client("shop", "reporter"), XDS)
    assert json.loads(folder.bootstrap.read_text())["node"]["id"].startswith("shop/sa:reporter/")


@pytest.mark.skipif(os.getuid() != 0, reason="nobody else can give a folder away")
def test_the_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Root may write there, and its owner may read."""
    tmp_path.chmod(0o700)
    os.chown(tmp_path, 65_534, -1)

    with pytest.raises(StateError, match="others may look into this folder"):
        ClientFolder(tmp_path).claim()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_said_of_the_folder(folder: ClientFolder) -> None:
    folder.bootstrap.with_name("bootstrap.json.new").symlink_to("/dev/full")

    with pytest.raises(StateError, match="the folder cannot be used: no space left on device") as refused:
        folder.keep_bootstrap(folder.client("shop", "reporter"), XDS)
    assert refused.value.where == str(folder.path)


def test_what_is_in_the_way_is_said_of_the_folder(folder: ClientFolder) -> None:
    folder.certificates.touch()

    with pytest.raises(StateError, match="the folder cannot be used: file exists") as refused:
        keep(folder, 1)
    assert refused.value.where == str(folder.path)


def test_what_somebody_else_has_put_there_is_in_nobodys_way(folder: ClientFolder) -> None:
    keep(folder, 1)
    (folder.certificates / ".DS_Store").touch()

    keep(folder, 2)

    assert folder.kept() == Kept("chain 2", "key 2", "roots")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StateError, match="the folder cannot be used"):
            ClientFolder(path).claim()

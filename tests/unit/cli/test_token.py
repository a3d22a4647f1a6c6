"""The file that `proa token create` writes, and what is refused before a token is made."""

import json
import stat
from pathlib import Path

import pytest

from mesh.api.proa.v1 import tokens_pb2
from mesh.cli import addresses, agent, remote, token
from mesh.errors import StateError, UsageError

MADE = tokens_pb2.CreateTokenResponse(token="proa1.a.b", roots_pem="PEM", made=tokens_pb2.Token(id="a1"))


def test_the_file_is_for_its_owner_alone_and_never_one_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.token"
    token._write(path, MADE)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = json.loads(path.read_text())
    assert (written["token"], written["roots"]) == ("proa1.a.b", "PEM")
    with pytest.raises(StateError, match="proa token revoke a1"):
        token._write(path, MADE)


def test_a_token_that_nobody_could_keep_is_not_made(tmp_path: Path) -> None:
    taken, dangling = tmp_path / "taken", tmp_path / "dangling"
    taken.touch()
    dangling.symlink_to(tmp_path / "elsewhere")
    for path in (taken, dangling):
        with pytest.raises(UsageError, match="something is there already"):
            token._check(path, ["orders"])
    with pytest.raises(UsageError, match="there is no such folder"):
        token._check(tmp_path / "no" / "a.token", ["orders"])
    token._check(tmp_path / "new", ["orders"])
    token._check(Path("-"), ["", "", "viewer"])


@pytest.mark.parametrize("kinds", [["", "", ""], ["orders", "teller", ""], ["orders", "", "viewer"]])
def test_a_token_is_for_one_of_three(tmp_path: Path, kinds: list[str]) -> None:
    with pytest.raises(UsageError, match="a token is for one of three"):
        token._check(tmp_path / "new", kinds)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        pytest.param("0.0.0.0", "nobody can call", id="every address"),
        pytest.param("224.0.0.1", "nobody can call", id="a group"),
        pytest.param("localhost", "no IPv4 address", id="a name"),
        pytest.param("::1", "no IPv4 address", id="IPv6"),
        pytest.param("192.0.2.1", "is not this machine's", id="another machine's"),
    ],
)
def test_an_address_that_callers_could_not_dial_is_refused(address: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        addresses.check_address(address)


def test_the_address_of_this_machine_is_taken() -> None:
    addresses.check_address("127.0.0.1")


def test_without_a_token_another_machine_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(remote.TOKEN_FILE, raising=False)
    with pytest.raises(UsageError, match="needs a token"):
        remote.channel_to(addresses.server_address("10.0.0.1:7443"), (), 1.0)
    with pytest.raises(UsageError, match="is not host:port"):
        addresses.server_address("somewhere")


def test_a_folder_that_others_may_look_into_is_refused(tmp_path: Path) -> None:
    from mesh.errors import StartError

    tmp_path.chmod(0o755)
    with pytest.raises(StartError, match="others may look into this folder"):
        agent._make_private(tmp_path)


def test_an_instance_is_named_after_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Büro_7.example.org")
    assert agent._default_name("orders") == "orders-b-ro-7-example-org"


@pytest.mark.parametrize(
    "text", ["foo", "10.0.0.1", ":7443", "10.0.0.1:65535", "10.0.0.1:0", "::1:7443", "a:1,b", "a:-1"]
)
def test_where_nobody_could_listen_is_refused_before_anything_starts(text: str) -> None:
    with pytest.raises(UsageError, match="--listen"):
        addresses.check_listen(text)


@pytest.mark.parametrize("text", ["", "10.0.0.1:7443", "10.0.0.1:7443,192.168.0.1:7443"])
def test_where_to_listen_is_a_list(text: str) -> None:
    addresses.check_listen(text)

"""Which mesh a command speaks with."""

import os
from pathlib import Path

import pytest

from mesh.cli.connection import address_of, state_of
from mesh.errors import StateError, UsageError


def test_the_address_is_in_the_state_folder_unless_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".proa").mkdir()
    Path(".proa/address").write_text("unix:/run/api.sock\n")

    assert address_of(None, None) == "unix:/run/api.sock", "./.proa is the default"
    assert address_of(None, "unix:/other") == "unix:/other"
    with pytest.raises(UsageError, match="both --state and --server"):
        address_of(tmp_path, "unix:/other")


def test_a_folder_without_a_mesh_and_one_that_may_not_be_read_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StateError, match="no mesh runs on this state folder"):
        address_of(tmp_path, None)

    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    for find in (address_of, state_of):
        with pytest.raises(StateError, match=r"this folder cannot be read\. Ask its owner"):
            find(tmp_path, None)

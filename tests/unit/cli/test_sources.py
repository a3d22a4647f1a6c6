"""Files named with -f."""

import io
import sys
from pathlib import Path

import pytest

from mesh.cli.sources import source_files
from mesh.errors import ConfigError, UsageError


def test_a_file_is_named_as_the_user_named_it_and_knows_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mesh.yaml").write_text("kind: Mesh\n")
    monkeypatch.chdir(tmp_path)

    (file,) = source_files(["sub/mesh.yaml"])

    assert (file.path, file.text, file.folder) == ("sub/mesh.yaml", "kind: Mesh\n", str(tmp_path / "sub"))


def test_a_folder_stands_for_its_yaml_files_in_order(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "c.json", "README.md"):
        (tmp_path / name).touch()

    assert [Path(file.path).name for file in source_files([str(tmp_path)])] == ["a.yml", "b.yaml", "c.json"]


def test_a_dash_is_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"kind: Mesh")))

    (file,) = source_files(["-"])

    assert (file.path, file.text, file.folder) == ("-", "kind: Mesh", str(tmp_path))


def test_what_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"kind: Mesh\nname: caf\xe9\n")
    (tmp_path / "good.yaml").touch()
    (tmp_path / "empty").mkdir()

    with pytest.raises(UsageError, match="this file cannot be read: no such file or directory"):
        source_files([str(tmp_path / "absent.yaml")])
    with pytest.raises(ConfigError, match=r"latin\.yaml:2: this is not UTF-8"):
        source_files([str(tmp_path / "latin.yaml")])
    with pytest.raises(UsageError, match="there is no YAML file in this folder"):
        source_files([str(tmp_path / "empty")])
    with pytest.raises(UsageError, match="this file is named twice"):
        source_files([str(tmp_path / "good.yaml")] * 2)

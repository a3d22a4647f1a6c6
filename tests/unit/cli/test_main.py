"""The list of commands."""

import inspect
from importlib import import_module

import pytest
import typer

from mesh.cli.main import COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_listed_as_it_says_of_itself(name: str) -> None:
    module, summary = COMMANDS[name]
    found = getattr(import_module(f"mesh.cli.{module}"), name.replace("-", "_"))

    if not isinstance(found, typer.Typer):
        assert (inspect.getdoc(found) or "").startswith(summary.removesuffix("."))

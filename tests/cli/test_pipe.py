"""Commands in a pipe."""

import os
import subprocess

from tests.mesh.running import BOOKSTORE, PROA, proa


def test_whoever_reads_only_the_first_line_gets_no_failure() -> None:
    """The answer is longer than what a pipe holds, so that the command finds its reader gone."""
    render = [*PROA, "render", "-f", str(BOOKSTORE), "--proxy", "orders"]
    reader, writer = os.pipe()
    with subprocess.Popen(render, stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        assert os.read(reader, 1) == b"{"
        os.close(reader)
        assert process.stderr is not None
        said = process.stderr.read()

    assert (process.returncode, said) == (0, b"")


def test_every_command_has_its_whole_summary_in_the_help() -> None:
    help_text = proa("--help").stdout

    assert "Commands:" in help_text
    assert "..." not in help_text.partition("Commands:")[2]

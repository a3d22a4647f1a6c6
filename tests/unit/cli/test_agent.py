"""Names that become parts of paths, before anything is made."""

from pathlib import Path

import pytest

from mesh.cli import agent
from mesh.errors import UsageError


@pytest.mark.parametrize(
    ("option", "names"),
    [
        ("--workload", {"workload": "../orders"}),
        ("--workload", {"workload": "Or ders"}),
        ("--namespace", {"workload": "orders", "namespace": "a/b"}),
        ("--namespace", {"workload": "orders", "namespace": ""}),
        ("--instance", {"workload": "orders", "instance": "orders\n"}),
        ("--instance", {"workload": "orders", "instance": "o" * 254}),
    ],
)
def test_what_cannot_be_a_name_is_refused(option: str, names: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{option}: .* cannot be a name"):
        agent.run(server="127.0.0.1:7443", folder=tmp_path / "agent", **names)  # type: ignore[arg-type]
    assert not (tmp_path / "agent").exists()

"""An agent is small: there is one for every instance."""

import subprocess
import sys

HEAVY = ("mesh.api.envoy", "mesh.model.topology", "cryptography", "pydantic", "sqlalchemy", "typer", "yaml", "rich")


def test_an_agent_never_loads_what_it_does_not_need() -> None:
    show = "import sys, mesh.agent.main; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-P", "-c", show], capture_output=True, text=True, check=True
    ).stdout.split()

    assert [name for name in loaded if name.startswith(HEAVY)] == []

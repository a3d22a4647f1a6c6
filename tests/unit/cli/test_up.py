"""What a person reads when the mesh is ready."""

import sys
from pathlib import Path
from typing import Any

import pytest

from mesh.cli.up import Screen


def entry(name: str, **upstreams: str) -> dict[str, Any]:
    return {
        "namespace": "shop",
        "name": name,
        "instance": f"{name}-0",
        "version": "v1",
        "address": "127.0.0.1:2",
        "pid": 9,
        "envoy": {"pid": 4, "inbound": "127.0.0.1:5", "upstreams": upstreams},
    }


def test_it_says_what_runs_where_and_what_to_try(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/opt/my venv/proa"])
    monkeypatch.setenv("PATH", "/nowhere")
    mesh = {"workloads": [entry("catalog"), entry("orders", catalog="127.0.0.1:7")]}

    Screen(Path("my state"), started=0.0).ready(mesh, workloads=2, left_out=1)

    out = capsys.readouterr().out.splitlines()
    assert out[2].split() == ["shop/orders-0", "127.0.0.1:2", "127.0.0.1:5", "catalog=127.0.0.1:7"]
    assert out[4:8] == [
        "Try next:",
        "  '/opt/my venv/proa' proxy-status --state 'my state'",
        "  grpcurl -plaintext 127.0.0.1:2 list",
        "  '/opt/my venv/proa' logs orders --follow --state 'my state'",
    ]
    assert out[-1].startswith("mesh ready: 2 workloads, 2 instances, 1 document left out (")

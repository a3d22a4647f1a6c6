"""The benchmark runs seldom, so what it measures is started here once."""

import json
import subprocess
import sys
from pathlib import Path


def test_the_control_plane_of_the_benchmark_does_what_it_is_told(tmp_path: Path) -> None:
    sizes = ["--services", "2", "--instances", "3", "--state", str(tmp_path), "--tls"]
    told = "endpoint 2\npolicy 1\ncluster 1\nnaive 1\npolicy 3\n"
    ran = subprocess.run(
        [sys.executable, "-m", "tests.bench.control_plane", *sizes],
        input=told,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    started, *answers = map(json.loads, ran.stdout.splitlines())
    assert ran.returncode == 0, ran.stderr
    assert started["port"]
    assert answers == [{"done": True}] * 5
    assert {"client.pem", "roots.pem"} <= {path.name for path in tmp_path.iterdir()}

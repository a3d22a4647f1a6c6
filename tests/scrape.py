"""What a Prometheus would read."""

import urllib.request
from collections.abc import Mapping

from prometheus_client import parser

from mesh.model.address import Address

Values = Mapping[tuple[str, ...], float]
"""By name and the values of the labels, in the order of their names."""


def read(address: Address | str, accept: str = "text/plain") -> str:
    request = urllib.request.Request(f"http://{address}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as told:
        return str(told.read().decode())


def values(text: str) -> Values:
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def added(after: Values, before: Values, *key: str) -> float:
    return after[key] - before[key]

"""A proxy at the other end of one stream, for tests: everything it asks and is told, without a socket."""

from collections.abc import Iterable, Mapping
from datetime import timedelta

from google.rpc import status_pb2

from mesh.api.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest
from mesh.snapshot.resource import Resource
from mesh.xds.source import State
from mesh.xds.stream import DeltaStream
from mesh.xds.subscription import Refusal, Response

Contents = Mapping[str, Mapping[str, str]]
"""Type URL -> name -> content, which is the version, too."""


def a_state(contents: Contents) -> State:
    return State(
        {
            type_url: {name: Resource(name, type_url, content.encode(), content) for name, content in named.items()}
            for type_url, named in contents.items()
        }
    )


class Proxy:
    """Each call returns the responses that it brings at once."""

    def __init__(self, contents: Contents) -> None:
        self.stream = DeltaStream("stream")
        self.now = timedelta()
        self.contents = {type_url: dict(named) for type_url, named in contents.items()}
        self.refusals: list[Refusal] = []

    def ask(
        self,
        type_url: str,
        *names: str,
        drop: Iterable[str] = (),
        held: Mapping[str, str] | None = None,
        nonce: str = "",
        error: str | None = None,
    ) -> list[Response]:
        request = DeltaDiscoveryRequest(
            type_url=type_url,
            resource_names_subscribe=names,
            resource_names_unsubscribe=drop,
            initial_resource_versions=held or {},
            response_nonce=nonce,
            error_detail=None if error is None else status_pb2.Status(message=error),
        )
        if refusal := self.stream.receive(request, self.now):
            self.refusals.append(refusal)
        return self.responses()

    def ack(self, response: Response) -> list[Response]:
        return self.ask(response.type_url, nonce=response.nonce)

    def nack(self, response: Response, error: str = "no") -> list[Response]:
        return self.ask(response.type_url, nonce=response.nonce, error=error)

    def change(self, type_url: str, named: Mapping[str, str]) -> list[Response]:
        """From now on there are exactly these resources of the type."""
        self.contents[type_url] = dict(named)
        return self.responses()

    def responses(self) -> list[Response]:
        return list(iter(lambda: self.stream.next_response(a_state(self.contents), self.now), None))

    def ack_all(self, responses: Iterable[Response]) -> list[Response]:
        """Acknowledges these and all that follow, and returns them all in the order in which they came."""
        queue, seen = list(responses), []
        while queue:
            seen.append(response := queue.pop(0))
            queue += self.ack(response)
        return seen


def sent(response: Response) -> dict[str, str]:
    """Name -> content."""
    return {resource.name: resource.value.decode() for resource in response.resources}


def removed(response: Response) -> tuple[str, ...]:
    return response.removed

"""A proxy at the other end of one stream, for tests: everything it asks and is told, without a socket."""

from collections.abc import Iterable, Mapping
from datetime import timedelta

from google.rpc import status_pb2

from mesh.api.envoy.config.core.v3 import base_pb2
from mesh.api.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from mesh.snapshot.named import Named
from mesh.snapshot.resource import Resource
from mesh.xds.delta import DeltaStream
from mesh.xds.messages import Answer, Refusal, Response
from mesh.xds.sotw import SotwStream
from mesh.xds.source import State

Contents = Mapping[str, Mapping[str, str]]
"""Type URL -> name -> content, which is the version, too."""

Needs = Mapping[tuple[str, str], tuple[tuple[str, str], ...]]
"""What resources refer to: (type URL, name) each."""

TTL_FEATURES = ("xds.config.supports-resource-ttl", "xds.config.supports-resource-in-sotw")


def a_state(contents: Contents, needs: Needs | None = None, ttl: timedelta | None = None) -> State:
    def resource(type_url: str, name: str, content: str) -> Resource:
        return Resource(name, type_url, content.encode(), content, (needs or {}).get((type_url, name), ()), ttl)

    return State(
        {
            type_url: Named((name, resource(type_url, name, content)) for name, content in named.items())
            for type_url, named in contents.items()
        }
    )


class _Client:
    """Each call returns the responses that it brings at once."""

    stream: DeltaStream | SotwStream

    def __init__(self, contents: Contents, needs: Needs | None = None, features: Iterable[str] = ()) -> None:
        self.contents = {type_url: dict(named) for type_url, named in contents.items()}
        self.needs = dict(needs or {})
        self.versions: dict[str, str] = {}
        self.ttl: timedelta | None = None
        self.refusals: list[Refusal] = []
        self.now = timedelta()
        self.node = base_pb2.Node(id="node", client_features=features)

    @property
    def state(self) -> State:
        return State(a_state(self.contents, self.needs, self.ttl).resources, self.versions)

    def change(self, type_url: str, named: Mapping[str, str]) -> list[Response]:
        """From now on there are exactly these resources of the type."""
        self.contents[type_url] = dict(named)
        return self.responses()

    def responses(self) -> list[Response]:
        return list(iter(lambda: self.stream.next_response(self.state, self.now), None))

    def wait(self, seconds: float) -> list[Response]:
        self.now += timedelta(seconds=seconds)
        return self.responses()

    def waits(self) -> dict[str, set[str]]:
        """Name -> names of what it waits for."""
        return {wait.name: {name for _, name in wait.needs} for wait in self.stream.waits(self.state)}

    def ack(self, response: Response) -> list[Response]:
        raise NotImplementedError

    def nack(self, response: Response, error: str = "no") -> list[Response]:
        raise NotImplementedError

    def ack_all(self, responses: Iterable[Response]) -> list[Response]:
        """Acknowledges these and all that follow, and returns them all in the order in which they came."""
        return self.answer_all(responses, bad=())

    def answer_all(self, responses: Iterable[Response], bad: Iterable[str]) -> list[Response]:
        """Refuses each response with a content that is `bad`, as a whole, and acknowledges the others."""
        queue, seen = list(responses), []
        while queue:
            seen.append(response := queue.pop(0))
            is_bad = {*bad} & {*sent(response).values()}
            queue += self.nack(response, f"bad {sorted(is_bad)}") if is_bad else self.ack(response)
        return seen

    def _heard(self, answer: Answer | None) -> list[Response]:
        if isinstance(answer, Refusal):
            self.refusals.append(answer)
        return self.responses()


class Proxy(_Client):
    """It speaks the incremental variant, as Envoy does."""

    def __init__(self, contents: Contents, needs: Needs | None = None, features: Iterable[str] = ()) -> None:
        super().__init__(contents, needs, features)
        self.stream: DeltaStream = DeltaStream("stream")

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
            node=self.node,
            type_url=type_url,
            resource_names_subscribe=names,
            resource_names_unsubscribe=drop,
            initial_resource_versions=held or {},
            response_nonce=nonce,
            error_detail=None if error is None else status_pb2.Status(message=error),
        )
        return self._heard(self.stream.receive(request, self.now))

    def ack(self, response: Response) -> list[Response]:
        return self.ask(response.type_url, nonce=response.nonce)

    def nack(self, response: Response, error: str = "no") -> list[Response]:
        return self.ask(response.type_url, nonce=response.nonce, error=error)


class SotwProxy(_Client):
    """It speaks the state of the world, as gRPC clients do: it says all its names each time."""

    def __init__(self, contents: Contents, needs: Needs | None = None, features: Iterable[str] = ()) -> None:
        super().__init__(contents, needs, features)
        self.stream: SotwStream = SotwStream("stream")
        self.listed: dict[str, tuple[str, ...]] = {}

    def ask(
        self, type_url: str, *names: str, nonce: str = "", version: str = "", error: str | None = None
    ) -> list[Response]:
        self.listed[type_url] = names
        request = DiscoveryRequest(
            node=self.node,
            type_url=type_url,
            resource_names=names,
            version_info=version,
            response_nonce=nonce,
            error_detail=None if error is None else status_pb2.Status(message=error),
        )
        return self._heard(self.stream.receive(request, self.now))

    def ack(self, response: Response) -> list[Response]:
        names = self.listed[response.type_url]
        return self.ask(response.type_url, *names, nonce=response.nonce, version=response.version)

    def nack(self, response: Response, error: str = "no") -> list[Response]:
        return self.ask(response.type_url, *self.listed[response.type_url], nonce=response.nonce, error=error)


def sent(response: Response) -> dict[str, str]:
    """Name -> content."""
    return {resource.name: resource.value.decode() for resource in response.resources}


def removed(response: Response) -> tuple[str, ...]:
    return response.removed

"""The incremental variant: the client adds to and takes from what it asks for, and is told what has changed. Pure."""

from datetime import timedelta

from mesh.api.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest
from mesh.model.printable import printable
from mesh.snapshot.resource import Resource
from mesh.xds.known import Form
from mesh.xds.ledger import asked_first
from mesh.xds.messages import Answer
from mesh.xds.stages import MAX_ERROR, Stages
from mesh.xds.subscription import Subscription


class DeltaStream(Stages):
    """A stale nonce says nothing about a response, but the subscriptions that come with it count."""

    ttl_features = frozenset({"xds.config.supports-resource-ttl"})

    def receive(self, request: DeltaDiscoveryRequest, now: timedelta) -> Answer | None:
        self._now, self._noted = now, None
        if request.HasField("node"):
            self._take_node(request.node)
        type_url = self._type_url(request.type_url)
        subscription = self._subscriptions.get(type_url)
        if subscription is None:
            self._open(type_url, request)
            return None
        error = printable(request.error_detail.message, MAX_ERROR) if request.HasField("error_detail") else None
        answer = subscription.acknowledge(request.response_nonce, error, now)
        if request.resource_names_subscribe or request.resource_names_unsubscribe:
            self._check_limits(request.resource_names_subscribe)
            _change(subscription, request)
            self._check_limits()
        return answer

    def _open(self, type_url: str, request: DeltaDiscoveryRequest) -> None:
        """The first request of a type: one without any name asks for everything, if the type allows that.

        What the client brings from an earlier stream is not sent again.
        """
        # Each look at a field of names makes their strings anew.
        held, listed = dict(request.initial_resource_versions), tuple(request.resource_names_subscribe)
        for said in (held, held.values(), listed):
            self._check_limits(said)
        names, is_all = asked_first(type_url, listed)
        subscription = Subscription(type_url, Form.DELTA, names, wildcard=is_all)
        if held:
            subscription.bring({name: Resource(name, type_url, b"", version) for name, version in held.items()})
        for name in request.resource_names_unsubscribe:
            subscription.unsubscribe(name)
        self._add(subscription)
        self._check_limits()


def _change(subscription: Subscription, request: DeltaDiscoveryRequest) -> None:
    for name in request.resource_names_subscribe:
        subscription.subscribe(name)
    for name in request.resource_names_unsubscribe:
        subscription.unsubscribe(name)

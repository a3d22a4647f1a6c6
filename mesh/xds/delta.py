"""The incremental variant: the client adds to and takes from what it asks for, and is told what has changed. Pure."""

from mesh.api.envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest
from mesh.snapshot.resource import Resource
from mesh.xds.known import Form
from mesh.xds.ledger import asked_first
from mesh.xds.stages import Stages
from mesh.xds.subscription import Subscription


class DeltaStream(Stages[DeltaDiscoveryRequest]):
    """A stale nonce says nothing about a response, but the subscriptions that come with it count."""

    ttl_features = frozenset({"xds.config.supports-resource-ttl"})

    def _open(self, type_url: str, request: DeltaDiscoveryRequest) -> None:
        """What the client brings from an earlier stream is not sent again."""
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

    def _follow(self, subscription: Subscription, request: DeltaDiscoveryRequest) -> None:
        if request.resource_names_subscribe or request.resource_names_unsubscribe:
            self._check_limits(request.resource_names_subscribe)
            for name in request.resource_names_subscribe:
                subscription.subscribe(name)
            for name in request.resource_names_unsubscribe:
                subscription.unsubscribe(name)
            self._check_limits()

"""The state-of-the-world variant: each request lists all that the client asks for. Pure.

A response about clusters or listeners is all that the client should have of them. One of any other type holds what is
new or has changed.
"""

from datetime import timedelta

from mesh.api.envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest
from mesh.xds.known import Form
from mesh.xds.ledger import WILDCARD, WILDCARD_TYPES, asked_first, version_of
from mesh.xds.messages import Response
from mesh.xds.source import State
from mesh.xds.stages import Stages
from mesh.xds.subscription import Subscription


class SotwStream(Stages[DiscoveryRequest]):
    """A request with a stale nonce is ignored: the client will say the same again when it has seen the latest response.

    A missing resource of a type of which absence means nothing is passed over in silence until it is there.
    """

    ttl_features = frozenset({"xds.config.supports-resource-ttl", "xds.config.supports-resource-in-sotw"})

    def __init__(self, name: str, type_url: str = "") -> None:
        super().__init__(name, type_url)
        self._nonces: dict[str, str] = {}
        self._legacy: set[str] = set()
        self._brought: dict[str, str] = {}
        self._listed: dict[str, int] = {}

    def next_response(self, state: State, now: timedelta) -> Response | None:
        self._recognise(state)
        response = super().next_response(state, now)
        if response:
            self._nonces[response.type_url] = response.nonce
        return response

    def _open(self, type_url: str, request: DiscoveryRequest) -> None:
        # Each look at a field of names makes their strings anew.
        listed = tuple(request.resource_names)
        self._check_limits(listed)
        self._lists_the_same(request, type_url)
        names, is_all = asked_first(type_url, listed)
        if is_all and not listed:
            self._legacy.add(type_url)
        form = Form.FULL if type_url in WILDCARD_TYPES else Form.CHANGED
        subscription = Subscription(type_url, form, names, wildcard=is_all)
        self._add(subscription)
        if is_all and not names and request.version_info:
            self._brought[type_url] = request.version_info

    def _lists_the_same(self, request: DiscoveryRequest, type_url: str) -> bool:
        """As the last time. An ACK repeats all names, a thousand perhaps; as bytes they are quick to compare.

        The hash of bytes depends on a secret of the process, so nobody can find two lists with one.
        """
        names = DiscoveryRequest()
        names.CopyFrom(request)
        for field in ("version_info", "node", "type_url", "response_nonce", "error_detail"):
            names.ClearField(field)
        before, self._listed[type_url] = self._listed.get(type_url), hash(names.SerializeToString())
        return before == self._listed[type_url]

    def _is_stale(self, type_url: str, nonce: str) -> bool:
        """A client has to name the latest response, as soon as it has been sent one."""
        latest = self._nonces.get(type_url)
        return bool(nonce and latest) and nonce != latest

    def _follow(self, subscription: Subscription, request: DiscoveryRequest) -> None:
        """From now on the client asks for those that it lists, and for no other."""
        type_url = subscription.type_url
        if self._is_stale(type_url, request.response_nonce) or self._lists_the_same(request, type_url):
            return
        names = frozenset(request.resource_names)
        if type_url in self._legacy and not names:
            return
        self._legacy.discard(type_url)
        self._check_limits(names)
        before = {*subscription.names, WILDCARD} if subscription.wildcard else {*subscription.names}
        for name in sorted(names - before):
            subscription.subscribe(name)
        for name in before - names:
            subscription.unsubscribe(name)
        self._check_limits()

    def _recognise(self, state: State) -> None:
        """A client that brings the very version that it would be sent has all of that."""
        for type_url, brought in self._brought.items():
            subscription, resources = self._subscriptions[type_url], state.of(type_url)
            version = state.versions.get(type_url) or version_of(resources)
            if brought == version and subscription.wildcard and not subscription.names:
                subscription.bring(resources)
                self._noted = None
        self._brought.clear()

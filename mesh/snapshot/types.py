"""The resource types that the mesh serves."""

from typing import Final

from mesh.api.envoy.config.cluster.v3 import cluster_pb2
from mesh.api.envoy.config.core.v3 import extension_pb2
from mesh.api.envoy.config.endpoint.v3 import endpoint_pb2
from mesh.api.envoy.config.listener.v3 import listener_pb2
from mesh.api.envoy.config.route.v3 import route_pb2
from mesh.api.envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from mesh.api.envoy.service.runtime.v3 import rtds_pb2
from mesh.snapshot.resource import type_url

CLUSTER: Final = type_url(cluster_pb2.Cluster)
ENDPOINT: Final = type_url(endpoint_pb2.ClusterLoadAssignment)
SECRET: Final = type_url(secret_pb2.Secret)
LISTENER: Final = type_url(listener_pb2.Listener)
ROUTE: Final = type_url(route_pb2.RouteConfiguration)
RUNTIME: Final = type_url(rtds_pb2.Runtime)
EXTENSION: Final = type_url(extension_pb2.TypedExtensionConfig)

TYPES: Final = frozenset({CLUSTER, ENDPOINT, SECRET, LISTENER, ROUTE, RUNTIME, EXTENSION})

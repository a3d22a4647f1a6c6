"""Where Envoy gets what a resource refers to."""

from datetime import timedelta
from typing import Final

from mesh.api.envoy.config.core.v3 import config_source_pb2
from mesh.api.envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from mesh.translate.wrappers import duration

ADS: Final = config_source_pb2.ConfigSource(
    ads=config_source_pb2.AggregatedConfigSource(), resource_api_version=config_source_pb2.V3
)

ADS_AT_START: Final = config_source_pb2.ConfigSource(
    ads=config_source_pb2.AggregatedConfigSource(),
    resource_api_version=config_source_pb2.V3,
    initial_fetch_timeout=duration(timedelta(0)),
)
"""For CDS and LDS: with a timeout Envoy would go live without listeners when the control plane is away."""

SECRETS_FOLDER: Final = "sds"
"""Relative to Envoy's working directory, so that clusters of all proxies are equal bytes."""


def secret(name: str) -> secret_pb2.SdsSecretConfig:
    """A secret that the agent keeps in a file. The folder is watched for the rename that swaps `current`."""
    return secret_pb2.SdsSecretConfig(
        name=name,
        sds_config=config_source_pb2.ConfigSource(
            path_config_source=config_source_pb2.PathConfigSource(
                path=f"{SECRETS_FOLDER}/current/{name}.json",
                watched_directory={"path": SECRETS_FOLDER},
            ),
            resource_api_version=config_source_pb2.V3,
        ),
    )

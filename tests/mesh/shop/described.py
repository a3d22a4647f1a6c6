"""A gRPC server with the services of a file of descriptors. Tells them by server reflection, unless it is SILENT."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

files = FileDescriptorSet.FromString(Path(sys.argv[1]).read_bytes()).file
pool = DescriptorPool()
for file in files:
    pool.AddSerializedFile(file.SerializeToString())
server = grpc.server(ThreadPoolExecutor())
checks = health.HealthServicer()
checks.set("", health_pb2.HealthCheckResponse.SERVING)
health_pb2_grpc.add_HealthServicer_to_server(checks, server)
if not os.environ.get("SILENT"):
    names = [f"{file.package}.{service.name}" for file in files for service in file.service]
    reflection.enable_server_reflection(names, server, pool)
server.add_insecure_port(f"{os.environ['HOST']}:{os.environ['PORT']}")
server.start()
server.wait_for_termination()

"""A gRPC server with the services of a file of descriptors.

Tells them by server reflection, unless it is SILENT, and only SLOWLY seconds after it is asked.
"""

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection


class Slowly(grpc.ServerInterceptor):
    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        if "Reflection" in handler_call_details.method:
            time.sleep(float(os.environ.get("SLOWLY", "0")))
        return continuation(handler_call_details)


files = FileDescriptorSet.FromString(Path(sys.argv[1]).read_bytes()).file
pool = DescriptorPool()
for file in files:
    pool.AddSerializedFile(file.SerializeToString())
server = grpc.server(ThreadPoolExecutor(), interceptors=[Slowly()])
checks = health.HealthServicer()
checks.set("", health_pb2.HealthCheckResponse.SERVING)
health_pb2_grpc.add_HealthServicer_to_server(checks, server)
if not os.environ.get("SILENT"):
    names = [f"{file.package}.{service.name}" for file in files for service in file.service]
    reflection.enable_server_reflection(names, server, pool)
server.add_insecure_port(f"{os.environ['HOST']}:{os.environ['PORT']}")
server.start()
server.wait_for_termination()

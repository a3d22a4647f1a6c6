"""`python -m mesh.controlplane`."""

import os
import sys

# gRPC has no other word for "TLS 1.3 only". These are the ciphers of TLS 1.2 alone, which it reads when it is imported:
# one that needs a certificate with an RSA key, and the control plane's own never has one. What is left is TLS 1.3.
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES128-GCM-SHA256"

from mesh.controlplane.main import main

sys.exit(main())

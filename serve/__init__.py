"""The gRPC service: `python -m serve.server`."""

import os

# gRPC's core has lines of its own, no JSON, and callers can make it write them; read at its import.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

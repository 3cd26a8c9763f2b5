"""The gRPC service: `python -m serve.server`."""

# The gRPC service, without torch. The context is the repository:
#   docker build -t deesc . && docker run --rm -p 50051:50051 -p 127.0.0.1:9464:9464 \
#       -v /secrets:/secrets:ro deesc --host 0.0.0.0 --metrics-host 0.0.0.0 \
#       --tls-certificate /secrets/tls.crt --tls-key /secrets/tls.key --token-file /secrets/tokens
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml hatch_build.py constraints.txt README.md LICENSE ./
COPY deesc_model deesc_model
COPY models/default models/default
RUN python -m venv /app/venv \
    && /app/venv/bin/pip install --no-cache-dir -c constraints.txt ".[serve]"

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home deesc
COPY --from=build /app/venv /app/venv
COPY serve /app/serve
WORKDIR /app
USER 10001
ENV PATH=/app/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
EXPOSE 50051 9464
# It listens once the model is loaded; grpc.health.v1 says more to those who speak gRPC.
# The port is fixed: with another --port, give a --health-cmd, or map this one with -p instead.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import socket; socket.create_connection(('127.0.0.1', 50051), 3)"]
ENTRYPOINT ["python", "-m", "serve.server"]

"""The classifier's methods over gRPC, from a server that `python -m serve.server` started.

with EscalationClient("127.0.0.1:50051") as client:
    print(client.predict("You lied to me!").level)

Calls have deadlines. UNAVAILABLE and RESOURCE_EXHAUSTED are tried again with growing pauses,
or with the pause that a busy server asks for; other errors are not. A turn of a live conversation
is sent again with growing pauses, all others are for gRPC itself to try again, see
https://github.com/grpc/proposal/blob/master/A6-client-retries.md
"""

from deesc_model.errors import MissingExtraError

try:
    from deesc_model.client.asynchronous import AsyncEscalationClient
    from deesc_model.client.blocking import EscalationClient
    from deesc_model.client.calls import OnError
    from deesc_model.client.payloads import BYTES_PER_CALL, REQUESTS_PER_CALL
except ModuleNotFoundError as error:
    raise MissingExtraError(f"the package {error.name}", "client") from None

__all__ = (
    "BYTES_PER_CALL",
    "REQUESTS_PER_CALL",
    "AsyncEscalationClient",
    "EscalationClient",
    "OnError",
)

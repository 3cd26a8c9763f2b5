"""Open the explorer on this machine.

python -m explorer --help
"""

import argparse
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from deesc_model import DeescError, EscalationClassifier, MissingExtraError
from deesc_model.risk import shipped_risk
from explorer.desk import Models

try:
    import uvicorn

    from explorer.app import HOST, build_app
except ModuleNotFoundError as error:
    raise SystemExit(str(MissingExtraError(f"the package {error.name}", "ui"))) from None


def load_models(folders: Sequence[Path], threads: int | None) -> Models:
    """Load bundles, by name; without any, the shipped one.

    Raises:
        BundleError: One of them cannot be used.
    """
    models = {}
    chosen: Sequence[Path | None] = folders or [None]
    for folder in chosen:
        classifier = EscalationClassifier.from_pretrained(folder, threads=threads)
        place = f"{folder}" if folder else "shipped"
        models[f"{classifier.model_version} ({place})"] = classifier
    return models


def main() -> None:
    """Serve the page until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m explorer", description=__doc__)
    parser.add_argument("--port", type=int, default=7860, help="0 takes any free one")
    parser.add_argument(
        "--bundle",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="a model to choose; may be given more than once; default: the shipped one",
    )
    parser.add_argument("--threads", type=int, help="threads of one forward pass")
    options = parser.parse_args()
    if not 0 <= options.port <= 65535:
        parser.error("--port must be from 0 to 65535")
    if options.threads is not None and options.threads < 1:
        parser.error("--threads must be 1 or more")
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, options.port))
        models = load_models(options.bundle, options.threads)
        for classifier in models.values():
            if said := shipped_risk().mismatch(classifier.model_version):
                print(said, file=sys.stderr)
    except (DeescError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    server = uvicorn.Server(uvicorn.Config(build_app(models), log_level="warning"))
    listening.listen()  # who opens the address at once waits for the server and is not refused
    print(f"http://{HOST}:{listening.getsockname()[1]} - Ctrl-C ends it", flush=True)
    server.run(sockets=[listening])


if __name__ == "__main__":
    main()

"""Bundles from an MLflow model registry, kept in a cache folder, one folder a version.

Needs the extra ``registry`` (mlflow-skinny, over HTTP); nothing else here imports MLflow.
"""

import contextlib
import hashlib
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from deesc_model.bundle import MANIFEST_FILE, read_bundle
from deesc_model.errors import BundleError, DeescError, MissingExtraError, RegistryError

CONNECT_TIMEOUT_S: Final = 5.0


def default_cache() -> Path:
    """Return ``deesc`` in the user's cache folder (XDG_CACHE_HOME, else ``~/.cache``)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deesc"


def check_reachable(uri: str) -> None:
    """Fail within seconds where MLflow's client would retry for minutes.

    What is reached through a proxy is not looked at.

    Raises:
        OSError: Nothing listens at the address of an http or https URI.
    """
    address = urlsplit(uri)
    if address.scheme in ("http", "https") and address.hostname:
        from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 - of no small size

        proxied = {address.scheme, "all"} & getproxies().keys()
        if proxied and not proxy_bypass(address.hostname):
            return
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname, port), CONNECT_TIMEOUT_S).close()


def fetch_bundle(uri: str, *, tracking_uri: str | None = None, cache: Path | None = None) -> Path:
    """Return the folder of a registered bundle, downloaded once and verified.

    The folder appears under its name only when it is whole, so that a kill leaves nothing that
    could be loaded; a damaged one is downloaded again. Processes may share a cache.

    Args:
        uri: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
        tracking_uri: The MLflow server; None takes MLFLOW_TRACKING_URI.
        cache: Where versions are kept; None takes `default_cache`.

    Raises:
        MissingExtraError: MLflow is not installed.
        RegistryError: The server does not answer, there is no such version, or the cache
            cannot be written.
        BundleError: What is registered is not a bundle that this package reads.
    """
    name, version, alias = _parse(uri)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"the package {error.name}", "registry") from None
    try:
        address = tracking_uri or mlflow.get_tracking_uri()
        check_reachable(address)
        client = mlflow.MlflowClient(address, address)
        if alias:
            found = client.get_model_version_by_alias(name, alias)
        else:
            found = client.get_model_version(name, version)
        # Versions are counted by each registry for itself, and anew if it is set up anew.
        origin = f"{address} {name} {found.version} {found.creation_timestamp}"
        digest = hashlib.sha256(origin.encode()).hexdigest()[:8]
        target = (cache or default_cache()) / f"{name}-{found.version}-{digest}"
        if _is_whole(target):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        source = f"models:/{name}/{found.version}"
        _download(mlflow, source, address, target)
    except DeescError:
        raise
    except Exception as error:  # MLflow and its stores raise errors of many kinds
        raise RegistryError(f"cannot get {uri} from the registry: {str(error)[:300]}") from error
    return target


def _parse(uri: str) -> tuple[str, str, str]:
    """Return name, version and alias; one of the last two is empty."""
    path = uri.removeprefix("models:/")
    separator = "@" if "@" in path else "/"
    name, _, which = path.partition(separator)
    if path == uri or not name or not which or "/" in name + which:
        raise RegistryError(f"a registered model is models:/NAME@ALIAS or …/VERSION, not {uri!r}")
    return (name, "", which) if separator == "@" else (name, which, "")


def _is_whole(folder: Path) -> bool:
    with contextlib.suppress(BundleError):
        read_bundle(folder)
        return True
    return False


def _download(mlflow: Any, source: str, address: str, target: Path) -> None:
    """Download beside the target, verify, and rename into place."""
    with tempfile.TemporaryDirectory(
        suffix=".partial", prefix=f"{target.name}.", dir=target.parent, ignore_cleanup_errors=True
    ) as partial:
        whole = mlflow.artifacts.download_artifacts(
            artifact_uri=source, dst_path=partial, tracking_uri=address, registry_uri=address
        )
        manifests = list(Path(whole).glob(f"artifacts/*/{MANIFEST_FILE}"))
        if len(manifests) != 1:
            raise BundleError(f"{source} holds no bundle; was it registered by training.train?")
        bundle = manifests[0].parent
        read_bundle(bundle)
        if target.exists() and not _is_whole(target):
            shutil.move(target, Path(partial) / "damaged")
        try:
            bundle.rename(target)
        except OSError:
            if not _is_whole(target):  # else another process was faster
                raise

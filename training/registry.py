"""Which registered version is in use: the alias `champion`, and why it points where it does.

Each move writes its reason, author, time and the version before as tags of the version, first,
and moves the alias last, in one call: a kill leaves the old champion.
"""

import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from deesc_model.errors import RegistryError
from deesc_model.registry import check_reachable, fetch_bundle
from training.config import CHAMPION, Config
from training.tracking import MODEL_VERSION_TAG


@dataclass(frozen=True, slots=True)
class Move:
    """A move of the alias: from which version, None if there was none, to which."""

    before: str | None
    after: str


class Registry:
    """The versions of one registered model."""

    def __init__(self, config: Config) -> None:
        """Connect.

        Raises:
            RegistryError: MLflow does not answer.
        """
        self._name = config.registered_model
        self._uri = config.tracking_uri
        try:
            check_reachable(self._uri)
        except OSError as error:
            raise RegistryError(f"cannot reach MLflow at {self._uri}: {error}") from None
        self._client = MlflowClient(self._uri, self._uri)

    def champion(self) -> str | None:
        """Return the version that is in use, or None."""
        try:
            aliases = self._client.get_registered_model(self._name).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise RegistryError(f"cannot read {self._name}: {str(error)[:300]}") from None
        version = aliases.get(CHAMPION)
        return None if version is None else str(version)

    def fetch_champion(self) -> Path | None:
        """Return the champion's verified bundle, or None if there is no champion."""
        version = self.champion()
        if version is None:
            return None
        return fetch_bundle(f"models:/{self._name}/{version}", tracking_uri=self._uri)

    def find(self, model_version: str) -> str | None:
        """Return the version that holds this bundle, or None.

        Of several, as a run that was gone on with leaves them, it is the champion, or the newest.
        """
        try:
            found = self._client.search_model_versions(f"name = '{self._name}'")
        except MlflowException as error:
            raise RegistryError(f"cannot search {self._name}: {str(error)[:300]}") from None
        numbers = [
            str(version.version)
            for version in found
            if version.tags.get(MODEL_VERSION_TAG) == model_version
        ]
        champion = self.champion()
        return champion if champion in numbers else max(numbers, key=int, default=None)

    def promote(self, version: str, reason: str, author: str | None = None) -> Move:
        """Make a version the champion.

        Raises:
            RegistryError: There is no such version, or MLflow fails.
        """
        self._version(version)
        before = self.champion()
        if before != version:
            self._note(version, "promotion", reason, author, {"previous": before or ""})
            self._point_to(version)
        return Move(before, version)

    def rollback(self, reason: str, author: str | None = None) -> Move:
        """Make the champion before the current one the champion again.

        Raises:
            RegistryError: There is no champion, none before it, or MLflow fails.
        """
        current = self.champion()
        if current is None:
            raise RegistryError(f"{self._name} has no {CHAMPION} to roll back from")
        before = self._version(current).tags.get("promotion.previous")
        if not before:
            raise RegistryError(f"{self._name} had no {CHAMPION} before version {current}")
        self._version(before)
        # On the version that goes, so that the other keeps the one before itself.
        self._note(current, "rollback", reason, author, {"to": before, "previous": current})
        self._point_to(before)
        return Move(current, before)

    def _version(self, version: str) -> ModelVersion:
        try:
            return self._client.get_model_version(self._name, version)
        except MlflowException as error:
            raise RegistryError(f"{self._name} {version}: {str(error)[:300]}") from None

    def _note(
        self, version: str, what: str, reason: str, author: str | None, more: Mapping[str, str]
    ) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        tags = {"reason": reason, "author": author or _user(), "time": now, **more}
        try:
            for key, value in tags.items():
                self._client.set_model_version_tag(self._name, version, f"{what}.{key}", value)
        except MlflowException as error:
            raise RegistryError(f"{self._name} {version}: {str(error)[:300]}") from None

    def _point_to(self, version: str) -> None:
        try:
            self._client.set_registered_model_alias(self._name, CHAMPION, version)
        except MlflowException as error:
            raise RegistryError(f"{self._name} {version}: {str(error)[:300]}") from None


def _user() -> str:
    """Return who calls.

    Raises:
        RegistryError: The system knows no name, as in a container of any user's.
    """
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the first until Python 3.12
        raise RegistryError("this user has no name; say who you are with --author") from None

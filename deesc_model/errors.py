"""The errors that deesc raises on purpose. Catch `DeescError` to catch them all.

DeescError
├── InvalidInputError   a text, turn or row cannot be labelled   (also a ValueError)
├── BundleError         a model bundle cannot be trusted or read
├── ServiceError        a server did not answer, or refused for a reason other than the input
├── RegistryError       a model registry did not answer, or lacks the version
├── StoreError          an object store did not answer, or refused
├── SettingsError       a policy, playbook or risk file is wrong (also a ValueError)
└── MissingExtraError   an optional dependency is not installed  (also an ImportError)
"""


class DeescError(Exception):
    """Base of every error that deesc raises on purpose."""


class InvalidInputError(DeescError, ValueError):
    """The input cannot be labelled; the message names what is wrong and where."""


class BundleError(DeescError):
    """A bundle is missing, corrupt, tampered with or too new; the message names the file."""


class ServiceError(DeescError):
    """A server did not answer a call.

    Attributes:
        code: Name of the gRPC status, for example ``"UNAVAILABLE"``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class RegistryError(DeescError):
    """A version could not be had from a model registry; the message says which and why."""


class StoreError(DeescError):
    """An object store did not answer, or refused; the message names the URI and what to check."""


class SettingsError(DeescError, ValueError):
    """A policy, playbook or risk file is missing or wrong; the message names file and key."""


class MissingExtraError(DeescError, ImportError):
    """An optional dependency is missing; the message names the pip command."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed; in the folder of deesc: pip install '.[{extra}]'"
        )

"""deesc: frustration level, triggers and escalation signals of customer-service utterances.

from deesc_model import EscalationClassifier

classifier = EscalationClassifier.from_pretrained()
print(classifier.predict("This is the third time I'm explaining this.").level)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from deesc_model.classifier import EscalationClassifier
from deesc_model.errors import (
    BundleError,
    DeescError,
    InvalidInputError,
    MissingExtraError,
    RegistryError,
    ServiceError,
    SettingsError,
    StoreError,
)
from deesc_model.labels import SIGNALS, SPEAKERS, TRIGGERS, Level
from deesc_model.types import Prediction, Turn

if TYPE_CHECKING:
    from deesc_model.companion import ConversationCompanion, Step
    from deesc_model.evidence import Evidence, find_evidence
    from deesc_model.monitor import ConversationMonitor, ConversationState, follow_conversation
    from deesc_model.playbook import Playbook
    from deesc_model.policy import Action, Decision, EscalationPolicy, PolicyFollower

    __version__: str

__all__ = [
    "SIGNALS",
    "SPEAKERS",
    "TRIGGERS",
    "Action",
    "BundleError",
    "ConversationCompanion",
    "ConversationMonitor",
    "ConversationState",
    "Decision",
    "DeescError",
    "EscalationClassifier",
    "EscalationPolicy",
    "Evidence",
    "InvalidInputError",
    "Level",
    "MissingExtraError",
    "Playbook",
    "PolicyFollower",
    "Prediction",
    "RegistryError",
    "ServiceError",
    "SettingsError",
    "Step",
    "StoreError",
    "Turn",
    "__version__",
    "find_evidence",
    "follow_conversation",
]

_LATER: Final = {
    "companion": ("ConversationCompanion", "Step"),
    "evidence": ("Evidence", "find_evidence"),
    "monitor": ("ConversationMonitor", "ConversationState", "follow_conversation"),
    "playbook": ("Playbook",),
    "policy": ("Action", "Decision", "EscalationPolicy", "PolicyFollower"),
}
"""What whoever labels one utterance does without: its modules are imported when they are asked for,
which saves a good part of the time to the first answer."""


def __getattr__(name: str) -> Any:
    """Import what is asked for the first time. Source: PEP 562."""
    if name == "__version__":
        found: Any = _version()
    else:
        for module, names in _LATER.items():
            if name in names:
                found = getattr(import_module(f"deesc_model.{module}"), name)
                break
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - slow

    try:
        return version("deesc-model")
    except PackageNotFoundError:  # a checkout on the path that was never installed
        return "0+checkout"

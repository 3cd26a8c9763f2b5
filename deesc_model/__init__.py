"""deesc: frustration level, triggers and escalation signals of customer-service utterances.

from deesc_model import EscalationClassifier

classifier = EscalationClassifier.from_pretrained()
print(classifier.predict("This is the third time I'm explaining this.").level)
"""

from importlib.metadata import PackageNotFoundError, version

from deesc_model.classifier import EscalationClassifier
from deesc_model.companion import ConversationCompanion, Step
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
from deesc_model.evidence import Evidence, find_evidence
from deesc_model.labels import SIGNALS, SPEAKERS, TRIGGERS, Level
from deesc_model.monitor import ConversationMonitor, ConversationState, follow_conversation
from deesc_model.playbook import Playbook
from deesc_model.policy import Action, Decision, EscalationPolicy, PolicyFollower
from deesc_model.types import Prediction, Turn

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

try:
    __version__ = version("deesc-model")
except PackageNotFoundError:  # a checkout on the path that was never installed
    __version__ = "0+checkout"

"""deesc: frustration level, triggers and escalation signals of customer-service utterances.

from deesc_model import EscalationClassifier

classifier = EscalationClassifier.from_pretrained()
print(classifier.predict("This is the third time I'm explaining this.").level)
"""

from importlib.metadata import PackageNotFoundError, version

from deesc_model.classifier import EscalationClassifier
from deesc_model.errors import (
    BundleError,
    DeescError,
    InvalidInputError,
    MissingExtraError,
    ServiceError,
)
from deesc_model.labels import SIGNALS, SPEAKERS, TRIGGERS, Level
from deesc_model.types import Prediction, Turn

__all__ = [
    "SIGNALS",
    "SPEAKERS",
    "TRIGGERS",
    "BundleError",
    "DeescError",
    "EscalationClassifier",
    "InvalidInputError",
    "Level",
    "MissingExtraError",
    "Prediction",
    "ServiceError",
    "Turn",
    "__version__",
]

try:
    __version__ = version("deesc-model")
except PackageNotFoundError:  # a checkout on the path that was never installed
    __version__ = "0+checkout"

"""Escalation risk: how likely the next turns escalate, from the predictions so far.

A logistic regression on a dozen numbers that a person can read. `python -m training.fit_policy`
fits it to what the classifier predicts on the labelled conversations, errors included.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, Final, Self

from deesc_model.errors import SettingsError
from deesc_model.labels import Level
from deesc_model.types import Prediction

RISK_FILE: Final = Path(__file__).with_name("risk.json")
"""The weights that come with the package."""

FEATURES: Final[tuple[str, ...]] = (
    "frustration",
    "smoothed",
    "lasting",
    "heated",
    "most_heated",
    "displeased",
    "unresolved",
    "blame",
    "leaving",
    "authority",
    "provocation",
    "provocation_so_far",
    "agent_spoke",
    "turns",
    "customer_turns",
)
"""What the risk is computed from, in the order of `RiskFeatures.update`."""

KEEP: Final = 0.5
"""What a running average keeps of its past with each turn of the same speaker, 0–1."""


class RiskFeatures:
    """The running numbers behind the risk; fed every turn of one conversation.

    ``frustration`` is the customer's latest, ``smoothed`` its running average, ``lasting`` the
    lower of the two latest; ``heated`` and ``displeased`` are the probabilities of levels from
    3 and from 2 in the latest customer turn, ``most_heated`` the highest of the first so far.
    ``unresolved``, ``blame`` (agent_conduct, broken_promise), ``leaving`` (churn or going public)
    and ``authority`` (asking for a superior) are running averages of the customer's scores.
    ``provocation`` is the probability that the agent's latest turn sets something off,
    ``provocation_so_far`` its running average. ``turns`` and ``customer_turns`` are logarithms
    of their numbers.
    """

    __slots__ = ("_averages", "_customers", "_latest", "_most_heated", "_provocation", "_turns")

    def __init__(self) -> None:
        self._turns = 0
        self._customers = 0
        self._latest = (0.0, 0.0, 0.0, 0.0)
        self._averages = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._most_heated = 0.0
        self._provocation = (0.0, 0.0)

    def update(self, speaker: str, prediction: Prediction) -> tuple[float, ...]:
        """Take one turn and return the numbers named in `FEATURES`."""
        self._turns += 1
        if speaker == "customer":
            self._hear_customer(prediction)
        else:
            quiet = math.prod(1 - score for score in prediction.trigger_scores.values())
            so_far = KEEP * self._provocation[1] + (1 - KEEP) * (1 - quiet)
            self._provocation = (1 - quiet, so_far)
        frustration, lasting, heated, displeased = self._latest
        smoothed, *averages = self._averages
        return (
            frustration,
            smoothed,
            lasting,
            heated,
            self._most_heated,
            displeased,
            *averages,
            *self._provocation,
            float(speaker == "agent"),
            math.log(self._turns),
            math.log1p(self._customers),
        )

    def _hear_customer(self, prediction: Prediction) -> None:
        now, levels = prediction.frustration, prediction.level_scores
        triggers, signals = prediction.trigger_scores, prediction.signal_scores
        heated = levels[Level.ANGRY] + levels[Level.ABUSIVE]
        lasting = min(now, self._latest[0])
        self._latest = (now, lasting, heated, heated + levels[Level.FRUSTRATED])
        self._most_heated = max(self._most_heated, heated)
        keep = KEEP if self._customers else 0.0
        smoothed, unresolved, blame, leaving, authority = (keep * old for old in self._averages)
        self._averages = (
            smoothed + (1 - keep) * now,
            unresolved + (1 - keep) * triggers["unresolved"],
            blame + (1 - keep) * max(triggers["agent_conduct"], triggers["broken_promise"]),
            leaving + (1 - keep) * max(signals["churn_threat"], signals["public_or_legal_threat"]),
            authority + (1 - keep) * signals["supervisor_request"],
        )
        self._customers += 1


@dataclass(frozen=True, slots=True)
class RiskModel:
    """The weights of the risk.

    Attributes:
        horizon: Turns ahead, of either speaker, that the risk speaks of.
        intercept: Log-odds where every feature is 0.
        weights: What one unit of each of `FEATURES` adds to the log-odds.
        fitted_to: Version of the model whose predictions it was fitted to.
    """

    horizon: int
    intercept: float
    weights: Mapping[str, float]
    fitted_to: str

    def probability(self, features: tuple[float, ...]) -> float:
        """Return the risk 0–1 for what `RiskFeatures.update` returned."""
        log_odds = self.intercept
        for weight, value in zip(self.weights.values(), features, strict=True):
            log_odds += weight * value
        return 0.5 * (1.0 + math.tanh(0.5 * log_odds))

    def mismatch(self, model_version: str) -> str:
        """Return what is to be said of risks of this model's predictions; empty if nothing is."""
        if model_version == self.fitted_to:
            return ""
        return (
            f"the risk was fitted to {self.fitted_to}, not to {model_version}, whose risks and"
            " alerts may be wrong; python -m training.fit_policy fits it"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "horizon": self.horizon,
            "fitted_to": self.fitted_to,
            "intercept": round(self.intercept, 4),
            "weights": {name: round(weight, 4) for name, weight in self.weights.items()},
        }

    @classmethod
    def read(cls, path: str | PathLike[str]) -> Self:
        """Read weights from a JSON file.

        Raises:
            SettingsError: The file is missing, damaged, or made for other features.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            weights = {str(name): float(weight) for name, weight in data["weights"].items()}
            model = cls(
                int(data["horizon"]), float(data["intercept"]), weights, str(data["fitted_to"])
            )
        except FileNotFoundError:
            raise SettingsError(
                f"{path} is missing; python -m training.fit_policy writes it"
            ) from None
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
        ) as error:
            raise SettingsError(f"{path} holds no risk weights: {error!r}") from None
        if tuple(model.weights) != FEATURES:
            raise SettingsError(
                f"{path} was fitted to other features than this package computes; fit it again"
                " with: python -m training.fit_policy"
            )
        if not all(map(math.isfinite, (model.intercept, *weights.values()))):
            raise SettingsError(f"{path} holds a weight that is no finite number")
        return model


@cache
def shipped_risk() -> RiskModel:
    """Return the weights that come with the package."""
    return RiskModel.read(RISK_FILE)

"""`deesc score` with a model that says the same of each text: what all else of it takes.

    python -m benchmarks.stubbed_score score turns.jsonl --parts parts

In one process only: those that are started by `--processes` have the real model.
"""

from collections.abc import Sequence
from typing import Any

from deesc_model import EscalationClassifier, Prediction
from deesc_model.cli import main


def stub() -> None:
    """Replace the model's answers, each by that to one word."""
    predict = EscalationClassifier.predict_batch

    def same(
        self: EscalationClassifier, utterances: Sequence[Any], contexts: object, **options: Any
    ) -> list[Prediction]:
        return predict(self, ["Hello"]) * len(utterances)

    EscalationClassifier.predict_batch = same  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    stub()
    main()

"""MLflow model from code: a bundle that takes a table of texts. Logged by `tracking`."""

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from deesc_model import EscalationClassifier, Turn
from deesc_model.errors import InvalidInputError
from deesc_model.records import BadRecord, NumberedRow, in_context


class BundleModel(PythonModel):
    """Labels the column ``text``; the column ``speaker`` may be missing, or null, or blank."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the bundle among the model's artifacts."""
        self.classifier = EscalationClassifier.from_pretrained(context.artifacts["bundle"])

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, object] | None = None,
    ) -> pd.DataFrame:
        """Return level, frustration, triggers, signals and model_version of each row.

        Raises:
            InvalidInputError: A row cannot be labelled; the message says which, and why. It has no
                nulls instead, which MLflow cannot give Spark in a column of whole numbers.
        """
        labelled = self.classifier.predict_batch(_turns(model_input))
        return pd.DataFrame(
            {
                "level": [int(prediction.level) for prediction in labelled],
                "frustration": [prediction.frustration for prediction in labelled],
                "triggers": [list(prediction.triggers) for prediction in labelled],
                "signals": [list(prediction.signals) for prediction in labelled],
                "model_version": [prediction.model_version for prediction in labelled],
            }
        )


def _turns(table: pd.DataFrame) -> list[Turn]:
    """Return what each row says, read as `deesc score` reads it."""
    fields = table[[name for name in ("speaker", "text") if name in table]].astype(object)
    rows = fields.where(fields.notna(), None).to_dict("records")
    numbered = (NumberedRow(number, row, 0) for number, row in enumerate(rows, start=1))
    turns = []
    for record in in_context(numbered, context_turns=0):
        if isinstance(record, BadRecord):
            raise InvalidInputError(f"row {record.line} of {len(rows)}: {record.message}")
        turns.append(record.turn)
    return turns


mlflow.models.set_model(BundleModel())

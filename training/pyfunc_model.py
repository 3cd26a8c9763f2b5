"""MLflow model from code: a bundle that takes a table of texts. Logged by `tracking`."""

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from deesc_model import EscalationClassifier, Turn


class BundleModel(PythonModel):
    """Labels the column ``text``; the optional column ``speaker`` defaults to customer."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the bundle among the model's artifacts."""
        self.classifier = EscalationClassifier.from_pretrained(context.artifacts["bundle"])

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, object] | None = None,
    ) -> pd.DataFrame:
        """Return level, frustration, triggers, signals and model_version of each row."""
        speakers = ["customer"] * len(model_input)
        if "speaker" in model_input:
            speakers = model_input["speaker"].fillna("customer").tolist()
        texts = model_input["text"].tolist()
        turns = [Turn(speaker, text) for speaker, text in zip(speakers, texts, strict=True)]
        labelled = self.classifier.predict_batch(turns)
        return pd.DataFrame(
            {
                "level": [int(prediction.level) for prediction in labelled],
                "frustration": [prediction.frustration for prediction in labelled],
                "triggers": [list(prediction.triggers) for prediction in labelled],
                "signals": [list(prediction.signals) for prediction in labelled],
                "model_version": [prediction.model_version for prediction in labelled],
            }
        )


mlflow.models.set_model(BundleModel())

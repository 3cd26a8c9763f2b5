"""The model that MLflow is given, called with tables as Spark sends them."""

from types import SimpleNamespace
from unittest.mock import patch

import pandas as pd
import pytest

from deesc_model import Turn
from deesc_model.errors import InvalidInputError

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own


@pytest.fixture
def model(tiny_bundle):
    from training.pyfunc_model import BundleModel  # noqa: PLC0415 - MLflow warns at its import

    made = BundleModel()
    made.load_context(SimpleNamespace(artifacts={"bundle": str(tiny_bundle)}))
    return made


def test_speakers_are_read_as_deesc_score_reads_them(model, classifier):
    told = ["Agent", "agent (Dana)", "", None, float("nan"), "Caller"]
    table = pd.DataFrame({"text": ["you lied to me"] * len(told), "speaker": told})
    roles = ["agent", "agent", *["customer"] * 4]
    read = [Turn(role, "you lied to me") for role in roles]
    expected = classifier.predict_batch(read)
    answer = model.predict(None, table)
    assert answer["frustration"].tolist() == [each.frustration for each in expected]
    assert answer["level"].dtype == "int64"
    with patch.object(model.classifier, "predict_batch", return_value=[]) as asked:
        model.predict(None, table)
    asked.assert_called_once_with(read)
    alone = model.predict(None, table[["text"]])
    assert alone["frustration"].tolist() == [expected[-1].frustration] * len(told)
    assert model.predict(None, table[:0]).empty


@pytest.mark.parametrize(
    ("text", "speaker", "wrong"),
    [(None, None, "not NoneType"), ("  ", None, "empty"), ("hello", "Dana", "not 'Dana'")],
)
def test_a_row_that_cannot_be_labelled_is_named(model, text, speaker, wrong):
    table = pd.DataFrame({"text": ["hello", text], "speaker": ["customer", speaker]})
    with pytest.raises(InvalidInputError, match=f"row 2 of 2: .*{wrong}"):
        model.predict(None, table)

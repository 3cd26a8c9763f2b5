import pytest
from conversations import turn, utterance, write_rows

from deesc_model import Turn
from training import dataset
from training.baseline import TfidfFeatures
from training.config import Config
from training.corpus import SPLITS, DataError


@pytest.fixture
def public(monkeypatch):
    """Public texts in every split."""
    rows = [utterance(conversation_id=f"xci:{s}", split=s, source="xci") for s in SPLITS]
    monkeypatch.setattr(dataset, "load_sources", lambda *_, **__: list(rows))


@pytest.mark.usefixtures("public")
def test_a_corpus_without_test_turns_is_refused_before_the_training(tmp_path):
    corpus = write_rows(tmp_path / "corpus", [turn(conversation_id="c1", split="train")])
    config = Config(corpus=str(corpus))
    with pytest.raises(DataError, match=r"corpus has no turn in its test split"):
        dataset.load_dataset(config)
    write_rows(corpus, [turn(conversation_id="c2", split="test")], "b.jsonl")
    found = dataset.load_dataset(config)
    assert {split: [row.source for row in rows] for split, rows in found.items()} == {
        "train": ["corpus", "xci"],
        "validation": ["xci"],
        "test": ["corpus", "xci"],
    }


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_the_baseline_learns_however_few_turns_have_a_context(count):
    said = [Turn("agent", "parcel"), Turn("customer", "manager"), Turn("agent", "refund")]
    rows = [
        utterance(text="the parcel is late", context=(said[n],) if n < count else ())
        for n in range(6)
    ]
    assert TfidfFeatures(context_turns=2).fit_transform(rows).shape[0] == 6

import pytest
from conversations import turn, utterance, write_rows

from training import dataset
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

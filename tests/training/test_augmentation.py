import random
import re

from conversations import utterance
from hypothesis import given
from hypothesis import strategies as st

from deesc_model import Turn
from training.augmentation import CHANGES, augment

TEXTS = st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=1, max_size=80)


@given(TEXTS.filter(str.strip), st.integers(0, 1000))
def test_every_change_leaves_a_proper_text(text, seed):
    for change in CHANGES:
        assert Turn("customer", change(text, random.Random(seed)))


def test_labels_context_and_order_stay_and_most_texts_change():
    context = (Turn("agent", "Does it work now?"),)
    rows = [
        utterance(conversation_id=f"c{n}", text=f"It Is Late, really: {n}", context=context)
        for n in range(50)
    ]
    changed = augment(rows, seed=1)
    assert [row.conversation_id for row in changed] == [row.conversation_id for row in rows]
    assert all(
        (row.level, row.triggers, row.context) == (0, ("delay",), context) for row in changed
    )
    assert sum(new.text != old.text for new, old in zip(changed, rows, strict=True)) == 50
    assert augment(rows, seed=1) == changed
    assert augment(rows, seed=2) != changed


def test_who_shouts_goes_on_shouting():
    rows = [utterance(text="I WANT MY MONEY, now")] * 60
    for row in augment(rows, seed=3):
        shouted = re.findall(r"\b[A-Z]{2,}\b", row.text)
        assert len(shouted) >= 2, row.text

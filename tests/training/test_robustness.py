import random

import numpy as np
import pytest
from conversations import utterance

from training.robustness import NEGATIONS, PROBES, measure_robustness, robustness_table

TEXTS = ["Where is my parcel?", "I AM ANGRY", "Nobody told me, again!", "ok"]


@pytest.mark.parametrize(
    ("name", "text", "changed"),
    [
        ("lower_case", "My Bill is Wrong", "my bill is wrong"),
        ("lower_case", "my bill", None),
        ("lower_case", "This is WRONG", None),
        ("no_punctuation", "So, it's late... again!", "So it's late again!"),
        ("no_punctuation", "fine!", None),
        ("mention", "hello", "@HelpTeam hello"),
        ("typo", "it is ok", None),
    ],
)
def test_changes_leave_alone_what_carries_meaning(name, text, changed):
    assert PROBES[name].change(text, random.Random(1)) == changed


def test_a_typo_swaps_two_letters_inside_of_one_word():
    typo = PROBES["typo"].change("the parcel is late", random.Random(1))
    assert typo != "the parcel is late"
    assert sorted(typo) == sorted("the parcel is late")
    assert typo.split()[1][0] == "p"


def rows():
    return [utterance(text=text, conversation_id=f"c{n}") for n, text in enumerate(TEXTS)]


def test_a_model_that_reads_nothing_fails_only_where_it_should_react():
    found = measure_robustness(rows(), lambda texts: np.zeros(len(texts), dtype=np.int64))
    assert {name for name, part in found.items() if part["failures"]} == {"negation_lowers"}
    assert found["negation_lowers"]["failures"] == 1.0
    assert found["emoji"]["rows"] == len(TEXTS)
    assert found["lower_case"]["rows"] == 2


def test_failures_are_counted_per_change():
    def levels(texts):
        """Angry at a phone and at negated texts, calmed by an insult, heated by thanks."""
        heat = [
            1 + ("📱" in row.text or "Thank you" in row.text) - ("idiot" in row.text)
            for row in texts
        ]
        return np.array(heat)

    found = measure_robustness(rows(), levels)
    assert found["emoji"]["failures"] == 1.0
    assert found["insult_never_lowers"]["failures"] == 1.0
    assert found["thanks_never_raise"]["failures"] == 1.0
    assert found["link"]["failures"] == 0.0


def test_a_change_that_no_text_knows_has_no_share_of_failures():
    shouted = [row for row in rows() if row.text.isupper()]
    found = measure_robustness(shouted, lambda texts: np.zeros(len(texts), dtype=np.int64))
    assert found["lower_case"]["rows"] == 0
    assert "| lower_case | 0 | – |" in robustness_table(found)


def test_the_pairs_of_negations_are_many():
    assert len(NEGATIONS.read_text(encoding="utf-8").splitlines()) >= 20

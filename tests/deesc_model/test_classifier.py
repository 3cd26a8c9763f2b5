import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_bundle import BIAS

import deesc_model
from deesc_model import EscalationClassifier, InvalidInputError, Level, Turn
from deesc_model.encoding import EncodedInput, InputEncoder
from deesc_model.network import Network, available_cpus

TEXTS = st.lists(
    st.lists(
        st.sampled_from(["the", "late", "again", "fine", "furious", "manager"]),
        min_size=1,
        max_size=40,
    ).map(" ".join),
    min_size=1,
    max_size=12,
)


def test_a_prediction_by_hand(classifier):
    # [CLS] customer : the parcel is late [SEP]: the mean over eight tokens.
    prediction = classifier.predict("the parcel is late")
    exponents = np.exp([0, 30 / 8, 0, 0, 0])
    scores = exponents / exponents.sum()
    assert prediction.level is Level.CONCERNED
    assert prediction.level_scores == pytest.approx(scores.tolist(), abs=1e-6)
    assert prediction.frustration == pytest.approx(float(scores @ np.arange(5)), abs=1e-5)
    assert prediction.triggers == ("delay",)
    assert prediction.trigger_scores["delay"] == pytest.approx(1 / (1 + np.exp(-BIAS - 60 / 8)))
    assert prediction.trigger_scores["billing"] == pytest.approx(1 / (1 + np.exp(-BIAS)))
    assert prediction.signals == ()
    assert prediction.model_version == classifier.bundle.manifest.model_version


def test_context_counts_and_only_its_newest_turns(classifier):
    alone = classifier.predict("the parcel")
    after = classifier.predict("the parcel", [Turn("agent", "late"), "again"])
    long_after = classifier.predict("the parcel", ["again", Turn("agent", "fine"), "the", "is"])
    assert "unresolved" not in alone.triggers
    assert "unresolved" in after.triggers
    assert "unresolved" not in long_after.triggers  # the tiny bundle reads two turns


def test_the_agent_can_be_the_speaker(classifier):
    assert classifier.predict(Turn("agent", "late")).triggers == ("delay",)


def test_a_conversation_is_its_turns_each_in_context(classifier):
    turns = [
        Turn("customer", "late"),
        Turn("agent", "the parcel is fine"),
        Turn("customer", "again"),
    ]
    expected = [classifier.predict(turn, turns[:index]) for index, turn in enumerate(turns)]
    labelled = classifier.predict_conversation(turns)
    for one, other in zip(labelled, expected, strict=True):
        assert one.level == other.level
        assert one.level_scores == pytest.approx(other.level_scores, abs=1e-6)
    assert classifier.predict_conversation([]) == []


@given(TEXTS, st.integers(1, 5))
def test_batches_answer_in_the_order_given(classifier, texts, batch_size):
    batch = classifier.predict_batch(texts, batch_size=batch_size)
    assert len(batch) == len(texts)
    for text, prediction in zip(texts, batch, strict=True):
        assert prediction.level_scores == pytest.approx(
            classifier.predict(text).level_scores, abs=1e-6
        )


def test_nothing_of_a_long_text_is_lost(classifier):
    prediction = classifier.predict("the " * 40 + "idiot " + "the " * 40 + "late")
    assert prediction.level is Level.ABUSIVE
    assert prediction.triggers == ("delay",)
    assert prediction.signals == ("personal_abuse",)


def test_the_callers_data_is_not_changed(classifier):
    texts, contexts = ["late", "fine the parcel"], [["again"], []]
    classifier.predict_batch(texts, contexts)
    assert (texts, contexts) == (["late", "fine the parcel"], [["again"], []])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda c: c.predict(""), "utterance 0: text is empty"),
        (lambda c: c.predict(7), "utterance 0: expected a string or a Turn, not int"),
        (lambda c: c.predict("fine", "again"), "context must be a list, not one str"),
        (lambda c: c.predict("fine", [None]), "utterance 0: in its context: .* not NoneType"),
        (lambda c: c.predict("fine", None), "context must be a list, not one NoneType"),
        (lambda c: c.predict_batch(None), "utterances must be a list, not one NoneType"),
        (lambda c: c.predict_batch({"text": "fine"}), "utterances must be a list, not one dict"),
        (lambda c: c.predict_conversation(Turn("agent", "fine")), "turns must be a list"),
        (lambda c: c.predict_batch("fine"), "utterances must be a list, not one str"),
        (lambda c: c.predict_batch(["fine", " "]), "utterance 1: text is empty"),
        (lambda c: c.predict_batch(["fine"], []), "1 utterances but 0 contexts"),
        (lambda c: c.predict("x" * 1_000_000), "1,000,000 characters"),
        (lambda c: c.predict_conversation([Turn("agent", "fine"), {}]), "utterance 1"),
    ],
)
def test_bad_input_is_refused_with_a_reason(classifier, call, said):
    with pytest.raises(InvalidInputError, match=said):
        call(classifier)


def test_any_iterable_of_texts_will_do(classifier):
    expected = classifier.predict_batch(["late", "again"], [[], ["fine"]])
    texts = np.array(["late", "again"])
    assert classifier.predict_batch(texts, iter([[], ["fine"]])) == expected
    turns = [Turn("agent", "late"), Turn("customer", "again")]
    assert classifier.predict_conversation(iter(turns)) == classifier.predict_conversation(turns)


def test_one_classifier_serves_many_threads(classifier):
    texts = ["late", "again", "fine", "furious", "manager"] * 40
    expected = [classifier.predict(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(classifier.predict, texts)) == expected


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_take_effect(tiny_bundle, threads):
    bundle = EscalationClassifier.from_pretrained(tiny_bundle).bundle
    encoder = InputEncoder.from_file(bundle.tokenizer_path, bundle.config.encoder)
    assert Network(bundle.model_path, encoder, threads=threads).threads == threads


def test_threads_default_to_the_cpus_that_this_process_may_use(tiny_bundle):
    bundle = EscalationClassifier.from_pretrained(tiny_bundle).bundle
    encoder = InputEncoder.from_file(bundle.tokenizer_path, bundle.config.encoder)
    assert Network(bundle.model_path, encoder).threads == available_cpus()


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [
        ("100000 100000", 1),
        ("20000 100000", 1),
        ("max 100000", len(os.sched_getaffinity(0))),
        ("99900000 100000", len(os.sched_getaffinity(0))),
        (None, len(os.sched_getaffinity(0))),
    ],
)
def test_a_containers_quota_counts(tmp_path, quota, cpus):
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert available_cpus(tmp_path, tmp_path / "own") == cpus


@pytest.mark.parametrize(("said", "cpus"), [("0::/a/b", 1), ("0::/a", 2), ("0::/../a/b", 4)])
def test_the_quota_of_a_service_counts_as_that_of_its_slice(tmp_path, monkeypatch, said, cpus):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "cpu.max").write_text("200000 100000\n")
    (tmp_path / "a" / "b" / "cpu.max").write_text("100000 100000\n")
    (tmp_path / "own").write_text(f"{said}\n")
    assert available_cpus(tmp_path, tmp_path / "own") == cpus


def test_batches_of_nothing_are_refused(classifier):
    with pytest.raises(ValueError, match="batch_size must be 1 or more, not 0"):
        classifier.predict_batch(["fine"], batch_size=0)


def test_zero_threads_are_refused(tiny_bundle):
    with pytest.raises(ValueError, match="threads must be 1 or more"):
        EscalationClassifier.from_pretrained(tiny_bundle, threads=0)


def test_logits_come_back_in_the_order_given(tiny_bundle):
    bundle = EscalationClassifier.from_pretrained(tiny_bundle).bundle
    encoder = InputEncoder.from_file(bundle.tokenizer_path, bundle.config.encoder)
    network = Network(bundle.model_path, encoder, threads=1)
    windows = [EncodedInput((2, *[8] * length, 3), length + 2) for length in (5, 1, 9, 3)]
    together = network.logits(windows, batch_size=2)
    for row, window in enumerate(windows):
        assert together.level[row] == pytest.approx(network.logits([window]).level[0])


@pytest.mark.parametrize(
    ("lengths", "shapes"),
    [
        pytest.param([9] * 20, [(16, 9), (4, 9)], id="as many as allowed"),
        pytest.param([100] * 9, [(5, 100), (4, 100)], id="at most 512 tokens"),
        pytest.param([300, 513, 300], [(1, 300), (1, 300), (1, 513)], id="one alone may be longer"),
        pytest.param([9, 17, 9], [(3, 17)], id="16 tokens of padding are less than a pass"),
        pytest.param([9, 18, 9], [(2, 9), (1, 18)], id="18 are more"),
    ],
)
def test_passes_bound_memory_and_padding(tiny_bundle, lengths, shapes):
    bundle = EscalationClassifier.from_pretrained(tiny_bundle).bundle
    encoder = InputEncoder.from_file(bundle.tokenizer_path, bundle.config.encoder)
    network = Network(bundle.model_path, encoder, threads=1)
    found = []

    def collate(windows):
        arrays = InputEncoder.collate(encoder, windows)
        found.append(arrays["input_ids"].shape)
        return arrays

    encoder.collate = collate
    windows = [EncodedInput((2, *[8] * (length - 2), 3), length) for length in lengths]
    assert len(network.logits(windows, batch_size=16).level) == len(windows)
    assert found == shapes


def test_the_package_imports_nothing_heavy():
    heavy = (
        "torch transformers datasets sklearn scipy mlflow grpc pandas huggingface_hub typer rich"
    )
    code = (
        "import sys, deesc_model;"
        f"found = set({heavy.split()!r}) & set(sys.modules);"
        "sys.exit(f'imported: {found}' if found else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_every_public_name_exists():
    assert {name for name in deesc_model.__all__ if not hasattr(deesc_model, name)} == set()

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conversations import small_corpus

from deesc_model import EscalationClassifier, Turn
from deesc_model.bundle import read_bundle
from deesc_model.encoding import EncodedInput, EncoderSettings, InputEncoder
from deesc_model.postprocessing import Postprocessor
from deesc_model.scoring import Calibration, Logits
from training import export
from training.bundle_writer import write_bundle
from training.checkpoint import checkpoint_runner
from training.corpus import load_corpus, select_split
from training.dataset import both_views
from training.embeddings import embed_windows
from training.export import (
    ExportError,
    check_parity,
    export_network,
    export_onnx,
)
from training.model import LossWeights, new_model
from training.predict import onnx_runner, predict_logits

PLAIN = LossWeights((1.0,) * 5, (1.0,) * 11, (1.0,) * 5, 1.0, 1.0)
SETTINGS = EncoderSettings(max_length=48, context_turns=2, context_tokens=16, window_overlap=8)
ORIGIN = dict.fromkeys(
    ("name", "base_model", "training_run", "git_commit", "data_fingerprint"), "test"
)


@pytest.fixture(scope="module")
def trained(base_model):
    model, tokenizer = new_model(str(base_model), "corn", 0.0, PLAIN)
    return model.eval(), tokenizer


@pytest.fixture(scope="module")
def exact(trained, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("exact") / "model.onnx"
    export_onnx(trained[0], path)
    return path


@pytest.fixture
def exported_once(monkeypatch, exact):
    """For tests of what comes after torch's exporter, which takes seconds for one and the same."""
    monkeypatch.setattr(export, "export_onnx", lambda model, path: shutil.copy(exact, path))


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    rows = load_corpus(small_corpus(tmp_path_factory.mktemp("corpus") / "c"))
    return both_views(select_split(rows, "validation"))


def export_to(trained, views, staging: Path, quantization: str = "auto"):
    options = {"quantization": quantization, "error_rate": 0.1, "batch_size": 8}
    return export_network(*trained, SETTINGS, views, staging, **options)


def test_the_bundle_answers_as_the_checkpoint_does(trained, views, tmp_path):
    network = export_to(trained, views, tmp_path / "staging", "fp32")
    bundle_dir = tmp_path / "bundle"
    manifest = write_bundle(network, bundle_dir, report={}, card="# card", origin=ORIGIN)
    assert manifest == read_bundle(bundle_dir).manifest
    assert sorted(path.name for path in bundle_dir.iterdir()) == [
        "README.md",
        "config.json",
        "manifest.json",
        "metrics.json",
        "model.onnx",
        "tokenizer.json",
    ]
    model, _ = trained
    expected = predict_logits(
        views, network.encoder, checkpoint_runner(model, network.encoder, 8), Calibration("corn")
    )
    encoder = InputEncoder.from_file(bundle_dir / "tokenizer.json", SETTINGS)
    actual = predict_logits(
        views, encoder, onnx_runner(bundle_dir / "model.onnx", encoder, 3), Calibration("corn")
    )
    np.testing.assert_allclose(actual.level, expected.level, atol=1e-4)
    np.testing.assert_allclose(actual.triggers, expected.triggers, atol=1e-4)
    row = views[3]
    classifier = EscalationClassifier.from_pretrained(bundle_dir)
    prediction = classifier.predict(Turn(row.speaker, row.text), row.context)
    logits = Logits(expected.level[3:4], expected.triggers[3:4], expected.signals[3:4])
    calibration = classifier.bundle.config.calibration
    (of_checkpoint,) = Postprocessor(calibration, classifier.model_version)(logits)
    assert prediction.level_scores == pytest.approx(of_checkpoint.level_scores, abs=1e-4)
    assert prediction.trigger_scores == pytest.approx(of_checkpoint.trigger_scores, abs=1e-4)
    assert prediction.signal_scores == pytest.approx(of_checkpoint.signal_scores, abs=1e-4)


@pytest.mark.usefixtures("exported_once")
def test_int8_is_smaller_and_named(trained, views, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "QUALITY_TOLERANCE", 1.0)
    exact = export_to(trained, views, tmp_path / "a", "fp32").path.stat().st_size
    network = export_to(trained, views, tmp_path / "b")
    assert network.weights == "int8"
    assert set(network.quantization_loss) == {"level_macro_f1", "trigger_macro_f1"}
    assert network.path.stat().st_size < exact
    assert sorted(path.name for path in network.path.parent.iterdir()) == [
        "model.onnx",
        "tokenizer.json",
    ]


@pytest.mark.usefixtures("exported_once")
def test_quantisation_that_costs_quality_is_not_used(trained, views, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "QUALITY_TOLERANCE", -1.0)
    assert export_to(trained, views, tmp_path / "a").weights == "fp32"


@pytest.mark.parametrize(("quantised", "chosen"), [(0.79, "fp32"), (0.81, "int8")])
@pytest.mark.usefixtures("exported_once")
def test_what_is_lost_counts_and_not_what_is_gained(
    trained, views, tmp_path, monkeypatch, quantised, chosen
):
    measured = iter([0.8, *[quantised] * len(export.QUANTIZATIONS)])

    def metrics(*_):
        return dict.fromkeys(("level_macro_f1", "trigger_macro_f1"), (next(measured),))

    monkeypatch.setattr(export, "compute_metrics", metrics)
    network = export_to(trained, views, tmp_path / "a")
    assert network.weights == chosen
    assert max(network.quantization_loss.values()) == pytest.approx(
        0.0 if chosen == "fp32" else -0.01
    )


def test_another_models_file_fails_parity(exact, base_model):
    torch.manual_seed(1)
    other, _ = new_model(str(base_model), "corn", 0.0, PLAIN)
    with pytest.raises(ExportError, match="differs by"):
        check_parity(other.eval(), exact, 48)


def test_another_tokenizer_is_refused(trained, views, tmp_path, monkeypatch):
    original = InputEncoder.encode

    def off_by_one(self, turn, context=()):
        window = original(self, turn, context)[0]
        return [EncodedInput((*window.ids[:-2], 5, 3), window.utterance_length)]

    monkeypatch.setattr(InputEncoder, "encode", off_by_one)
    with pytest.raises(ExportError, match="differently"):
        export_to(trained, views, tmp_path / "staging")


@pytest.mark.usefixtures("exported_once")
def test_a_failed_export_leaves_the_old_bundle(trained, views, tmp_path, monkeypatch):
    bundle_dir = tmp_path / "bundle"
    network = export_to(trained, views, tmp_path / "staging", "fp32")
    before = write_bundle(network, bundle_dir, report={}, card="old", origin=ORIGIN)
    network = export_to(trained, views, tmp_path / "staging", "fp32")

    def no_space(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", no_space)
        with pytest.raises(OSError, match="No space"):
            write_bundle(network, bundle_dir, report={}, card="new", origin=ORIGIN)
    assert read_bundle(bundle_dir).manifest == before
    after = write_bundle(network, bundle_dir, report={"a": 1}, card="new", origin=ORIGIN)
    assert read_bundle(bundle_dir).manifest == after != before
    assert json.loads((bundle_dir / "metrics.json").read_text()) == {
        "a": 1,
        "quantization_loss": {"level_macro_f1": 0.0, "trigger_macro_f1": 0.0},
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]


def test_embeddings_are_the_mean_of_what_the_encoder_makes_of_the_utterances_tokens(trained, exact):
    model, tokenizer = trained
    encoder = InputEncoder(tokenizer.backend_tokenizer, SETTINGS)
    talk = [Turn("customer", "hello"), Turn("agent", "one two"), Turn("customer", "three " * 9)]
    windows = [encoder.encode(turn, talk[:k])[0] for k, turn in enumerate(talk)]
    for window, vector in zip(windows, embed_windows(exact, encoder, windows), strict=True):
        inputs = {name: torch.from_numpy(part) for name, part in encoder.collate([window]).items()}
        with torch.inference_mode():
            hidden = model.encoder(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                token_type_ids=1 - inputs["utterance_mask"],
            ).last_hidden_state[0]
        mean = hidden[: window.utterance_length].mean(dim=0).numpy()
        assert vector == pytest.approx(mean, abs=1e-4)

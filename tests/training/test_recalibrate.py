import json
import shutil

import pytest
from conversations import small_corpus
from tiny_bundle import write_tiny_bundle

from deesc_model import EscalationClassifier
from deesc_model.bundle import file_sha256, read_bundle
from training.recalibrate import main

ANEW = "Calibrated anew: "


@pytest.fixture
def given(tmp_path):
    """A bundle, and what says which conversations its calibration is fitted to."""
    bundle = write_tiny_bundle(tmp_path / "bundle")
    corpus = small_corpus(tmp_path / "corpus")
    settings = {"corpus": corpus, "sources": tmp_path / "none", "bootstrap_samples": 20}
    return bundle, [f"--set={name}={value}" for name, value in settings.items()]


def test_the_network_stays_and_the_thresholds_are_those_of_the_labels(given, tmp_path, capsys):
    bundle, settings = given
    out = tmp_path / "out"
    assert main(["--bundle", str(bundle), "--out", str(out), *settings]) == 0
    before, after = read_bundle(bundle), read_bundle(out)
    assert after.model_path.read_bytes() == before.model_path.read_bytes()
    assert after.config.encoder == before.config.encoder
    assert after.config.calibration != before.config.calibration
    assert len(after.config.calibration.level_biases) == 5
    assert after.manifest.model_version != before.manifest.model_version
    assert after.manifest.training_run == before.manifest.training_run
    assert (
        EscalationClassifier.from_pretrained(out)
        .predict("hello")
        .model_version.endswith(after.manifest.model_version[-8:])
    )
    shown = capsys.readouterr().out
    value = json.loads((out / "metrics.json").read_text())["metrics"]["level_macro_f1"]["value"]
    assert f"{value:.3f}" in shown
    card = (out / "README.md").read_text()
    assert card.count(ANEW) == 1
    assert before.manifest.model_version in card


def test_a_bundle_may_be_calibrated_in_its_place_and_again(given):
    bundle, settings = given
    card = bundle / "README.md"
    card.write_text("# tiny\n\n## Origin\nTold by hand.\n\nBase model none; of no run.\n")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["README.md"] = file_sha256(card)
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    first = read_bundle(bundle).config.calibration
    for _ in range(2):
        assert main(["--bundle", str(bundle), "--out", str(bundle), *settings]) == 0
        assert card.read_text().count("Told by hand.") == card.read_text().count(ANEW) == 1
    assert read_bundle(bundle).config.calibration != first
    assert [path.name for path in bundle.parent.glob("bundle*")] == ["bundle"]


def test_a_folder_that_is_no_bundle_is_not_written_over(given, tmp_path, capsys):
    bundle, settings = given
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "corpus", kept)
    assert main(["--bundle", str(bundle), "--out", str(kept), *settings]) == 1
    assert "is not a bundle" in capsys.readouterr().err
    assert any(kept.iterdir())

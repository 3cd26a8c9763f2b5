import json

import numpy as np
import pytest

from deesc_model import BundleError, DeescError, EscalationClassifier
from deesc_model.bundle import (
    CONFIG_FILE,
    HASHED_FILES,
    MANIFEST_FILE,
    BundleConfig,
    file_sha256,
    read_bundle,
)
from deesc_model.scoring import decide_levels


def rewrite(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def reseal(folder):
    """Make the manifest agree with the files, as somebody who edits on purpose would."""
    files = {name: file_sha256(folder / name) for name in HASHED_FILES}
    rewrite(folder / MANIFEST_FILE, lambda data: data.update(files=files))


def test_a_bundle_reads_back(tiny_bundle):
    bundle = read_bundle(tiny_bundle)
    assert BundleConfig.from_dict(bundle.config.to_dict()) == bundle.config
    assert bundle.manifest.model_version.startswith("tiny@")


def test_the_version_changes_with_any_file(bundle_dir):
    before = read_bundle(bundle_dir).manifest.model_version
    (bundle_dir / "README.md").write_text("# another card\n")
    reseal(bundle_dir)
    assert read_bundle(bundle_dir).manifest.model_version != before


def test_no_folder(tmp_path):
    with pytest.raises(BundleError, match=r"nowhere: the folder does not exist"):
        EscalationClassifier.from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [*HASHED_FILES, MANIFEST_FILE])
def test_a_missing_file_is_named(bundle_dir, name):
    (bundle_dir / name).unlink()
    with pytest.raises(BundleError, match=rf"{name} is missing"):
        read_bundle(bundle_dir)


@pytest.mark.parametrize("name", HASHED_FILES)
@pytest.mark.parametrize("damage", ["truncated", "tampered"])
def test_a_damaged_file_is_named(bundle_dir, name, damage):
    content = (bundle_dir / name).read_bytes()
    broken = content[: len(content) // 2] if damage == "truncated" else content[:-1] + b"~"
    (bundle_dir / name).write_bytes(broken)
    with pytest.raises(BundleError, match=rf"{name} was changed or damaged"):
        read_bundle(bundle_dir)


@pytest.mark.parametrize(
    ("written", "cost"),
    [({}, 2), ({"heated_from": 0.2}, 3), ({"heated_from": 0.9}, 0), ({"missed_heated_cost": 7}, 7)],
)
def test_what_a_missed_heated_customer_costs_in_bundles_of_all_formats(bundle_dir, written, cost):
    config = json.loads((bundle_dir / CONFIG_FILE).read_text(encoding="utf-8"))
    del config["calibration"]["missed_heated_cost"]
    config["calibration"] |= written
    read = BundleConfig.from_dict(config).calibration
    assert read.missed_heated_cost == pytest.approx(cost)
    # Between levels 2 and 3 that is the same probability as in older formats.
    heated_from = 1 / (2 + read.missed_heated_cost)
    below, above = (
        np.array([[0, 0, 1 - p, p, 0]]) for p in (heated_from - 0.01, heated_from + 0.01)
    )
    assert decide_levels(below, read.missed_heated_cost) == 2
    assert decide_levels(above, read.missed_heated_cost) == 3


def test_a_newer_format_says_how_to_upgrade(bundle_dir):
    rewrite(bundle_dir / MANIFEST_FILE, lambda data: data.update(format_version=99))
    with pytest.raises(BundleError, match=r"format 99 is newer.*install a newer one"):
        read_bundle(bundle_dir)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not readable JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "format_version must be a whole number"),
        ('{"format_version": 1}', "files must map"),
        ('{"format_version": 1, "files": {}}', "manifest.json"),
        ("\ufffd\x00", "not readable JSON"),
    ],
)
def test_a_broken_manifest_is_named(bundle_dir, content, said):
    (bundle_dir / MANIFEST_FILE).write_text(content)
    with pytest.raises(BundleError, match=said):
        read_bundle(bundle_dir)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("encoder"), "'encoder' is missing"),
        (lambda c: c["encoder"].update(max_length="long"), "max_length must be a whole number"),
        (lambda c: c["encoder"].update(speed=1), "unknown field 'speed'"),
        (lambda c: c["encoder"].update(max_length=4), "max_length must be a number from 16"),
        (lambda c: c["encoder"].update(window_overlap=9), "at most half of max_length"),
        (lambda c: c["encoder"].pop("context_turns"), "'context_turns' is missing"),
        (lambda c: c.update(levels=["calm"]), "levels"),
        (lambda c: c["calibration"].update(level_head="tree"), "'tree' is none of"),
        (lambda c: c["calibration"].update(temperature=None), "temperature must be a number"),
        (lambda c: c["calibration"].update(temperature=float("nan")), "temperature must be"),
        (lambda c: c["calibration"].update(level_biases=[1.0]), "level_biases must be 5 numbers"),
        (lambda c: c["calibration"].update(level_biases=3), "has the wrong form"),
        (
            lambda c: c["calibration"].update(level_biases=[0, 0, 0, 0, "1"]),
            r"level_biases\[4\] must be a number",
        ),
        (lambda c: c["calibration"].update(temperature=True), "temperature must be"),
        (lambda c: c["calibration"].update(certain_from=1.5), "certain_from must be"),
        (lambda c: c["calibration"].pop("certain_from"), "'certain_from' is missing"),
        (lambda c: c["calibration"].update(heated_from=2), "heated_from must be"),
        (lambda c: c["calibration"].update(missed_heated_cost=-1), "missed_heated_cost must be"),
        (lambda c: c["calibration"]["triggers"]["delay"].update(slope=-1), "slope must be"),
        (lambda c: c["calibration"]["triggers"]["delay"].update(threshold=2), "threshold must be"),
        (lambda c: c["calibration"]["triggers"]["delay"].clear(), "'slope' is missing"),
        (
            lambda c: c["calibration"].update(
                signals=dict(reversed(c["calibration"]["signals"].items()))
            ),
            "the order",
        ),
        (lambda c: c["calibration"]["triggers"].pop("billing"), "billing"),
        (lambda c: c["calibration"]["signals"].update(yelling={}), "yelling"),
        (
            lambda c: c["calibration"]["signals"].update(churn_threat={"slope": "x"}),
            "slope must be",
        ),
    ],
)
def test_a_wrong_config_names_file_and_field(bundle_dir, change, said):
    rewrite(bundle_dir / "config.json", change)
    reseal(bundle_dir)
    with pytest.raises(BundleError, match=said) as caught:
        read_bundle(bundle_dir)
    assert "config.json" in str(caught.value)


def test_a_model_with_other_outputs_is_named_at_once(bundle_dir):
    rewrite(bundle_dir / "config.json", lambda c: c["calibration"].update(level_head="corn"))
    reseal(bundle_dir)
    with pytest.raises(BundleError, match=r"model\.onnx: level_logits must be 4 finite numbers"):
        EscalationClassifier.from_pretrained(bundle_dir)


def test_a_model_that_is_no_onnx_is_named(bundle_dir):
    (bundle_dir / "model.onnx").write_bytes(b"not a model")
    reseal(bundle_dir)
    with pytest.raises(DeescError, match=r"model\.onnx cannot be opened by onnxruntime"):
        EscalationClassifier.from_pretrained(bundle_dir)

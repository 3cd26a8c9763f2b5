"""What the contenders open: the network in other forms, and what is fitted on the corpus."""

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import joblib
import onnx

from benchmarks.contenders import CONTENDERS, Settings
from benchmarks.static import StaticVectors
from benchmarks.torch_model import write_checkpoint
from deesc_model.bundle import MODEL_FILE, TOKENIZER_FILE, Bundle
from deesc_model.encoding import INPUT_NAMES
from deesc_model.errors import DeescError
from deesc_model.network import OUTPUT_NAMES
from training.baseline import LinearBaseline, TfidfFeatures
from training.bundle_network import float_network
from training.corpus import Utterance
from training.export import export_onnx
from training.metrics import gold_labels
from training.model import load_checkpoint

log = logging.getLogger("benchmarks")


def set_up(
    folder: Path,
    bundles: Mapping[str, Bundle],
    checkpoint: Path | None,
    train: Sequence[Utterance],
    names: Collection[str],
) -> Settings:
    """Write what the named contenders open.

    Args:
        folder: An empty folder.
        bundles: Each of `benchmarks.contenders.BUNDLES`.
        checkpoint: Of the run that the default came from; None takes its weights multiplied out.
        train: What the models of scikit-learn are fitted on.
        names: Keys of `benchmarks.contenders.CONTENDERS`.
    """
    wanted: dict[str, set[str]] = {}
    for name in names:
        wanted.setdefault(CONTENDERS[name].network, set()).add(CONTENDERS[name].file)
    for network, files in wanted.items():
        if files - {""}:
            own = checkpoint if network == "default" else None
            _write_forms(folder / network, bundles[network], own, files)
    if fitted := {"tfidf", "static"} & set(names):
        _fit(folder / "default", bundles["default"], train, fitted)
    about = {
        **{name: str(bundle.path.resolve()) for name, bundle in bundles.items()},
        "inputs": INPUT_NAMES,
        "output": OUTPUT_NAMES[0],
        "max_length": bundles["default"].config.encoder.max_length,
    }
    (folder / "setup.json").write_text(json.dumps(about), encoding="utf-8")
    return Settings.read(folder)


def _write_forms(
    folder: Path, bundle: Bundle, checkpoint: Path | None, files: Collection[str]
) -> None:
    """Write a bundle's network in the forms that are wanted."""
    folder.mkdir()
    exact = folder / "fp32.onnx"
    if checkpoint:
        export_onnx(load_checkpoint(checkpoint)[0], exact)
        (folder / "checkpoint").symlink_to(checkpoint.resolve())
    else:
        onnx.save(float_network(bundle.path / MODEL_FILE), exact)
        if "checkpoint" in files:
            try:
                write_checkpoint(exact, bundle, folder / "checkpoint")
            except DeescError as error:
                raise SystemExit(f"{bundle.path}: {error}") from None
    if "int8.onnx" in files:
        network = float_network(bundle.path / MODEL_FILE, keep_int8=True)
        onnx.save(network, folder / "int8.onnx")


def _fit(folder: Path, bundle: Bundle, train: Sequence[Utterance], names: Collection[str]) -> None:
    turns = bundle.config.encoder.context_turns
    vectorizers = {
        "tfidf": TfidfFeatures(turns),
        "static": StaticVectors(folder / "fp32.onnx", bundle.path / TOKENIZER_FILE, turns),
    }
    for name in names:
        log.info("fitting %s on %s turns", name, f"{len(train):,}")
        model = LinearBaseline(vectorizers[name]).fit(train, gold_labels(train))
        joblib.dump(model, folder / f"{name}.joblib")

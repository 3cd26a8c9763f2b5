"""What the contenders open: the network in other forms, and what is fitted on the corpus."""

import json
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import joblib
import onnx

from benchmarks.contenders import Settings
from benchmarks.static import StaticVectors
from benchmarks.torch_model import write_checkpoint
from benchmarks.weights import float_network
from deesc_model.bundle import MODEL_FILE, TOKENIZER_FILE, Bundle
from deesc_model.encoding import INPUT_NAMES
from deesc_model.network import OUTPUT_NAMES
from training.baseline import TfidfBaseline
from training.corpus import Utterance
from training.evaluate import gold_labels
from training.export import export_onnx
from training.model import load_checkpoint

log = logging.getLogger("benchmarks")


def set_up(
    folder: Path,
    bundle: Bundle,
    fast: Bundle,
    medium: Bundle,
    checkpoint: Path | None,
    train: Sequence[Utterance],
    names: Collection[str],
) -> Settings:
    """Write what the named contenders open.

    Args:
        folder: An empty folder.
        bundle: Our default.
        fast: Our smallest.
        medium: The bundle whose network all others run.
        checkpoint: Of the run that `medium` came from; None takes its weights multiplied out.
        train: What the models of scikit-learn are fitted on.
        names: Keys of `benchmarks.contenders.CONTENDERS`.
    """
    exact, tokenizer = folder / "fp32.onnx", medium.path / TOKENIZER_FILE
    if checkpoint:
        export_onnx(load_checkpoint(checkpoint)[0], exact)
    else:
        onnx.save(float_network(medium.path / MODEL_FILE), exact)
    if "openvino-int8" in names:
        network = float_network(medium.path / MODEL_FILE, keep_int8=True)
        onnx.save(network, folder / "int8.onnx")
    if {"pipeline", "pipeline-bf16"} & set(names) and not checkpoint:
        write_checkpoint(exact, tokenizer, medium.config, folder / "checkpoint")
    if fitted := {"tfidf", "static"} & set(names):
        _fit(folder, medium, train, fitted)
    paths = {
        "bundle": bundle.path,
        "fast": fast.path,
        "medium": medium.path,
        "checkpoint": checkpoint or folder / "checkpoint",
    }
    about = {
        **{name: str(path.resolve()) for name, path in paths.items()},
        "inputs": INPUT_NAMES,
        "output": OUTPUT_NAMES[0],
        "max_length": bundle.config.encoder.max_length,
    }
    (folder / "setup.json").write_text(json.dumps(about), encoding="utf-8")
    return Settings.read(folder)


def _fit(folder: Path, bundle: Bundle, train: Sequence[Utterance], names: Collection[str]) -> None:
    turns = bundle.config.encoder.context_turns
    models = {
        "tfidf": TfidfBaseline(turns),
        "static": StaticVectors(folder / "fp32.onnx", bundle.path / TOKENIZER_FILE, turns),
    }
    for name in names:
        log.info("fitting %s on %s turns", name, f"{len(train):,}")
        joblib.dump(models[name].fit(train, gold_labels(train)), folder / f"{name}.joblib")

"""What is evaluated: a bundle, an exported network or the TF-IDF baseline, as answers to rows."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deesc_model.bundle import Bundle, read_bundle
from deesc_model.encoding import InputEncoder
from deesc_model.scoring import BoolArray, Calibration, Logits, Scores, calibrated_scores
from training.baseline import LinearBaseline, TfidfFeatures
from training.calibration import fit_calibration
from training.config import Config
from training.corpus import Utterance, fingerprint
from training.dataset import both_views, public_rows
from training.metrics import gold_labels
from training.predict import onnx_runner, predict_logits

log = logging.getLogger("training")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model's answers on one set of views: logits and the calibration that reads them."""

    logits: Logits
    calibration: Calibration

    @property
    def scores(self) -> Scores:
        """Calibrated scores of every row."""
        return calibrated_scores(self.logits, self.calibration)

    def select(self, mask: BoolArray) -> "Candidate":
        """Return the answers on some of the views."""
        parts = (self.logits.level, self.logits.triggers, self.logits.signals)
        return Candidate(Logits(*(part[mask] for part in parts)), self.calibration)


Answer = Callable[[Sequence[Utterance]], Candidate]
"""A model: utterances in, its answers out, in the same order."""


def fit_baseline(splits: Mapping[str, Sequence[Utterance]], config: Config) -> Answer:
    """Train the baseline on the training split and calibrate it on validation, as the model is."""
    train, validation = splits["train"], both_views(splits["validation"])
    baseline = LinearBaseline(TfidfFeatures(config.context_turns)).fit(train, gold_labels(train))
    logits, gold = baseline.logits(validation), gold_labels(validation)
    calibration = fit_calibration(
        logits, gold, baseline.level_head, config.error_rate, public_rows(validation)
    )
    return lambda rows: Candidate(baseline.logits(rows), calibration)


def warn_of_other_data(bundle: Bundle, splits: Mapping[str, Sequence[Utterance]]) -> None:
    """Log that TF-IDF learns from other data than a bundle did, if so."""
    here = fingerprint(row for rows in splits.values() for row in rows)
    if bundle.manifest.data_fingerprint != here:
        log.warning(
            "%s was trained on other data than are here, where TF-IDF learns from %d utterances:"
            " the difference between the two is not the model's alone",
            bundle.manifest.model_version,
            len(splits["train"]),
        )


def answer_with_network(
    path: Path, encoder: InputEncoder, calibration: Calibration, batch_size: int
) -> Answer:
    """Return an exported network as a model to evaluate."""
    run = onnx_runner(path, encoder, batch_size)
    return lambda rows: Candidate(predict_logits(rows, encoder, run, calibration), calibration)


def answer_with_bundle(folder: Path, config: Config) -> Answer:
    """Return a bundle, read with the calibration that it carries, as a model to evaluate."""
    bundle = read_bundle(folder)
    encoder = InputEncoder.from_file(bundle.tokenizer_path, bundle.config.encoder)
    return answer_with_network(
        bundle.model_path, encoder, bundle.config.calibration, config.evaluation_batch_size
    )

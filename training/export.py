"""From a checkpoint to the files of a bundle: ONNX, checks that refuse, int8, calibration."""

import logging
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from deesc_model.bundle import (
    MODEL_FILE,
    TOKENIZER_FILE,
)
from deesc_model.encoding import INPUT_NAMES, EncoderSettings, InputEncoder
from deesc_model.errors import DeescError
from deesc_model.network import OUTPUT_NAMES
from deesc_model.rendering import render_context, render_turn
from deesc_model.scoring import Calibration, calibrated_scores
from deesc_model.types import Turn
from training.bundle_writer import ExportedNetwork
from training.calibration import fit_calibration
from training.corpus import Utterance
from training.dataset import public_rows
from training.metrics import compute_metrics, gold_labels
from training.model import EscalationModel
from training.predict import encode_utterance, like_lengths, onnx_runner, predict_logits
from training.quantization import QUANTIZATIONS, Inputs, quantize

PARITY_TOLERANCE = 1e-4
"""Largest difference between logits of torch and of onnxruntime in fp32, as a share of the largest
of them where that is above 1: rounding grows with it."""

UNLIMITED = 1_000_000
"""More tokens than any text has."""

AWKWARD_TEXTS = (
    "Straße, naïve, İstanbul, ﬁne",
    "😡👍🏽 👩‍👩‍👧 …—“quoted”",
    "请帮忙 помогите مرحبا",
    "@brand_help #fail https://t.co/x1?y=2&z £9.99 50%",
    "a\tb\nc  d\u00a0e\u200bf",
    "x" * 300,
    "<s>[SEP]</s> <mask>[UNK]",
)
"""Texts that tokenizers have been known to disagree on."""

PARITY_BATCHES = (1, 3, 32)
PARITY_LENGTHS = (1, 7, 33)

QUALITY_TOLERANCE = 0.005
"""Macro-F1 that quantised weights may lose on validation."""

RANGE_WINDOWS = 2_000
"""Windows of validation at most that show what ranges activations have."""

log = logging.getLogger("training")


class ExportError(DeescError):
    """The exported model is not the trained one; nothing was written."""


class _ForExport(nn.Module):
    """The model with its outputs as a tuple, in the order of `OUTPUT_NAMES`."""

    def __init__(self, model: EscalationModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, utterance_mask: Tensor
    ) -> tuple[Tensor, ...]:
        output = self.model(input_ids, attention_mask, utterance_mask)
        return tuple(output[name] for name in OUTPUT_NAMES)


def export_network(
    model: EscalationModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: EncoderSettings,
    validation: Sequence[Utterance],
    staging: Path,
    *,
    quantization: str,
    error_rate: float,
    batch_size: int,
) -> ExportedNetwork:
    """Export, check and quantise a model into an empty staging folder.

    Args:
        model: In evaluation mode, on the CPU.
        tokenizer: The checkpoint's.
        settings: How much the model reads.
        validation: Views on which calibration is fitted and quality is compared.
        staging: Where files are written; made anew.
        quantization: ``"auto"``: int8, or the gentlest that keeps the quality. ``"fp32"``:
            none.
        error_rate: As for `fit_calibration`.
        batch_size: Windows in one forward pass.

    Raises:
        ExportError: Token ids or logits differ from the checkpoint's.
    """
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    encoder = _export_tokenizer(tokenizer, settings, validation, staging / TOKENIZER_FILE)
    exact = staging / "fp32.onnx"
    export_onnx(model, exact)
    check_parity(model, exact, settings.max_length)
    gold, public = gold_labels(validation), public_rows(validation)
    weights_of_one = np.ones((1, len(validation)))

    def measure(path: Path) -> tuple[Calibration, dict[str, float]]:
        run = onnx_runner(path, encoder, batch_size)
        logits = predict_logits(validation, encoder, run, Calibration(model.level_head))
        calibration = fit_calibration(logits, gold, model.level_head, error_rate, public)
        scores = calibrated_scores(logits, calibration)
        metrics = compute_metrics(gold, scores, calibration, weights_of_one)
        return calibration, {
            name: float(metrics[name][0]) for name in ("level_macro_f1", "trigger_macro_f1")
        }

    examples = _examples(validation, encoder, batch_size)
    calibration, reference = measure(exact)
    chosen, weights, loss = exact, "fp32", dict.fromkeys(reference, 0.0)
    for name, method in QUANTIZATIONS.items() if quantization == "auto" else ():
        quantized = staging / "quantized.onnx"
        quantize(exact, quantized, method, examples)
        quantized_calibration, quality = measure(quantized)
        lost = {metric: reference[metric] - quality[metric] for metric in reference}
        shown = ", ".join(f"{metric} {100 * value:+.2f}" for metric, value in lost.items())
        log.info("%s loses on validation, in points: %s", name, shown)
        if max(lost.values()) <= QUALITY_TOLERANCE:
            chosen, weights, loss = quantized, name, lost
            calibration = quantized_calibration
            break
    chosen.rename(staging / MODEL_FILE)
    for leftover in (exact, staging / "quantized.onnx"):
        leftover.unlink(missing_ok=True)
    return ExportedNetwork(staging / MODEL_FILE, weights, calibration, encoder, loss)


def _examples(rows: Sequence[Utterance], encoder: InputEncoder, batch_size: int) -> list[Inputs]:
    """Return the inputs of forward passes over windows of the rows, evenly drawn."""
    windows = [window for row in rows for window in encode_utterance(row, encoder)]
    drawn = windows[:: -(-len(windows) // RANGE_WINDOWS)]
    return [
        encoder.collate([drawn[place] for place in places])
        for places in like_lengths(drawn, batch_size)
    ]


def export_onnx(model: EscalationModel, path: Path) -> None:
    """Write the model as one ONNX file with dynamic batch and sequence."""
    example = {name: torch.ones(2, 9, dtype=torch.int64) for name in INPUT_NAMES}
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    # The exporter announces each operator of packages that are not installed.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _ForExport(model).eval(),
            kwargs=example,
            f=path,
            dynamo=True,
            external_data=False,
            output_names=list(OUTPUT_NAMES),
            dynamic_shapes=dict.fromkeys(INPUT_NAMES, axes),
            verbose=False,
        )
    names = {
        graph_input.name for graph_input in onnx.load(path, load_external_data=False).graph.input
    }
    if names != set(INPUT_NAMES):
        raise ExportError(f"exported inputs are {sorted(names)}, not {sorted(INPUT_NAMES)}")


def check_parity(model: EscalationModel, path: Path, max_length: int) -> None:
    """Compare logits of torch and onnxruntime over batch sizes and lengths.

    Raises:
        ExportError: A logit differs by more than `PARITY_TOLERANCE` allows.
    """
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    vocabulary = model.encoder.config.vocab_size
    for batch in PARITY_BATCHES:
        for length in (*PARITY_LENGTHS, max_length):
            inputs = {
                "input_ids": random.integers(0, vocabulary, (batch, length)),
                "attention_mask": np.ones((batch, length), dtype=np.int64),
                "utterance_mask": np.ones((batch, length), dtype=np.int64),
            }
            # Rows of unequal length, half of each row context: what padding looks like.
            inputs["attention_mask"][batch // 2 :, max(length - 2, 1) :] = 0
            inputs["utterance_mask"][:, max(length // 2, 1) :] = 0
            with torch.inference_mode():
                expected = model(**{k: torch.from_numpy(v) for k, v in inputs.items()})
            for name, actual in zip(OUTPUT_NAMES, session.run(OUTPUT_NAMES, inputs), strict=True):
                exact = expected[name].numpy()
                difference = float(np.abs(exact - actual).max())
                allowed = PARITY_TOLERANCE * max(1.0, float(np.abs(exact).max()))
                if not difference <= allowed:
                    raise ExportError(
                        f"{name} of onnxruntime differs by {difference:.2e} from torch at batch"
                        f" {batch}, length {length}; at most {allowed:.1e} is allowed"
                    )


def _export_tokenizer(
    tokenizer: PreTrainedTokenizerBase,
    settings: EncoderSettings,
    rows: Sequence[Utterance],
    path: Path,
) -> InputEncoder:
    """Write `tokenizer.json` and check that it gives the ids that transformers gives."""
    tokenizer.backend_tokenizer.save(str(path))
    encoder = InputEncoder.from_file(path, settings)
    path.write_text(encoder.to_json(), encoding="utf-8")
    # Windows and shortened context are this project's own rule: compare with room for everything.
    roomy = replace(settings, max_length=UNLIMITED, context_turns=1, context_tokens=UNLIMITED)
    complete = InputEncoder.from_file(path, roomy)
    pairs = [(Turn(row.speaker, row.text), row.context) for row in rows]
    for turn, context in [*pairs, *((Turn("customer", text), ()) for text in AWKWARD_TEXTS)]:
        expected = tokenizer(
            render_turn(turn),
            render_context(context, 1) or None,
            truncation=False,
            split_special_tokens=True,  # customers' words are never control tokens
        )["input_ids"]
        (actual,) = complete.encode(turn, context)
        if list(actual.ids) != expected:
            raise ExportError(f"tokenizers and transformers read {turn.text[:80]!r} differently")
    return encoder

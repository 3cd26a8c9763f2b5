"""Labels of a checkpoint, before it is exported; apart from `candidates` because it needs torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from deesc_model.encoding import EncodedInput, InputEncoder
from deesc_model.scoring import Calibration, Logits
from training.calibration import fit_calibration
from training.candidates import Answer, Candidate
from training.config import Config
from training.corpus import Utterance
from training.dataset import both_views, public_rows
from training.metrics import gold_labels
from training.model import EscalationModel, input_encoder, load_checkpoint
from training.predict import WindowLogits, like_lengths, predict_logits


def answer_with_checkpoint(folder: Path, validation: Sequence[Utterance], config: Config) -> Answer:
    """Return a checkpoint, calibrated on the validation split, as a model to evaluate."""
    model, tokenizer, settings = load_checkpoint(folder)
    encoder = input_encoder(tokenizer, settings)
    run = checkpoint_runner(model, encoder, config.evaluation_batch_size)
    views, plain = both_views(validation), Calibration(model.level_head)
    logits, gold = predict_logits(views, encoder, run, plain), gold_labels(views)
    calibration = fit_calibration(
        logits, gold, model.level_head, config.error_rate, public_rows(views)
    )
    return lambda rows: Candidate(predict_logits(rows, encoder, run, calibration), calibration)


def checkpoint_runner(
    model: EscalationModel, encoder: InputEncoder, batch_size: int
) -> WindowLogits:
    """Return a function that runs a torch model in fp32, sorted by length, with progress."""

    def run(windows: Sequence[EncodedInput]) -> Logits:
        batches = like_lengths(windows, batch_size)
        device = next(model.parameters()).device
        outputs = []
        model.eval()
        with torch.inference_mode():
            for places in tqdm(batches, "checkpoint", leave=False):
                batch = encoder.collate([windows[i] for i in places])
                tensors = {
                    name: torch.from_numpy(array).to(device) for name, array in batch.items()
                }
                outputs.append({k: v.double().cpu().numpy() for k, v in model(**tensors).items()})
        back = np.argsort(np.concatenate(batches))
        return Logits(
            *(
                np.concatenate([output[name] for output in outputs])[back]
                for name in ("level_logits", "trigger_logits", "signal_logits")
            )
        )

    return run

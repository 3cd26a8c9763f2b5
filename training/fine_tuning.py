"""Fine-tuning: a corpus and a base model in, the best checkpoint out."""

import copy
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from deesc_model.errors import DeescError
from deesc_model.network import available_cpus
from deesc_model.scoring import Calibration, Logits, calibrated_scores
from training.augmentation import augment
from training.config import Config
from training.corpus import Utterance
from training.dataset import both_views
from training.examples import Example, collate, loss_weights, make_encoder, to_dataset, view_shares
from training.metrics import Gold, compute_metrics, gold_labels
from training.model import (
    EscalationModel,
    freeze_blocks,
    longest_input,
    save_checkpoint,
    set_encoder_dropout,
)
from training.predict import PASS_TOKENS
from training.processes import cpus_of_each, is_first, part_ways, process_count, wait_for_all
from training.sampling import EpochSampler, is_plain
from training.tracking import Tracker
from training.vocabulary import trim, vocabulary_texts
from training.warm_start import mix_weights, starting_model

EPOCH_METRICS = ("level_macro_f1", "level_qwk", "trigger_macro_ap", "signal_macro_ap")
"""Measured on validation after each epoch; the first and the third select the checkpoint."""


class _Trainer(Trainer):
    """The Trainer with a sampler of one's own, and a bound to the memory that long texts take."""

    def __init__(self, sampler: EpochSampler, **options: Any) -> None:
        super().__init__(**options)
        self._sampler = sampler
        self._share = 1.0

    def _get_train_sampler(self, train_dataset: object = None) -> EpochSampler:
        return self._sampler

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Add up the gradients of a batch part by part if it has more than `PASS_TOKENS`.

        In each part the level's class weights have a mean of their own.
        """
        rows, length = inputs["input_ids"].shape
        size = max(1, PASS_TOKENS // length)
        losses = []
        for start in range(0, rows, size):
            part = {name: values[start : start + size] for name, values in inputs.items()}
            self._share = len(part["input_ids"]) / rows
            last = start + size >= rows
            # Processes meet once in a step, however many parts each has.
            with nullcontext() if last else self.accelerator.no_sync(model):
                losses.append(super().training_step(model, part, num_items_in_batch))
        self._share = 1.0
        return torch.stack(losses).sum()

    def compute_loss(self, *arguments: Any, **options: Any) -> Any:
        """Return the loss, in a step as the share of it that is the part's."""
        if self._share == 1:
            return super().compute_loss(*arguments, **options)
        return super().compute_loss(*arguments, **options) * self._share


class _CurveCallback(TrainerCallback):
    """Sends each epoch's figures to the tracker."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        """Called by the Trainer whenever it logs."""
        figures = {
            f"validation/{name.removeprefix('eval_')}"
            if "eval_" in name
            else f"train/{name}": value
            for name, value in (logs or {}).items()
        }
        self._tracker.log_figures(figures, state.global_step)


def fine_tune(
    config: Config,
    train: Sequence[Utterance],
    validation: Sequence[Utterance],
    tracker: Tracker | None,
    target: Path,
) -> float:
    """Fine-tune the base model, or a bundle further, and write the best checkpoint.

    Under torchrun every process calls this with the same data; each computes its share of every
    batch, and the first writes.

    Args:
        config: Base model, head, schedule, seed.
        train: The training split.
        validation: The validation split; it selects the checkpoint and stops training.
        tracker: Gets each epoch's figures; None in all processes but the first.
        target: Folder of the checkpoint. Unfinished work in ``trainer/`` beside it is taken
            up where it stopped, and removed at the end.

    Returns:
        The checkpoint's mean of level macro-F1 and trigger average precision on validation.

    Raises:
        DeescError: The base model cannot be loaded, or reads less than `max_length`, or the
            batch cannot be shared evenly.
    """
    processes = process_count()
    if config.batch_size % processes:
        raise DeescError(
            f"batch_size {config.batch_size} cannot be shared evenly by {processes} processes;"
            f" take a multiple of {processes}"
        )
    set_seed(config.seed)
    torch.set_num_threads(min(config.threads, cpus_of_each()))
    weights = loss_weights(gold_labels(train), config)
    model, tokenizer = starting_model(config, weights)
    if config.vocabulary_count:
        texts = vocabulary_texts(train, config)
        tokenizer = trim(model.encoder, tokenizer, texts, config.vocabulary_count)
    set_encoder_dropout(model, config.encoder_dropout)
    freeze_blocks(model, config.frozen_blocks)
    longest = longest_input(model.encoder, config.max_length)
    if config.max_length > longest:
        raise DeescError(f"max_length {config.max_length}: {config.base_model} reads {longest}")
    encoder = make_encoder(tokenizer, config)
    changed = augment(train, config.seed)
    dataset = to_dataset([*both_views(train), *both_views(changed)], encoder)
    sampler = EpochSampler(
        [len(ids) for ids in dataset["ids"]],
        [is_plain(row) for row in train],
        view_shares(config.context_dropout, config.augmentation),
        plain_share=config.plain_share,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    return optimise(
        config,
        model,
        tokenizer,
        dataset=dataset,
        sampler=sampler,
        collator=partial(collate, encoder=encoder),
        validation=validation,
        tracker=tracker,
        target=target,
    )


def optimise(
    config: Config,
    model: EscalationModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    dataset: Dataset,
    sampler: EpochSampler,
    collator: Callable[[Sequence[Example]], dict[str, torch.Tensor]],
    validation: Sequence[Utterance],
    tracker: Tracker | None,
    target: Path,
) -> float:
    """Train a model that is ready for it and write the best checkpoint.

    Args:
        config: Schedule and seed.
        model: Knows its loss; changed in place.
        tokenizer: The model's.
        dataset: Examples to learn from.
        sampler: Which of them each epoch shows, in which order.
        collator: Makes the model's inputs of some examples, of validation too.
        validation: The validation split; it selects the checkpoint and stops training.
        tracker: As for `fine_tune`.
        target: As for `fine_tune`.

    Returns:
        As `fine_tune` does.
    """
    encoder = make_encoder(tokenizer, config)
    trainer_dir = target.with_name("trainer")
    if is_first():
        remove_cut_checkpoints(trainer_dir)
    wait_for_all()
    last = last_checkpoint(trainer_dir)
    arguments = TrainingArguments(
        output_dir=str(trainer_dir),
        num_train_epochs=config.epochs if last is None else epochs_to_train(config, last),
        per_device_train_batch_size=config.batch_size // process_count(),
        per_device_eval_batch_size=min(
            config.evaluation_batch_size, max(1, PASS_TOKENS // config.max_length)
        ),
        warmup_steps=config.warmup,
        lr_scheduler_type="linear",
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=2,  # the best and the last: with 1 the last is gone before the end
        restore_callback_states_from_checkpoint=True,  # how long early stopping has waited
        load_best_model_at_end=True,
        metric_for_best_model="selection",
        greater_is_better=True,
        disable_tqdm=False,  # new_model silences transformers, which would hide progress too
        bf16=use_bf16(config.precision),
        use_cpu=not torch.cuda.is_available(),
        seed=config.seed,
        label_names=["levels", "trigger_targets", "signal_targets"],
        remove_unused_columns=False,
        report_to="none",
    )
    callbacks: list[TrainerCallback] = [EarlyStoppingCallback(config.patience)]
    if tracker is not None:
        callbacks.append(_CurveCallback(tracker))
    trainer = _Trainer(
        sampler,
        model=model,
        args=arguments,
        data_collator=collator,
        train_dataset=dataset,
        eval_dataset=to_dataset(sorted(validation, key=_length), encoder),
        compute_metrics=lambda prediction: _epoch_metrics(prediction, config.level_head),
        callbacks=callbacks,
        optimizers=(_optimizer(model, config), None),
    )
    start = copy.deepcopy(model.state_dict()) if config.start_share else {}
    trainer.train(resume_from_checkpoint=last)
    best = float(trainer.state.best_metric or 0)
    if config.start_share:
        mix_weights(model, start, config.start_share)
        trainer.remove_callback(_CurveCallback)  # the mean is no epoch
        found = trainer.evaluate()
        best = found["eval_selection"]
        if tracker is not None:
            for name in ("selection", *EPOCH_METRICS):
                tracker.log_figures({f"validation/mean_{name}": found[f"eval_{name}"]})
    part_ways()  # the others read the best checkpoint from the folder that is removed below
    if not is_first():
        return best
    torch.set_num_threads(min(config.threads, available_cpus()))  # the others are done
    staging = target.with_name("checkpoint.partial")
    shutil.rmtree(staging, ignore_errors=True)
    save_checkpoint(model, tokenizer, encoder.settings, staging)
    staging.rename(target)
    shutil.rmtree(trainer_dir)
    return best


def remove_cut_checkpoints(folder: Path) -> None:
    """Remove half-written checkpoints of an unfinished training.

    The Trainer writes its state last, so a checkpoint without it was cut short by a kill.
    """
    for path in folder.glob("checkpoint-*"):
        if not (path / "trainer_state.json").is_file():
            shutil.rmtree(path)


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest checkpoint of an unfinished training."""
    whole = {int(path.name.split("-")[1]): path for path in folder.glob("checkpoint-*")}
    return str(whole[max(whole)]) if whole else None


def epochs_to_train(config: Config, checkpoint: str) -> float:
    """Return how many epochs there are: those that are done, if early stopping has ended them.

    The Trainer itself remembers how long early stopping has waited, and not that it is over.
    """
    state = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json"))
    waited = state.stateful_callbacks.get("EarlyStoppingCallback", {}).get("attributes", {})
    over = waited.get("early_stopping_patience_counter", 0) >= config.patience
    return float(state.epoch or 0) if over else float(config.epochs)


def use_bf16(precision: str) -> bool:
    """Return whether to train under bf16 autocast; ``"auto"`` asks the GPU, or else the CPU."""
    if precision == "auto":
        if torch.cuda.is_available():
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
        has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        return bool(has_bf16())
    return precision == "bf16"


def _length(row: Utterance) -> int:
    """Order of evaluation: like lengths together waste no padding."""
    return len(row.text)


def _optimizer(model: EscalationModel, config: Config) -> torch.optim.Optimizer:
    """AdamW; heads learn faster than the encoder, biases and norms do not decay."""

    def group(heads: bool, decay: bool) -> dict[str, Any]:
        return {
            "params": [
                parameter
                for name, parameter in model.named_parameters()
                if parameter.requires_grad
                and (not name.startswith("encoder.")) == heads
                and (parameter.ndim > 1) == decay
            ],
            "lr": config.head_learning_rate if heads else config.learning_rate,
            "weight_decay": config.weight_decay if decay else 0.0,
        }

    groups = [group(heads, decay) for heads in (False, True) for decay in (True, False)]
    return torch.optim.AdamW(groups, fused=True)


def _epoch_metrics(prediction: EvalPrediction, level_head: str) -> dict[str, float]:
    """Validation figures that need no thresholds, and the one that selects the checkpoint."""
    level, triggers, signals = (
        np.asarray(part, dtype=np.float64) for part in prediction.predictions
    )
    levels, trigger_targets, signal_targets = prediction.label_ids
    calibration = Calibration(level_head)
    scores = calibrated_scores(Logits(level, triggers, signals), calibration)
    gold = Gold(np.asarray(levels, dtype=np.int64), trigger_targets > 0.5, signal_targets > 0.5)
    metrics = compute_metrics(gold, scores, calibration, np.ones((1, len(levels))))
    shown = {name: float(np.nan_to_num(metrics[name][0])) for name in EPOCH_METRICS}
    return shown | {"selection": (shown["level_macro_f1"] + shown["trigger_macro_ap"]) / 2}

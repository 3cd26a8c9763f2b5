"""Between pre-training and fine-tuning: the encoder learns the labels of public sources' own.

Source: Phang, Févry and Bowman, Sentence Encoders on STILTs: Supplementary Training on
Intermediate Labeled-data Tasks, 2018.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.nn import functional
from transformers import TrainingArguments, set_seed

from deesc_model.bundle import file_sha256
from deesc_model.encoding import EncodedInput, InputEncoder
from training.base_model import resolve_base_model
from training.config import Config
from training.corpus import Utterance
from training.fine_tuning import (
    Example,
    SampledTrainer,
    batch_share,
    check_reach,
    fine_tune,
    make_encoder,
    make_optimizer,
    use_bf16,
)
from training.model import (
    EscalationModel,
    LabelAttention,
    freeze_blocks,
    load_base,
    set_encoder_dropout,
)
from training.own_labels import OwnLabelled, label_places, load_own_labelled
from training.predict import encode_utterance
from training.processes import cpus_of_each, is_first, process_count, wait_for_all
from training.recipe import Recipe
from training.sampling import EpochSampler
from training.sources import load_sources
from training.tracking import Tracker

OWN_LABELS = "own_labels_fingerprint"
"""Name of the hash of the texts and labels of the sources' own that a model learned from first."""

SEED = 7
"""One for all runs, so that several seeds of fine-tuning share what is learned here."""

log = logging.getLogger("training")


def recipe(config: Config) -> Recipe:
    """Return how `train` makes a checkpoint: our labels, after those of the sources' own.

    Raises:
        DataError: A source cannot be read.
    """
    texts = own_labelled_texts(config)
    if not texts:
        return Recipe(fine_tune, "Fine-tuned on the training split.")
    sources = ", ".join(sorted({each.text.source for each in texts}))
    return Recipe(
        partial(_learn, texts),
        "Fine-tuned on the training split, after its encoder had learned the labels that"
        f" {len(texts):,} public texts came with ({sources}); those are not ours and follow other"
        " rules.",
        {OWN_LABELS: _fingerprint(texts)},
    )


def _learn(
    texts: Sequence[OwnLabelled],
    config: Config,
    train: Sequence[Utterance],
    validation: Sequence[Utterance],
    tracker: Tracker | None,
    target: Path,
) -> float:
    prepared = replace(config, base_model=intermediate_base(config, texts))
    return fine_tune(prepared, train, validation, tracker, target)


def own_labelled_texts(config: Config) -> list[OwnLabelled]:
    """Return the texts of which the encoder learns their sources' own labels; none if it is not to.

    Raises:
        DataError: A source cannot be read.
    """
    if not config.intermediate_epochs:
        return []
    folder, annotations = Path(config.sources), Path(config.annotations)
    labelled = load_sources(folder, annotations, held_out=config.held_out_source)
    held = [row for row in labelled if row.split != "train"]
    return load_own_labelled(folder, held, held_out=config.held_out_source, seed=SEED)


def intermediate_base(config: Config, texts: Sequence[OwnLabelled]) -> str:
    """Return the base model to fine-tune: one that has learned the sources' own labels.

    What is learned is kept below `intermediate_dir`, and found there again by all that it was
    made of.

    Args:
        config: Base model, schedule, and where it is kept.
        texts: What `own_labelled_texts` returns.

    Returns:
        A folder; or `base_model`, if there are no texts.

    Raises:
        DeescError: The base model cannot be loaded, or what `fine_tune` refuses.
    """
    if not texts:
        return config.base_model
    target = Path(config.intermediate_dir) / _key(config, texts)
    if not target.is_dir():
        log.info("first, the labels that %d public texts came with", len(texts))
        _make(config, texts, target)
    return str(target)


def _fingerprint(texts: Sequence[OwnLabelled]) -> str:
    said = [[each.text.text, *each.labels] for each in texts]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _key(config: Config, texts: Sequence[OwnLabelled]) -> str:
    """Return a hash of all that the encoder will depend on."""
    base = Path(resolve_base_model(config.base_model))
    files = [file_sha256(path) for path in sorted(base.glob("*")) if path.is_file()]
    made_of = {
        "base": files or config.base_model,
        "texts": _fingerprint(texts),
        "settings": [
            getattr(config, name)
            for name in (
                *("intermediate_epochs", "max_length", "context_tokens", "batch_size"),
                *("learning_rate", "head_learning_rate", "weight_decay", "warmup"),
                *("encoder_dropout", "frozen_blocks"),
            )
        ],
        "bf16": use_bf16(config.precision),
        "processes": process_count(),
        "seed": SEED,
    }
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]


def _make(config: Config, texts: Sequence[OwnLabelled], target: Path) -> None:
    """Write the base model, whole or not at all; under torchrun all processes share the work."""
    share = batch_share(config)
    set_seed(SEED)
    torch.set_num_threads(min(config.threads, cpus_of_each()))
    encoder, tokenizer = load_base(config.base_model)
    check_reach(config, encoder)
    places = label_places(texts)
    model = OwnLabelModel(encoder, len(places))
    set_encoder_dropout(model, config.encoder_dropout)
    freeze_blocks(model, config.frozen_blocks)
    reader = make_encoder(tokenizer, config)
    dataset = to_dataset(texts, places, reader)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A folder of one's own, as two runs may want the same model at once.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.") as folder:
        trainer = SampledTrainer(
            EpochSampler(
                [len(ids) for ids in dataset["ids"]],
                [False] * len(texts),
                [1.0],
                plain_share=0.0,
                batch_size=config.batch_size,
                seed=SEED,
            ),
            model=model,
            args=TrainingArguments(
                output_dir=folder,
                num_train_epochs=config.intermediate_epochs,
                per_device_train_batch_size=share,
                warmup_steps=config.warmup,
                lr_scheduler_type="linear",
                save_strategy="no",
                logging_strategy="epoch",
                disable_tqdm=False,
                bf16=use_bf16(config.precision),
                use_cpu=not torch.cuda.is_available(),
                seed=SEED,
                remove_unused_columns=False,
                report_to="none",
            ),
            data_collator=partial(collate, reader=reader, places=places),
            train_dataset=dataset,
            optimizers=(make_optimizer(model, config), None),
        )
        trainer.train()
        wait_for_all()
        if is_first():
            staging = Path(folder) / "base"
            encoder.save_pretrained(staging)
            tokenizer.save_pretrained(staging)
            if not target.is_dir():
                staging.rename(target)
        wait_for_all()


class OwnLabelModel(EscalationModel):
    """The network with heads for labels of many sources, of which a text has one source's.

    Args:
        encoder: What learns.
        labels: How many labels there are.
    """

    def __init__(self, encoder: nn.Module, labels: int) -> None:
        super().__init__(encoder, "softmax")
        self.heads = LabelAttention(encoder.config.hidden_size, labels)

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        utterance_mask: Tensor,
        targets: Tensor,
        asked: Tensor,
    ) -> dict[str, Tensor]:
        """Return the loss: cross entropy of each label, of those that a text was asked about.

        Args:
            input_ids: int64 (batch, sequence).
            attention_mask: int64 (batch, sequence), 0 on padding.
            utterance_mask: int64 (batch, sequence), 1 on what the heads see.
            targets: float (batch, labels), 0 or 1.
            asked: float (batch, labels), 1 on the labels of the text's source.
        """
        logits = self.all_logits(input_ids, attention_mask, utterance_mask).float()
        losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return {"loss": (losses * asked).sum(dim=1).mean()}


def to_dataset(
    texts: Sequence[OwnLabelled], places: Mapping[str, int], reader: InputEncoder
) -> Dataset:
    """Return token ids, labels and which labels each text was asked about, by place."""
    windows = [encode_utterance(each.text, reader)[0] for each in texts]
    of_source = {
        source: [place for name, place in places.items() if name.split(" ")[0] == source]
        for source in {each.text.source for each in texts}
    }
    return Dataset.from_dict(
        {
            "ids": [list(window.ids) for window in windows],
            "utterance_length": [window.utterance_length for window in windows],
            "labels": [[places[name] for name in each.labels] for each in texts],
            "asked": [of_source[each.text.source] for each in texts],
        }
    )


def collate(
    examples: Sequence[Example], reader: InputEncoder, places: Mapping[str, int]
) -> dict[str, Tensor]:
    """Return the model's inputs and targets as tensors."""
    windows = [EncodedInput(tuple(row["ids"]), row["utterance_length"]) for row in examples]
    batch = {name: torch.from_numpy(array) for name, array in reader.collate(windows).items()}
    targets, asked = torch.zeros(2, len(examples), len(places))
    for row, example in enumerate(examples):
        targets[row, example["labels"]] = 1
        asked[row, example["asked"]] = 1
    return batch | {"targets": targets, "asked": asked}

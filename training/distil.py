"""A smaller student of a trained model: teacher → distil → export → evaluate → bundle.

python -m training.distil --config training/configs/student.toml
python -m training.distil --config training/configs/student.toml --teacher runs/other
python -m training.distil --config training/configs/fast.toml --teacher runs/default/seeds/7 \
    --teacher runs/default/seeds/8                what several teachers answer on average
python -m training.distil --config training/configs/fast.toml --teacher models/default     a bundle
python -m training.distil --config training/configs/student.toml --resume    go on after a kill
"""

import logging
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import set_seed

from deesc_model.bundle import file_sha256
from deesc_model.encoding import InputEncoder
from deesc_model.errors import DeescError
from deesc_model.network import available_cpus
from training.augmentation import augment
from training.command import errors_in_one_line
from training.config import Config, read_config
from training.corpus import Utterance, fingerprint, load_corpus
from training.examples import Example, collate, loss_weights, make_encoder, to_dataset
from training.fine_tuning import optimise, use_bf16
from training.metrics import gold_labels
from training.model import (
    EscalationModel,
    freeze_blocks,
    set_encoder_dropout,
)
from training.predict import encode_utterance
from training.processes import process_count
from training.recombination import recombine
from training.sampling import EpochSampler, is_plain
from training.sources import load_sources
from training.student import DistillationWeights, make_student
from training.teacher import Answers, Reader, agree, ask, question_key, remembered
from training.tracking import Tracker
from training.train import print_report, run_parser, train
from training.trained import find_trained
from training.unlabelled import draw_evenly, load_unlabelled, without_near
from training.vocabulary import trim, vocabulary_texts

ANSWERS_FILE = "answers-{}.npz"
"""In the run folder, one for each network: what it answered to all that the student is shown."""

log = logging.getLogger("training")


def distil(config: Config, *, resume: bool = False) -> dict[str, Any]:
    """Distil teachers into a student, export, evaluate and write the bundle.

    Args:
        config: The resolved configuration.
        resume: Go on with the run in `config.run_dir` instead of starting anew.

    Returns:
        As `train` does.

    Raises:
        DeescError: A teacher is missing or unlike the others, torchrun started it, or what
            `train` says.
    """
    if process_count() > 1:
        raise DeescError("a student is distilled by one process; start it without torchrun")
    config = _like_teachers(config)
    sources, annotations = Path(config.sources), Path(config.annotations)
    unlabelled = load_unlabelled(sources, annotations, held_out=config.held_out_source)
    drawn = texts_to_ask(config, unlabelled)
    log.info(
        "of %d unlabelled texts and made ones %d for the teachers", len(unlabelled), len(drawn)
    )
    weights = _Weights.of(config)
    return train(
        config,
        resume=resume,
        learn=_Distillation(weights, drawn),
        how=_how(config, weights, len(drawn)),
        origins={
            "teacher_weights": " ".join(weights.teachers),
            "start_weights": weights.start,
            "unlabelled_fingerprint": fingerprint(unlabelled),
        },
    )


def texts_to_ask(config: Config, unlabelled: Sequence[Utterance]) -> list[Utterance]:
    """Return the unlabelled texts, and made ones, that only the teachers label.

    None says nearly what a customer says in validation or test, of the corpus or a public source.

    Args:
        config: Says how many, and where the data are.
        unlabelled: What to draw from.

    Raises:
        DataError: Corpus or sources cannot be read.
    """
    sources, annotations = Path(config.sources), Path(config.annotations)
    public = load_sources(sources, annotations, held_out=config.held_out_source)
    customers = [row for row in load_corpus(Path(config.corpus)) if row.speaker == "customer"]
    known = [row for row in public if row.split == "train"]
    held = [row for row in (*customers, *public) if row.split != "train"]
    asked = draw_evenly(unlabelled, config.unlabelled, config.seed)
    asked += recombine(known, config.recombined, config.seed)
    return without_near(asked, held, config.context_turns)


@dataclass(frozen=True)
class _Weights:
    """Hashes of the weights of what a student is made of."""

    teachers: tuple[str, ...]
    start: str

    @classmethod
    def of(cls, config: Config) -> "_Weights":
        """Read the files."""
        teachers = [file_sha256(find_trained(Path(each)).weights) for each in config.teachers]
        return cls(tuple(teachers), file_sha256(find_trained(Path(_start(config))).weights))


def _how(config: Config, weights: _Weights, unlabelled: int) -> str:
    """Return how the student learned, for its card."""
    chosen = config.student_layers
    layers = f"layer{'s' * (len(chosen) > 1)} {', '.join(map(str, chosen))}"
    hashes = ", ".join(digest[:16] for digest in weights.teachers)
    teachers = "one teacher" if len(config.teachers) == 1 else f"{len(config.teachers)} teachers"
    began = (
        f"of another fine-tuned network ({weights.start[:16]})"
        if _start(config) != config.teachers[0]
        else "of the first"
    )
    return (
        f"Distilled from {teachers} (sha256 of the weights: {hashes}). It began as {layers} {began}"
        " and learned from the labels and from what is answered to these and"
        f" {unlabelled:,} more texts that nobody labelled."
    )


def _start(config: Config) -> str:
    """Return the folder of the network from whose layers the student starts."""
    return config.student_start or config.teachers[0]


def _like_teachers(config: Config) -> Config:
    """Return the configuration with what the network that the student starts from decides.

    Raises:
        DeescError: There is no teacher, one is neither a finished run nor a bundle, one may have
            learned from the source that is to be held out, or they differ in their level head or
            in how much they read.
    """
    if not config.teachers:
        raise DeescError("teachers must name the folder of at least one finished run or bundle")
    start = _start(config)
    decided = find_trained(Path(start)).decides
    for run_dir in (start, *config.teachers):
        for key in ("run_dir", "bundle_dir"):
            if Path(run_dir).resolve() == Path(getattr(config, key)).resolve():
                raise DeescError(f"{key} {getattr(config, key)!r} is a teacher's, choose another")
        trained = find_trained(Path(run_dir))
        if config.held_out_source not in ("", trained.held_out_source):
            raise DeescError(
                f"held_out_source {config.held_out_source!r}: {run_dir!r} may have learned from it;"
                " name runs that held it out"
            )
        for key, value in trained.decides.items():
            if key != "base_model" and value != decided[key]:
                raise DeescError(
                    f"teachers must be alike, but {run_dir!r} has {key} {value!r} and"
                    f" {start!r} has {decided[key]!r}"
                )
    return replace(config, **decided)


@dataclass(frozen=True)
class _Distillation:
    """Makes a student's checkpoint; called as `fine_tune` is.

    Attributes:
        weights: Hashes of the weights of the networks that are asked.
        unlabelled: Texts that the teachers alone label.
    """

    weights: _Weights
    unlabelled: Sequence[Utterance]

    def __call__(
        self,
        config: Config,
        train_rows: Sequence[Utterance],
        validation: Sequence[Utterance],
        tracker: Tracker | None,
        target: Path,
    ) -> float:
        set_seed(config.seed)
        torch.set_num_threads(min(config.threads, available_cpus()))
        model, tokenizer = find_trained(Path(_start(config))).load()
        encoder = make_encoder(tokenizer, config)
        labelled = choose_views(train_rows, config)
        rows = [*labelled, *self.unlabelled]
        student = make_student(
            model,
            config.student_layers,
            config.dropout,
            loss_weights(gold_labels(train_rows), config),
            DistillationWeights(config.soft_share, config.temperature, config.state_loss_weight),
        )
        set_encoder_dropout(student, config.encoder_dropout)
        freeze_blocks(student, config.frozen_blocks)
        answers = self._answers(config, _reader(model, encoder, rows), rows)
        if config.vocabulary_count:
            texts = vocabulary_texts(train_rows, config)
            tokenizer = trim(student.encoder, tokenizer, texts, config.vocabulary_count)
            encoder = make_encoder(tokenizer, config)
        dataset = to_dataset(rows, encoder)
        sampler = EpochSampler(
            [len(ids) for ids in dataset["ids"]],
            [False] * len(rows),
            [1.0],
            plain_share=0.0,
            batch_size=config.batch_size,
            seed=config.seed,
        )
        return optimise(
            config,
            student,
            tokenizer,
            dataset=dataset.add_column("row", list(range(len(rows)))),
            sampler=sampler,
            collator=partial(_collate, encoder=encoder, answers=answers, labelled=len(labelled)),
            validation=validation,
            tracker=tracker,
            target=target,
        )

    def _answers(self, config: Config, start: Reader, rows: Sequence[Utterance]) -> Answers:
        """Return what is answered to each row; as in training, to its first window."""
        bf16 = use_bf16(config.precision)
        hashes = dict(zip(config.teachers, self.weights.teachers, strict=True))
        followed = _start(config) if config.state_loss_weight else ""
        if followed:
            hashes[followed] = self.weights.start
        found = {}
        for number, (run_dir, weights) in enumerate(hashes.items(), start=1):
            layers = config.student_layers if run_dir == followed else ()
            begins = run_dir == _start(config)
            reader = start if begins else _open_reader(run_dir, config, rows)
            found[run_dir] = remembered(
                Path(config.run_dir) / ANSWERS_FILE.format(number),
                question_key(weights, reader.windows, layers, bf16),
                partial(ask, reader, layers, config.evaluation_batch_size, bf16=bf16),
            )
        teachers = [found[run_dir] for run_dir in config.teachers]
        return agree(teachers, found[followed] if followed else teachers[0])


def _open_reader(run_dir: str, config: Config, rows: Sequence[Utterance]) -> Reader:
    model, tokenizer = find_trained(Path(run_dir)).load()
    return _reader(model, make_encoder(tokenizer, config), rows)


def _reader(model: EscalationModel, encoder: InputEncoder, rows: Sequence[Utterance]) -> Reader:
    return Reader(model, encoder, [encode_utterance(row, encoder)[0] for row in rows])


def choose_views(rows: Sequence[Utterance], config: Config) -> list[Utterance]:
    """Return what the student sees of the training split, in every epoch the same.

    Fine-tuning shows a text now with context and now without, now changed. Here one view of
    each is drawn, and of the plain ones a share, so that a teacher reads each text once.

    Args:
        rows: The training split.
        config: Says how many are plain, changed, without context.
    """
    chance = random.Random(config.seed)  # noqa: S311
    chosen = []
    for row, changed in zip(rows, augment(rows, config.seed), strict=True):
        if is_plain(row) and chance.random() >= config.plain_share:
            continue
        view = changed if chance.random() < config.augmentation else row
        chosen.append(
            replace(view, context=()) if chance.random() < config.context_dropout else view
        )
    return chosen


def _collate(
    examples: Sequence[Example], encoder: InputEncoder, answers: Answers, labelled: int
) -> dict[str, torch.Tensor]:
    """Return the inputs, and to rows of the training data, the first of them labelled, answers."""
    batch = collate(examples, encoder)
    if "row" not in examples[0]:  # of validation
        return batch
    rows = np.array([example["row"] for example in examples])
    return batch | {
        "labelled": torch.from_numpy(rows < labelled),
        "teacher_logits": torch.from_numpy(answers.logits[rows]),
        "teacher_states": torch.from_numpy(answers.states[rows]).float(),
    }


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = run_parser("distil", __doc__)
    parser.add_argument(
        "--teacher",
        metavar="FOLDER",
        action="append",
        dest="teachers",
        help="finished run or bundle, instead of the configuration's; may be given several times",
    )
    options = parser.parse_args(arguments)

    def make() -> dict[str, Any]:
        config = read_config(options.config, options.overrides)
        if options.teachers:
            config = replace(config, teachers=tuple(options.teachers))
        return distil(config, resume=options.resume)

    return print_report(make)


if __name__ == "__main__":
    sys.exit(main())

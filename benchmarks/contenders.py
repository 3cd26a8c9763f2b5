"""Who is compared: each opens what `benchmarks.setup` wrote, and answers texts with levels.

Everybody reads the same tokens. What a contender needs is imported when it is opened, in a
process of its own, so that memory and time to the first answer are its own. (Those that load
this project's code for torch or scikit-learn load onnxruntime with it, some 30 MB.)
"""

import importlib.metadata
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from tokenizers import Tokenizer

BATCH: Final = 32
"""Texts in one forward pass, for all who have passes."""

BUNDLES: Final = ("default", "fast", "medium", "large")
"""Our bundles, by the names of their fields in the settings."""

Run = Callable[[dict[str, np.ndarray]], np.ndarray]
"""A network: its input arrays by name in, level logits (batch, levels) out."""


class Unusable(Exception):  # noqa: N818 - a result that is reported, not a fault
    """This machine cannot run the contender; the message says why."""


@dataclass(frozen=True, slots=True)
class Text:
    """One utterance, as our package reads it and as a pair of strings for all others.

    Attributes:
        speaker: ``"customer"`` or ``"agent"``.
        text: What was said.
        context: Speaker and text of the turns before it, oldest first.
        first: The utterance as the network reads it.
        second: The context, cut to what the network reads of it; may be empty.
    """

    speaker: str
    text: str
    context: tuple[tuple[str, str], ...]
    first: str
    second: str


class Contender(Protocol):
    """One way to label texts."""

    def prepare(self, texts: Sequence[Text]) -> list[Any]:
        """Bring texts into the form in which a caller would have them; not timed."""

    def __call__(self, inputs: Sequence[Any]) -> list[int]:
        """Return the level of each input, 0–4, in the order given; this is timed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What `benchmarks.setup` wrote for the contenders.

    Attributes:
        folder: Where the files are; in a folder by the name of a bundle, its network in the forms
            that others open: `fp32.onnx`, `int8.onnx` and `checkpoint`.
        default: Our default.
        fast: Our smallest.
        medium: Our second smallest.
        large: Our largest.
        inputs: Names of a network's inputs: token ids, attention and utterance mask.
        output: Name of its level logits.
        max_length: Longest input in tokens.
    """

    folder: Path
    default: Path
    fast: Path
    medium: Path
    large: Path
    inputs: tuple[str, ...]
    output: str
    max_length: int

    @classmethod
    def read(cls, folder: Path) -> "Settings":
        """Read `setup.json` of a folder."""
        found = json.loads((folder / "setup.json").read_text(encoding="utf-8"))
        paths = {name: Path(found.pop(name)) for name in BUNDLES}
        return cls(folder, **paths, inputs=tuple(found.pop("inputs")), **found)

    def bundle(self, name: str) -> Path:
        """Return the folder of one of `BUNDLES`."""
        path: Path = getattr(self, name)
        return path


@dataclass(frozen=True, slots=True)
class Separator:
    """What stands between an utterance and its context.

    Attributes:
        token: The token's id, which ends the input too.
        count: How many of it stand there.
    """

    token: int
    count: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Separator":
        """Read it off a pair of words."""
        ids = tokenizer.encode("hello", "hello").ids
        return cls(ids[-1], ids.count(ids[-1]) - 1)

    def utterance_mask(self, ids: Any, attention: Any) -> Any:
        """Return 1 on what the heads see: all before the context.

        Args:
            ids: Array or tensor, int64 (batch, sequence).
            attention: The same shape, 0 on padding.
        """
        here = (ids == self.token) * 1
        return attention * (here.cumsum(1) - here < self.count)


def pad_token(tokenizer: Tokenizer) -> str:
    """Return the token that fills up a batch, under whatever name the tokenizer has it."""
    return next(name for name in ("[PAD]", "<pad>") if tokenizer.token_to_id(name) is not None)


class Deesc:
    """This package, as its README calls it.

    Args:
        bundle: A bundle's folder.
    """

    def __init__(self, bundle: Path) -> None:
        from deesc_model import EscalationClassifier

        self.classifier = EscalationClassifier.from_pretrained(bundle)

    def prepare(self, texts: Sequence[Text]) -> list[Any]:
        """Return turns, each with the turns before it."""
        from deesc_model import Turn

        return [(Turn(t.speaker, t.text), [Turn(*each) for each in t.context]) for t in texts]

    def __call__(self, inputs: Sequence[Any]) -> list[int]:
        """Call `predict` for one text and `predict_batch` for more."""
        if len(inputs) == 1:
            return [int(self.classifier.predict(*inputs[0]).level)]
        turns, contexts = zip(*inputs, strict=True)
        found = self.classifier.predict_batch(turns, contexts, batch_size=BATCH)
        return [int(each.level) for each in found]


class Plain:
    """A tokenizer and one call of a network: what one writes in ten lines.

    Args:
        settings: Names and the longest input.
        bundle: Whose tokenizer it is.
        run: The network.
    """

    def __init__(self, settings: Settings, bundle: Path, run: Run) -> None:
        self._inputs, self._run = settings.inputs, run
        self._tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
        self._separator = Separator.of(self._tokenizer)
        pad = pad_token(self._tokenizer)
        self._tokenizer.enable_truncation(settings.max_length)
        self._tokenizer.enable_padding(pad_id=self._tokenizer.token_to_id(pad), pad_token=pad)

    def prepare(self, texts: Sequence[Text]) -> list[Any]:
        """Return strings and pairs of strings."""
        return [(each.first, each.second) if each.second else each.first for each in texts]

    def __call__(self, inputs: Sequence[Any]) -> list[int]:
        """Tokenize, run, take the largest logit; many texts in batches of similar length."""
        levels = np.empty(len(inputs), dtype=np.int64)
        order = by_length([each if isinstance(each, str) else "".join(each) for each in inputs])
        for chosen in batches(order):
            levels[chosen] = self.one_pass([inputs[index] for index in chosen])
        return levels.tolist()

    def one_pass(self, inputs: Sequence[Any]) -> np.ndarray:
        """Return the levels of what goes through the network at once, int64 (batch,)."""
        found = self._tokenizer.encode_batch(inputs)
        ids, attention = (
            np.array([getattr(each, name) for each in found], dtype=np.int64)
            for name in ("ids", "attention_mask")
        )
        arrays = (ids, attention, self._separator.utterance_mask(ids, attention))
        logits = self._run(dict(zip(self._inputs, arrays, strict=True)))
        return logits.argmax(axis=1)


def by_length(texts: Sequence[str]) -> list[int]:
    """Return the indices of texts, shortest first: sorted texts waste no padding."""
    return sorted(range(len(texts)), key=lambda index: len(texts[index]))


def batches(order: Sequence[int]) -> Iterator[list[int]]:
    """Yield indices in batches."""
    for start in range(0, len(order), BATCH):
        yield list(order[start : start + BATCH])


def onnxruntime_float(settings: Settings, network: str) -> Contender:
    """Open a network in fp32 in onnxruntime, with its own defaults."""
    import onnxruntime as ort

    path = settings.folder / network / "fp32.onnx"
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    output = [settings.output]
    return Plain(settings, settings.bundle(network), lambda arrays: session.run(output, arrays)[0])


def openvino(settings: Settings, network: str, precision: str) -> Contender:
    """Open a network in OpenVINO.

    Args:
        settings: Where the network is.
        network: The bundle that it is of.
        precision: ``"bf16"``; or ``"int8"``: matrices in int8, and the arithmetic that OpenVINO
            takes for them by itself. (Held to fp32, which its rounding of activations needs, it
            was slower still.)

    Raises:
        Unusable: OpenVINO has no arithmetic in bf16 for this CPU.
    """
    import openvino as ov

    core = ov.Core()
    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if precision == "bf16":
        if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise Unusable("OpenVINO has no arithmetic in bf16 for this CPU")
        options["INFERENCE_PRECISION_HINT"] = "bf16"
        path = settings.folder / network / "fp32.onnx"
    else:
        options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 2**32  # one scale for a token's vector
        path = settings.folder / network / "int8.onnx"
    compiled = core.compile_model(path, "CPU", options)
    request, output = compiled.create_infer_request(), compiled.output(settings.output)
    bundle = settings.bundle(network)
    return Plain(settings, bundle, lambda arrays: request.infer(arrays)[output])


class Pipeline:
    """transformers' `pipeline("text-classification")` around the torch model.

    Args:
        settings: Where the checkpoint is.
        network: The bundle that it is of.
        compiled: In bf16 through `torch.compile`, instead of fp32 as it comes.
    """

    def __init__(self, settings: Settings, network: str, *, compiled: bool) -> None:
        from benchmarks.torch_model import text_classification

        checkpoint = settings.folder / network / "checkpoint"
        self._pipeline = text_classification(checkpoint, compiled=compiled)
        self._longest = settings.max_length

    def prepare(self, texts: Sequence[Text]) -> list[Any]:
        """Return the dictionaries that a pipeline takes."""
        return [
            {"text": each.first, "text_pair": each.second} if each.second else {"text": each.first}
            for each in texts
        ]

    def __call__(self, inputs: Sequence[Any]) -> list[int]:
        """Call the pipeline on texts sorted by length, and read the labels."""
        order = by_length(["".join(each.values()) for each in inputs])
        found = self._pipeline(
            [inputs[index] for index in order],
            batch_size=min(BATCH, len(inputs)),
            truncation=True,
            max_length=self._longest,
            top_k=1,
            function_to_apply="none",
        )
        levels = np.empty(len(inputs), dtype=np.int64)
        levels[order] = [int(each[0]["label"]) for each in found]
        return levels.tolist()


class Fitted:
    """A model of scikit-learn that `benchmarks.setup` fitted on the corpus."""

    def __init__(self, settings: Settings, name: str) -> None:
        import joblib

        self._model = joblib.load(settings.folder / "default" / f"{name}.joblib")

    def prepare(self, texts: Sequence[Text]) -> list[Any]:
        """Return rows as the model was fitted on them."""
        from deesc_model import Turn
        from training.corpus import Utterance

        unknown: dict[str, Any] = dict.fromkeys(Utterance.__slots__)
        return [
            Utterance(
                **unknown
                | {
                    "speaker": each.speaker,
                    "text": each.text,
                    "context": tuple(Turn(*turn) for turn in each.context),
                }
            )
            for each in texts
        ]

    def __call__(self, inputs: Sequence[Any]) -> list[int]:
        """Score every label as ours does, and take the most probable level."""
        return self._model.logits(inputs).level.argmax(axis=1).tolist()


@dataclass(frozen=True, slots=True)
class Entry:
    """A contender in the list.

    Attributes:
        title: What the table calls it.
        packages: Distributions that it needs, without those that these need.
        network: The bundle whose network it runs, or whose tokenizer it has.
        file: The form of it that it opens; empty for the bundle itself.
        open: Opens it.
    """

    title: str
    packages: tuple[str, ...]
    network: str
    file: str
    open: Callable[[Settings], Contender]

    def missing(self) -> list[str]:
        """Return the distributions that are not installed."""
        return [name for name in self.packages if not _installed(name)]


def _installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


LIGHT: Final = ("numpy", "onnxruntime", "tokenizers")
OPENVINO: Final = ("openvino", "tokenizers")
TORCH: Final = ("torch", "transformers")

OURS: Final = "deesc"
"""The contender that the ratios are to."""

FAST: Final = "deesc-fast"
"""This package with its smallest network, which the goals of speed are for."""

GOALS: Final = "medium"
"""The bundle whose network the others run whom `FAST` is to beat: six layers like the default,
no larger than what one would otherwise take."""


def _ours(network: str, title: str) -> Entry:
    return Entry(title, LIGHT, network, "", lambda settings: Deesc(settings.bundle(network)))


def _others(network: str, label: str) -> dict[str, Entry]:
    """Return who can run a network beside us, by name."""
    return {
        "onnxruntime": Entry(
            f"onnxruntime fp32{label}",
            LIGHT,
            network,
            "fp32.onnx",
            lambda settings: onnxruntime_float(settings, network),
        ),
        "openvino-int8": Entry(
            f"OpenVINO, int8 weights{label}",
            OPENVINO,
            network,
            "int8.onnx",
            lambda settings: openvino(settings, network, "int8"),
        ),
        "openvino-bf16": Entry(
            f"OpenVINO bf16{label}",
            OPENVINO,
            network,
            "fp32.onnx",
            lambda settings: openvino(settings, network, "bf16"),
        ),
        "pipeline": Entry(
            f"pipeline, torch fp32{label}",
            TORCH,
            network,
            "checkpoint",
            lambda settings: Pipeline(settings, network, compiled=False),
        ),
        "pipeline-bf16": Entry(
            f"pipeline, torch bf16, compiled{label}",
            TORCH,
            network,
            "checkpoint",
            lambda settings: Pipeline(settings, network, compiled=True),
        ),
    }


def _fitted(name: str, title: str, *packages: str) -> Entry:
    return Entry(
        title, packages, "default", f"{name}.joblib", lambda settings: Fitted(settings, name)
    )


CONTENDERS: Final[dict[str, Entry]] = {
    OURS: _ours("default", "deesc (int8)"),
    **_others("default", ""),
    FAST: _ours("fast", "deesc, fast (int8)"),
    "deesc-large": _ours("large", "deesc, large (int8)"),
    "deesc-medium": _ours(GOALS, "deesc, medium (int8)"),
    **{
        f"{GOALS}-{name}": entry
        for name, entry in _others(GOALS, f", {GOALS}").items()
        if name in ("openvino-int8", "openvino-bf16", "pipeline")
    },
    "tfidf": _fitted("tfidf", "TF-IDF + logistic regression", "scikit-learn"),
    "static": _fitted(
        "static", "static vectors + logistic regression", "scikit-learn", "tokenizers"
    ),
}

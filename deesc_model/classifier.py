"""`EscalationClassifier`: text in, `Prediction` out, on onnxruntime."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from deesc_model.bundle import Bundle, default_bundle_path, read_bundle
from deesc_model.encoding import InputEncoder
from deesc_model.network import Network
from deesc_model.postprocessing import Postprocessor
from deesc_model.rendering import turns_before
from deesc_model.scoring import combine_windows
from deesc_model.types import Prediction, Turn, as_batch, as_list


class EscalationClassifier:
    """Labels utterances with frustration level, triggers and escalation signals.

    One instance may be shared by threads: the onnxruntime session allows concurrent runs
    and nothing else changes after construction.

    What a text is given does not depend on the batch that it is in.
    """

    def __init__(self, bundle: Bundle, *, threads: int | None = None) -> None:
        """Open a verified bundle; see `from_pretrained`."""
        self.bundle = bundle
        self.model_version = bundle.manifest.model_version
        self._calibration = bundle.config.calibration
        self._postprocessor = Postprocessor(self._calibration, self.model_version)
        self._encoder = InputEncoder.from_file(bundle.tokenizer_path, bundle.config.encoder)
        self._network = Network(bundle.model_path, self._encoder, threads=threads)
        self._network.check(self._calibration.level_head)

    @classmethod
    def from_pretrained(
        cls, path: str | os.PathLike[str] | None = None, *, threads: int | None = None
    ) -> Self:
        """Load a bundle and verify it.

        Args:
            path: The bundle's folder; None takes the one shipped with the package.
            threads: Threads of one forward pass, 1 or more; None takes the CPUs that this
                process may use.

        Raises:
            BundleError: The bundle is missing, damaged, tampered with or too new.
            ValueError: `threads` is below 1.
        """
        return cls(
            read_bundle(default_bundle_path() if path is None else Path(path)), threads=threads
        )

    @classmethod
    def from_registry(
        cls,
        uri: str,
        *,
        tracking_uri: str | None = None,
        cache: str | os.PathLike[str] | None = None,
        threads: int | None = None,
    ) -> Self:
        """Load a bundle from an MLflow model registry; needs the extra ``registry``.

        Args:
            uri: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
            tracking_uri: The MLflow server; None takes the variable MLFLOW_TRACKING_URI.
            cache: Folder where each version is kept once it is downloaded and verified; None
                takes ``deesc`` in the user's cache folder.
            threads: As for `from_pretrained`.

        Raises:
            MissingExtraError: MLflow is not installed; the message names the pip command.
            RegistryError: The server does not answer, or has no such version.
            BundleError: What is registered is damaged, too new, or no bundle.
        """
        from deesc_model.registry import fetch_bundle  # noqa: PLC0415 - an extra

        folder = fetch_bundle(
            uri, tracking_uri=tracking_uri, cache=None if cache is None else Path(cache)
        )
        return cls.from_pretrained(folder, threads=threads)

    def predict(self, utterance: str | Turn, context: Sequence[str | Turn] = ()) -> Prediction:
        """Label one utterance.

        Args:
            utterance: The utterance; a plain string is the customer's.
            context: The turns before it, oldest first.

        Raises:
            InvalidInputError: A text is empty, too long, or not proper text.
        """
        return self.predict_batch([utterance], [context])[0]

    def predict_batch(
        self,
        utterances: Sequence[str | Turn],
        contexts: Sequence[Sequence[str | Turn]] | None = None,
        *,
        batch_size: int = 32,
    ) -> list[Prediction]:
        """Label many utterances; they are sorted by length to waste no padding.

        Args:
            utterances: The utterances; plain strings are the customer's.
            contexts: The turns before each of them; None means no context.
            batch_size: Most windows in one forward pass, 1 or more. Long ones share it with
                fewer, so that memory stays bounded whatever this is.

        Returns:
            One prediction for each utterance, in the order given.

        Raises:
            InvalidInputError: A text is not proper text (the message names its index), or
                `contexts` has another length than `utterances`.
            ValueError: `batch_size` is below 1.
        """
        batch = as_batch(utterances, contexts)
        if not batch:
            return []
        turns = [turn for turn, _ in batch]
        told = [context for _, context in batch]
        encoded = self._encoder.encode_many(turns, told, parallel=self._network.threads > 1)
        windows = [window for each in encoded for window in each]
        logits = self._network.logits(windows, batch_size=batch_size)
        if len(windows) > len(turns):
            owners = np.repeat(np.arange(len(turns)), [len(each) for each in encoded])
            logits = combine_windows(logits, owners, len(turns), self._calibration)
        return self._postprocessor(logits)

    def predict_conversation(
        self, turns: Sequence[Turn], *, batch_size: int = 32
    ) -> list[Prediction]:
        """Label every turn of a conversation, each with the turns before it as context.

        Args:
            turns: The conversation, oldest turn first.
            batch_size: As in `predict_batch`.

        Raises:
            InvalidInputError: A turn is not proper text; the message names its index.
        """
        reach = self.bundle.config.encoder.context_turns
        told = as_list(turns, "turns")
        contexts = [turns_before(told, index, reach) for index in range(len(told))]
        return self.predict_batch(told, contexts, batch_size=batch_size)

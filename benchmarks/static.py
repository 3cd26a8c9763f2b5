"""Static word vectors for logistic regression: what a model2vec-like classifier reads.

The vectors are the bundle's own input table, weighted by rarity and averaged; there is no
distillation. It shows what is left without any layer of the transformer.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from tokenizers import Tokenizer

from deesc_model.rendering import render_context
from training.corpus import Utterance

RARITY = 1e-3
"""Weight of a token is RARITY / (RARITY + its share). Source: Arora, Liang and Ma, A Simple but
Tough-to-Beat Baseline for Sentence Embeddings, 2017."""

TABLE = "model.encoder.embeddings.word_embeddings.weight"


class StaticVectors:
    """Averaged vectors of words, of utterance and context, and the speaker.

    Args:
        network: ONNX file in fp32.
        tokenizer: `tokenizer.json` of the bundle.
        context_turns: How many turns before the utterance are read.
    """

    def __init__(self, network: Path, tokenizer: Path, context_turns: int) -> None:
        self._turns = context_turns
        graph = onnx.load(network).graph
        table = next(each for each in graph.initializer if each.name == TABLE)
        self._vectors = numpy_helper.to_array(table).copy()
        self._tokenizer = Tokenizer.from_file(str(tokenizer))

    def fit_transform(self, rows: Sequence[Utterance]) -> np.ndarray:
        """Learn how rare each token is, and return the features of the same rows."""
        texts = self._tokens([row.text for row in rows])
        counts = np.bincount(np.concatenate(texts), minlength=len(self._vectors))
        self._vectors *= (RARITY / (RARITY + counts / counts.sum()))[:, None]
        return self.transform(rows)

    def transform(self, rows: Sequence[Utterance]) -> np.ndarray:
        """Return the features of rows, float32 (rows, 2 × width of a vector + 1)."""
        texts = self._tokens([row.text for row in rows])
        contexts = self._tokens([render_context(row.context, self._turns) for row in rows])
        speakers = np.array([[float(row.speaker == "customer")] for row in rows])
        return np.hstack([self._means(texts), self._means(contexts), speakers])

    def _tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        found = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [np.array(each.ids, dtype=np.int64) for each in found]

    def _means(self, tokens: Sequence[np.ndarray]) -> np.ndarray:
        means = np.zeros((len(tokens), self._vectors.shape[1]), dtype=np.float32)
        for row, ids in enumerate(tokens):
            if len(ids):
                means[row] = self._vectors[ids].mean(axis=0)
                means[row] /= np.linalg.norm(means[row]) + 1e-9
        return means

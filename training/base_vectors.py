"""Vectors of texts by the base encoder as it came, which has seen no label.

`training.embeddings` reads texts with a bundle's encoder, which has learned from the labels of its
training texts and so could not doubt them.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from deesc_model.scoring import FloatArray
from training.model import load_base

LONGEST = 128
"""Tokens of a text that are read; what it is about shows in them."""


def text_vectors(texts: Sequence[str], base_model: str, batch_size: int) -> FloatArray:
    """Return a vector of length 1 for each text: the mean over its tokens in the last layer.

    The default base model was trained for just this mean. Source: Reimers and Gurevych,
    "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", 2019.

    Args:
        texts: At least one.
        base_model: As in `training.config`.
        batch_size: Texts in one forward pass.

    Returns:
        Float, shape (texts, width of the encoder).

    Raises:
        DeescError: There is no such encoder.
    """
    encoder, tokenizer = load_base(base_model)
    encoder.eval()
    longest = min(LONGEST, encoder.config.max_position_embeddings)
    order = np.argsort([len(text) for text in texts])  # by length, to waste no padding
    vectors = np.empty((len(texts), encoder.config.hidden_size))
    with torch.inference_mode():
        for start in tqdm(range(0, len(order), batch_size), "reading", leave=False, disable=None):
            part = order[start : start + batch_size]
            inputs = tokenizer(
                [texts[i] for i in part],
                padding=True,
                truncation=True,
                max_length=longest,
                return_tensors="pt",
            )
            mask = inputs["attention_mask"].unsqueeze(-1)
            total = (encoder(**inputs).last_hidden_state * mask).sum(dim=1)
            vectors[part] = functional.normalize(total, dim=1).numpy()
    return vectors

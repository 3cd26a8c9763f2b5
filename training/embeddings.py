"""Vectors of texts by the base encoder as it came, before any fine-tuning."""

from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from training.model import load_base

LONGEST = 256
"""Tokens of a text that are read at most."""


def text_vectors(texts: Sequence[str], base_model: str, batch_size: int) -> np.ndarray:
    """Return the mean of each text's token vectors, float32 (n, width), of length 1.

    Args:
        texts: What to read; the same text is computed once.
        base_model: See `training.config.Config`.
        batch_size: Texts in one forward pass.

    Raises:
        DeescError: The base model cannot be loaded.
    """
    encoder, tokenizer = load_base(base_model)
    encoder.eval()
    longest = min(LONGEST, getattr(encoder.config, "max_position_embeddings", LONGEST))
    distinct = sorted(set(texts), key=len)  # like lengths together waste no padding
    vectors = []
    with torch.inference_mode():
        for start in tqdm(range(0, len(distinct), batch_size), "vectors", leave=False):
            batch = tokenizer(
                distinct[start : start + batch_size],
                truncation=True,
                max_length=longest,
                padding="longest",
                return_tensors="pt",
            )
            hidden = encoder(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            vectors.append(torch.nn.functional.normalize((hidden * mask).sum(dim=1)))
    place = {text: number for number, text in enumerate(distinct)}
    return torch.cat(vectors).numpy()[[place[text] for text in texts]]

import numpy as np
import pytest
import torch

from training.base_vectors import text_vectors
from training.model import load_base


def test_a_vector_is_the_mean_over_a_texts_own_tokens_whatever_is_read_with_it(base_model):
    texts = ["thanks one", "you lied to me about number seven seven seven", "all is well"]
    vectors = text_vectors(texts, str(base_model), batch_size=2)
    encoder, tokenizer = load_base(str(base_model))
    encoder.eval()
    for text, vector in zip(texts, vectors, strict=True):
        with torch.inference_mode():
            mean = encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)
        assert vector == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3))

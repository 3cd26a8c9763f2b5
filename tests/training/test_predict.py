from deesc_model.encoding import EncodedInput
from training import predict


def test_batches_are_of_like_length_and_long_texts_go_in_smaller_ones(monkeypatch):
    monkeypatch.setattr(predict, "PASS_TOKENS", 20)
    lengths = (9, 2, 30, 3, 9, 4, 5, 10)
    windows = [EncodedInput(tuple(range(length)), length) for length in lengths]
    # Three at most; of 9 and 10 tokens two are 20 at most; what is longer goes alone.
    assert predict.like_lengths(windows, 3) == [[1, 3, 5], [6, 0], [4, 7], [2]]
    assert predict.like_lengths([], 3) == []

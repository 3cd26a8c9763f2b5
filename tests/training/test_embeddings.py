import numpy as np
import onnx
import pytest
from tiny_bundle import SETTINGS, WIDTH, tiny_network, tiny_tokenizer

from deesc_model import TRIGGERS, Turn
from deesc_model.bundle import default_bundle_path, read_bundle
from deesc_model.encoding import InputEncoder
from deesc_model.errors import BundleError
from training.embeddings import embed, embed_windows

TOPICS = (
    (
        "Where is my parcel?",
        "Any news on the package that I ordered?",
        "My delivery has not come yet.",
        "When will you deliver the box?",
    ),
    (
        "Is breakfast included in the room rate?",
        "I would like a double room with a view of the sea.",
        "Can we check in at noon?",
        "How far is the hotel from the beach?",
    ),
    (
        "I cannot log in to my account.",
        "The app does not take my password.",
        "The code for a new password does not reach me.",
        "Your site says that my user name is unknown.",
    ),
)


def test_the_shipped_bundle_puts_texts_about_one_thing_close_to_each_other():
    texts = [text for topic in TOPICS for text in topic]
    long = texts[4] * 40  # read in windows
    turns = [Turn("customer", text) for text in (*texts, long)]
    found = embed(read_bundle(default_bundle_path()), turns, [()] * len(turns))
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(len(turns)))
    topics = np.repeat(np.arange(len(TOPICS)), 4)
    likeness = found[:-1] @ found[:-1].T
    np.fill_diagonal(likeness, -np.inf)
    assert (topics[likeness.argmax(axis=1)] == topics).mean() > 0.8  # by chance 3 of 11
    assert found[-1] @ found[4] > 0.8


def test_a_texts_vector_is_that_of_its_words_whatever_is_beside_it(tiny_bundle):
    """In the tiny network a word's vector is what it adds to the logits; its heads add nothing."""
    late = np.zeros(WIDTH)
    late[[1, 5 + TRIGGERS.index("delay")]] = 30, 60
    again = np.zeros(WIDTH)
    again[[2, 5 + TRIGGERS.index("unresolved")]] = 60
    turns = [Turn("customer", text) for text in ("late", "late again", "again and again " * 9)]
    found = embed(read_bundle(tiny_bundle), turns)
    wanted = [late, late + again, again]
    assert found == pytest.approx(np.array([row / np.linalg.norm(row) for row in wanted]), abs=1e-6)
    assert embed(read_bundle(tiny_bundle), turns, [turns] * 3) == pytest.approx(found, abs=1e-6)


def test_a_network_of_another_make_is_refused(tmp_path):
    network = tiny_network()
    [product] = [node for node in network.graph.node if node.op_type == "MatMul"]
    product.op_type = "Identity"
    product.input.pop()
    onnx.save(network, tmp_path / "model.onnx")
    encoder = InputEncoder(tiny_tokenizer(), SETTINGS)
    with pytest.raises(BundleError, match=r"training\.export"):
        embed_windows(tmp_path / "model.onnx", encoder, encoder.encode(Turn("customer", "late")))

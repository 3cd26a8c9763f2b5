import numpy as np
import onnx
import pytest
import torch
from tiny_bundle import WIDTH, tiny_network, tiny_tokenizer

from deesc_model import TRIGGERS, Turn
from deesc_model.bundle import default_bundle_path, read_bundle
from deesc_model.encoding import EncoderSettings, InputEncoder
from deesc_model.errors import BundleError
from training.embeddings import embed, embed_windows
from training.export import export_onnx
from training.model import LossWeights, new_model

SETTINGS = EncoderSettings(max_length=48, context_turns=2, context_tokens=16, window_overlap=8)
TALK = [Turn("customer", "hello"), Turn("agent", "one two"), Turn("customer", "three " * 9)]


def test_they_are_the_mean_of_what_the_encoder_makes_of_the_utterances_tokens(base_model, tmp_path):
    plain = LossWeights((1.0,) * 5, (1.0,) * 11, (1.0,) * 5, 1.0, 1.0)
    model, tokenizer = new_model(str(base_model), "corn", 0.0, plain)
    path = tmp_path / "model.onnx"
    export_onnx(model.eval(), path)
    encoder = InputEncoder(tokenizer.backend_tokenizer, SETTINGS)
    windows = [encoder.encode(turn, TALK[:k])[0] for k, turn in enumerate(TALK)]
    found = embed_windows(path, encoder, windows)
    for window, vector in zip(windows, found, strict=True):
        inputs = {name: torch.from_numpy(part) for name, part in encoder.collate([window]).items()}
        with torch.inference_mode():
            hidden = model.encoder(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                token_type_ids=1 - inputs["utterance_mask"],
            ).last_hidden_state[0]
        mean = hidden[: window.utterance_length].mean(dim=0).numpy()
        assert vector == pytest.approx(mean, abs=1e-4)


def test_the_shipped_bundle_puts_texts_about_one_thing_close_to_each_other():
    texts = (
        "Where is my parcel?",
        "Any news on the package that I ordered?",
        "I would like a double room with a view of the sea.",
        "Is breakfast included in the room rate?",
        "Is breakfast included in the room rate? " * 40,  # read in windows
    )
    turns = [Turn("customer", text) for text in texts]
    found = embed(read_bundle(default_bundle_path()), turns, [()] * len(turns))
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(5))
    parcel, package, room, breakfast, _ = found
    assert parcel @ package > parcel @ room
    assert room @ breakfast > package @ breakfast


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
        embed_windows(tmp_path / "model.onnx", encoder, encoder.encode(TALK[0]))

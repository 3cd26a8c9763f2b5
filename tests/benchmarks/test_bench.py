"""The benchmark runs, and what it makes of the bundle is the bundle's network."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from benchmarks.__main__ import main
from benchmarks.comparison import Plan, Race, Turns, level_quality
from benchmarks.contenders import Text
from benchmarks.footprint import closure
from benchmarks.goals import goals
from benchmarks.machine import machine
from benchmarks.processes import ROOT
from benchmarks.report import _overhead
from benchmarks.roofline import Work
from benchmarks.section import marks, write_section
from benchmarks.serve_report import section_of as server_section
from benchmarks.static import StaticVectors
from benchmarks.texts import SHORT, short_turn, texts_of
from benchmarks.torch_model import write_checkpoint
from deesc_model import Turn
from deesc_model.bundle import read_bundle
from deesc_model.encoding import INPUT_NAMES
from deesc_model.errors import DeescError
from training.bundle_network import float_network


@pytest.fixture(scope="module", params=["fast", "default"])
def bundle(request):
    """A BERT, and an MPNet whose activations are smoothed."""
    return read_bundle(Path("models") / request.param)


@pytest.fixture(scope="module")
def exact(bundle, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("exact") / "fp32.onnx"
    onnx.save(float_network(bundle.model_path), path)
    return path


def level_logits(path: Path) -> np.ndarray:
    tokens = np.arange(2000, 2048, dtype=np.int64).reshape(3, 16)
    arrays = dict.fromkeys(INPUT_NAMES, np.ones_like(tokens)) | {"input_ids": tokens}
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["level_logits"], arrays)[0]


def test_the_network_in_fp32_differs_by_the_rounding_of_activations_only(bundle, exact):
    kinds = {node.op_type for node in onnx.load(exact).graph.node}
    assert not {"MatMulInteger", "DynamicQuantizeLinear", "DequantizeLinear"} & kinds
    rounded = level_logits(bundle.model_path)
    found = level_logits(exact)
    assert 0 < np.abs(found - rounded).max() < 0.5
    assert (found.argmax(axis=1) == rounded.argmax(axis=1)).all()


def test_int8_matrices_behind_a_multiplication_are_the_same_network(bundle, exact, tmp_path):
    path = tmp_path / "int8.onnx"
    onnx.save(float_network(bundle.model_path, keep_int8=True), path)
    assert path.stat().st_size < 0.7 * exact.stat().st_size
    # onnxruntime may multiply such a matrix in integers: near, not equal.
    np.testing.assert_allclose(level_logits(path), level_logits(exact), atol=0.1)


def test_a_checkpoint_that_says_something_else_is_refused(bundle, exact, tmp_path):
    write_checkpoint(exact, bundle, tmp_path / "checkpoint")
    assert (tmp_path / "checkpoint" / "model.safetensors").is_file()
    graph = onnx.load(exact)
    norm = next(node for node in graph.graph.node if node.op_type == "LayerNormalization")
    next(each for each in norm.attribute if each.name == "epsilon").f = 3.0
    onnx.save(graph, tmp_path / "other.onnx")
    with pytest.raises(DeescError, match="another architecture"):
        write_checkpoint(tmp_path / "other.onnx", bundle, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_others_read_as_many_tokens_as_ours_reads(bundle):
    assert len(SHORT.split()) == 27
    context = (Turn("agent", "Thanks for waiting. " * 9), Turn("customer", "I waited, thanks."))
    alone, together = texts_of([short_turn(), replace(short_turn(), context=context)], bundle)
    assert (alone.first, alone.second) == (f"customer: {SHORT}", "")
    encoder_tokens = together.second.replace(".", " .").replace(",", " ,").replace(":", " :")
    assert len(encoder_tokens.split()) == bundle.config.encoder.context_tokens


def test_quality_is_that_of_the_levels():
    rows = [replace(short_turn(), level=level) for level in (0, 1, 2, 3, 4)]
    assert level_quality(rows, [0, 1, 2, 3, 4]) == {"level_macro_f1": 1.0, "level_qwk": 1.0}
    # Level 0 and 1 swapped: three F1 of 1 and two of 0; weighted errors 2 of 20 expected.
    assert level_quality(rows, [1, 0, 2, 3, 4]) == {"level_macro_f1": 0.6, "level_qwk": 0.9}


def test_goals_are_of_the_smallest_against_the_others():
    def measured(title, **values):
        return {"title": title, "cold_s": 0.5, "peak_mb": 140.0} | values

    found = goals(
        {
            "deesc-fast": measured("fast", per_s=200.0, short_p50_ms=2.0),
            "deesc": measured("ours", per_s=100.0, short_p50_ms=4.0),
            "medium-openvino-bf16": {"title": "bf16", "skipped": "not here"},
            "medium-openvino-int8": measured("int8", per_s=250.0, short_p50_ms=2.0),
            "pipeline": measured("another's", per_s=1.0, short_p50_ms=99.0, cold_s=9.0),
            "medium-pipeline": measured("pipeline", per_s=20.0, short_p50_ms=12.0, cold_s=4.0),
        }
    )
    assert {goal["who"] for goal in found} == {"fast"}
    # 0.5 s and 140 MiB; 200/20, 12/2 and 4/0.5 against the pipeline; 200/250 against OpenVINO.
    assert [goal["found"] for goal in found] == [0.5, 140, 10, 6, 8, 0.8]
    assert [goal["met"] for goal in found] == [False, True, True, True, True, False]


def test_a_missed_bar_of_the_overhead_is_marked():
    measured = {"predict_ms": 2.0, "plain_ms": 1.0, "added_ms_bar": 0.15}
    measured |= {"added_ms": 0.2, "batch_added_percent": 8.0, "batch_added_percent_bar": 8.0}
    (row, *_) = _overhead({"fast": {"mix": measured, "stages_us": {}}})[2:]
    assert row == (
        "| fast | mix | 2.00 | 1.00 | 0.200 (at most 0.15, **missed**) | 8.0 % (at most 8 %) |"
    )


def test_operations_are_counted_by_hand():
    # One layer, width 2, 10 weights; 3 texts of 4 tokens: 2*10 for weights, 4*2*4 for attention.
    assert Work(weights=10, width=2, layers=1).operations(3, 4) == 3 * 4 * (20 + 32)


def test_a_package_brings_what_it_needs():
    found = closure(("onnxruntime",))
    assert {"onnxruntime", "numpy"} <= found
    assert "torch" not in found


def test_the_section_stands_between_its_marks(tmp_path):
    begin, end = marks("make bench")
    document = tmp_path / "README.md"
    document.write_text(f"before\n{begin}\nold\n{end}\nafter\n", encoding="utf-8")
    write_section(document, "make bench", "new")
    write_section(document, "make bench", "newer")
    text = document.read_text(encoding="utf-8")
    assert text == f"before\n{begin}\nnewer\n{end}\nafter\n"
    document.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="lacks the line"):
        write_section(document, "make bench", "new")


def test_a_quick_run_measures_what_is_asked_for_and_says_what_is_missing(tmp_path):
    begin, end = marks("make bench")
    (tmp_path / "README.md").write_text(f"{begin}\n{end}\n", encoding="utf-8")
    others = ["--only", "onnxruntime,openvino-int8", "--parts", "comparison,overhead"]
    main(["--quick", "--out", str(tmp_path), *others])
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    ours, other = (figures["contenders"][name] for name in ("deesc", "onnxruntime"))
    assert set(ours["ratio"].values()) == {1.0}
    assert min(other[key] for key in ("short_p50_ms", "per_s", "cold_s", "peak_mb")) > 0
    assert ours["level_macro_f1"] > 0.5
    assert figures["overhead"]["fast"]["mix"]["plain_ms"] > 0
    written = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "**deesc (int8)**" in written
    assert "onnxruntime fp32" in written
    openvino = figures["contenders"]["openvino-int8"]
    assert "per_s" in openvino or "pip install openvino" in openvino["skipped"]
    assert (tmp_path / "plots" / "comparison.png").is_file()


def test_a_network_that_the_others_cannot_run_is_refused(tiny_bundle, tmp_path):
    with pytest.raises(SystemExit, match=f"{tiny_bundle}: only a BERT or an MPNet"):
        main(["--quick", "--medium", str(tiny_bundle), "--out", str(tmp_path)])


def test_a_part_is_printed_and_replaces_no_figures_of_the_whole(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    before = (ROOT / "benchmarks" / "figures.json").stat()
    main(["--quick", "--parts", "roofline"])
    assert "| 1 × 36 |" in capsys.readouterr().out
    assert (ROOT / "benchmarks" / "figures.json").stat() == before
    assert not list(tmp_path.iterdir())


def test_static_vectors_read_words_apart_and_know_how_rare_they_are(bundle, exact):
    said = ("parcel", "parcel", "parcel", "money")
    rows = [replace(short_turn(), text=text, context=()) for text in said]
    read = StaticVectors(exact, bundle.tokenizer_path, context_turns=2)
    features = read.fit_transform(rows)
    width = (features.shape[1] - 1) // 2
    assert not features[:, width:-1].any()  # no context
    assert (features[:, -1] == 1).all()  # customers
    np.testing.assert_allclose(np.linalg.norm(features[:, :width], axis=1), 1, atol=1e-4)
    np.testing.assert_array_equal(features[0], features[1])
    assert np.abs(features[0] - features[3]).max() > 0.01
    # In two words the rarer one weighs more, by (.001 + 3/4) / (.001 + 1/4) = 2.99.
    (mixed,) = read.transform([replace(rows[0], text="parcel money")])
    raw = StaticVectors(exact, bundle.tokenizer_path, context_turns=2)
    (parcel, money) = (raw.transform([row])[0, :width] for row in (rows[0], rows[3]))
    table = [np.linalg.norm(raw._vectors[ids[0]]) for ids in raw._tokens(["parcel", "money"])]
    expected = parcel * table[0] + money * table[1] * (0.001 + 3 / 4) / (0.001 + 1 / 4)
    np.testing.assert_allclose(mixed[:width], expected / np.linalg.norm(expected), atol=1e-4)


def test_one_that_dies_in_a_turn_is_a_result_and_not_the_end_of_the_others():
    def dies() -> None:
        raise RuntimeError("benchmarks.worker ended:\nKilled")

    race = Race(None, Plan(), [], [], Text("customer", "hello", (), "customer: hello", ""))
    race.turns = {"deesc": Turns(), "pipeline": Turns()}
    race._try("pipeline", dies)
    assert race.skipped == {"pipeline": "failed: Killed"}
    assert set(race.turns) == {"deesc"}


def test_who_is_unknown_is_refused_by_name(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--only", "deesc,magic"])
    assert "unknown magic; there are deesc, onnxruntime" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("figure", "row"),
    [
        ("latency", "| one client, p50 above `predict` in process, ms | 0.5 | at most 0.8 | met |"),
        (
            "batching",
            "| throughput with batching, times without | 1.4 | at least 1.8 | **missed** |",
        ),
        (
            "handover",
            "| reload and restart under load: replies lost | 1 | at most 0 | **missed** |",
        ),
    ],
)
def test_the_servers_section_says_what_is_met_and_leaves_out_what_was_not_measured(figure, row):
    known = {
        "latency": {
            "over_p50_ms": 0.5,
            **dict.fromkeys(
                ("in_process_p50_ms", "call_p50_ms", "empty_call_p50_ms", "bare_call_p50_ms"), 1.0
            ),
        },
        "batching": {
            "on": {"per_s": 14},
            "off": {"per_s": 10},
            "ratio": 1.4,
            "in_process_ratio": 1.2,
        },
        "handover": {"lost": 1, "duplicated": 0},
    }
    about = {"clients": 16, "seconds": 1, "date": "2026-01-01", "model_version": "m"}
    section = server_section(about | {"machine": machine(), figure: known[figure]})
    assert row in section.splitlines()
    assert ("one client" in section.lower()) == (figure == "latency")

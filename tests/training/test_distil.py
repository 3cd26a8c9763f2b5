"""A tiny teacher is trained and distilled, through the command line's own functions."""

import dataclasses
import json
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
from whole_runs import config_file

from deesc_model import EscalationClassifier
from deesc_model.bundle import file_sha256, read_bundle
from deesc_model.errors import DeescError
from training import distil, train
from training.model import load_checkpoint

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore", "error:::training"),
]


def test_a_student_is_distilled_evaluated_and_bundled(tiny_config, tmp_path, capsys):
    train.train(tiny_config)
    student = dataclasses.replace(
        tiny_config,
        run_dir=str(tmp_path / "student"),
        bundle_dir=str(tmp_path / "student" / "bundle"),
        registered_model="tiny-student",
        student_layers=(2,),
        vocabulary_count=1,
        epochs=6,
        max_length=40,  # the teacher's 48 holds
    )
    second = shutil.copytree(tiny_config.run_dir, tmp_path / "second")
    command = ["--config", str(config_file(student, tmp_path / "s.toml"))]
    command += ["--teacher", tiny_config.run_dir, "--teacher", str(second)]
    assert distil.main(command) == 0
    assert "| level_macro_f1 |" in capsys.readouterr().out
    model, tokenizer, settings = load_checkpoint(tmp_path / "student" / "checkpoint")
    assert model.encoder.config.num_hidden_layers == 1
    _, whole, _ = load_checkpoint(Path(tiny_config.run_dir) / "checkpoint")
    assert "zebra" in whole.get_vocab()
    assert "zebra" not in tokenizer.get_vocab()
    assert model.encoder.config.vocab_size == len(tokenizer)
    assert settings.max_length == 48
    report = json.loads((tmp_path / "student" / "report.json").read_text())
    assert report["metrics"]["level_macro_f1"]["value"] > 0.8  # this corpus is easy
    text = "outrageous, you lied to me about number one"
    classifier = EscalationClassifier.from_pretrained(student.bundle_dir)
    assert int(classifier.predict(text).level) == 3
    card = (Path(student.bundle_dir) / "README.md").read_text()
    assert "Distilled from 2 teachers" in card
    assert "It began as layer 2 of the first" in card
    run_id = read_bundle(Path(student.bundle_dir)).manifest.training_run
    run = mlflow.MlflowClient(student.tracking_uri).get_run(run_id)
    assert len(run.data.tags["teacher_weights"].split()) == 2
    files = [tmp_path / "student" / f"answers-{number}.npz" for number in (1, 2)]
    written = [file.stat().st_mtime_ns for file in files]
    assert distil.main([*command, "--resume"]) == 0
    assert [file.stat().st_mtime_ns for file in files] == written
    weights = second / "checkpoint" / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")  # another teacher is another run
    assert distil.main([*command, "--resume"]) == 1
    assert "another configuration or other data" in capsys.readouterr().err


def test_a_teacher_of_another_kind_teaches_a_student_that_starts_elsewhere(
    tiny_config, tmp_path, wider_base_model
):
    train.train(tiny_config)
    teacher = dataclasses.replace(
        tiny_config,
        corpus=str(with_other_levels(Path(tiny_config.corpus), tmp_path / "other")),
        base_model=str(wider_base_model),
        run_dir=str(tmp_path / "teacher"),
        bundle_dir=str(tmp_path / "teacher" / "bundle"),
        vocabulary_count=1,
    )
    train.train(teacher)
    _, tokenizer, _ = load_checkpoint(tmp_path / "teacher" / "checkpoint")
    assert not {"zebra", "[MASK]"} & tokenizer.get_vocab().keys()
    assert tokenizer.pad_token_id == 1  # MPNet's positions rely on it
    student = dataclasses.replace(
        tiny_config,
        run_dir=str(tmp_path / "student"),
        bundle_dir=str(tmp_path / "student" / "bundle"),
        teachers=(teacher.run_dir,),
        student_start=tiny_config.run_dir,
        student_layers=(2,),
        soft_share=1.0,  # from the teacher alone
        state_loss_weight=0.0,
    )
    distil.distil(student)
    text = "outrageous, you lied to me about number one"
    started, taught = (
        EscalationClassifier.from_pretrained(each.bundle_dir) for each in (tiny_config, student)
    )
    first, second = (np.argmax(each.predict(text).level_scores) for each in (started, taught))
    assert (first, second) == (3, 0)  # as the teacher was told
    asked = [file.name for file in Path(student.run_dir).glob("answers-*.npz")]
    assert asked == ["answers-1.npz"]  # states count for nothing: nobody asks the start
    card = (Path(student.bundle_dir) / "README.md").read_text()
    weights = file_sha256(tmp_path / "run" / "checkpoint" / "model.safetensors")
    assert f"began as layer 2 of another fine-tuned network ({weights[:16]})" in card


def with_other_levels(corpus, target):
    """The same corpus, in which calm is called heated and heated calm."""
    target.mkdir()
    swapped = {0: 3, 3: 0}
    for file in corpus.glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        lines = [
            json.dumps(row | {"level": swapped.get(row["level"], row["level"])}) for row in rows
        ]
        (target / file.name).write_text("\n".join(lines))
    return target


def test_a_bundle_teaches_and_is_what_the_student_starts_from(tiny_config, tmp_path):
    train.train(tiny_config)
    student = dataclasses.replace(
        tiny_config,
        run_dir=str(tmp_path / "student"),
        bundle_dir=str(tmp_path / "student" / "bundle"),
        teachers=(tiny_config.bundle_dir,),
        student_layers=(2,),
        epochs=2,
    )
    report = distil.distil(student)
    assert report["metrics"]["level_macro_f1"]["value"] > 0.8  # this corpus is easy
    manifest = read_bundle(Path(student.bundle_dir)).manifest
    assert manifest.base_model == tiny_config.base_model
    run = mlflow.MlflowClient(student.tracking_uri).get_run(manifest.training_run)
    weights = file_sha256(Path(tiny_config.bundle_dir) / "model.onnx")
    assert run.data.tags["teacher_weights"] == run.data.tags["start_weights"] == weights
    for teacher in (tiny_config.bundle_dir, tiny_config.run_dir):  # neither held anything out
        held = dataclasses.replace(student, held_out_source="xci", teachers=(teacher,))
        with pytest.raises(DeescError, match=f"{teacher}' may have learned from it"):
            distil.distil(held)


def test_layers_that_the_start_lacks_are_refused_before_a_teacher_is_asked(
    tiny_config, tmp_path, monkeypatch
):
    train.train(tiny_config)
    monkeypatch.setattr(distil, "ask", None)
    student = dataclasses.replace(
        tiny_config,
        run_dir=str(tmp_path / "student"),
        bundle_dir=str(tmp_path / "student" / "bundle"),
        teachers=(tiny_config.run_dir,),
        student_layers=(1, 3),
    )
    with pytest.raises(DeescError, match="student_layers must be numbers from 1 to 2"):
        distil.distil(student)


def write_teacher(folder, level_head):
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"base_model": "any"}))
    about = {"level_head": level_head, "encoder": {"max_length": 48}}
    (folder / "checkpoint" / "deesc.json").write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "teachers must name the folder of at least one finished run"),
        (["nowhere"], "nowhere' is not the folder of a finished run"),
        (["one", "nowhere"], "nowhere' is not the folder of a finished run"),
        (["one", "run"], "run_dir .*run' is a teacher's, choose another"),
        (
            ["one", "two"],
            "must be alike, but .*two' has level_head 'corn' and .*one' has 'softmax'",
        ),
    ],
)
def test_teachers_that_do_not_do_are_named(tiny_config, tmp_path, names, said):
    for name, level_head in (("one", "softmax"), ("two", "corn"), ("run", "softmax")):
        write_teacher(tmp_path / name, level_head)
    teachers = tuple(str(tmp_path / name) for name in names)
    config = dataclasses.replace(tiny_config, run_dir=str(tmp_path / "run"), teachers=teachers)
    with pytest.raises(DeescError, match=said):
        distil.distil(config)


def test_a_bundle_that_teaches_is_not_replaced_by_its_student(tiny_config):
    config = dataclasses.replace(
        tiny_config, teachers=("models/fast",), bundle_dir="models/../models/fast"
    )
    with pytest.raises(DeescError, match=r"bundle_dir .*fast' is a teacher's, choose another"):
        distil.distil(config)

from pathlib import Path

import pytest

from training.config import RANGES, Config, ConfigError, is_ours, read_config


def test_our_corpus_is_ours_however_it_is_named(tmp_path):
    assert is_ours("data/corpus")
    assert is_ours(str(Path("data/corpus").resolve()))
    assert is_ours("data/../data/corpus/")
    assert not is_ours(str(tmp_path / "data" / "corpus"))


def test_files_and_overrides_meet_in_one_dataclass(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(
        'epochs = 3\nlearning_rate = 2e-5\nname = "mine"\nstudent_layers = [1, 2]\nwarmup = 0\n'
    )
    config = read_config(path, ["epochs=5", "base_model=some/model", "dropout = 0", 'alias="a b"'])
    assert (config.epochs, config.learning_rate, config.name) == (5, 2e-5, "mine")
    assert (config.base_model, config.dropout, config.alias) == ("some/model", 0.0, "a b")
    assert isinstance(config.dropout, float)
    assert isinstance(config.warmup, float)
    assert config.student_layers == (1, 2)
    assert read_config(path, ["student_layers=[3, 6]"]).student_layers == (3, 6)


@pytest.mark.parametrize(
    "name", ["continue", "default", "fast", "large", "smoke", "student", "teacher"]
)
def test_the_shipped_configurations_are_valid(name):
    assert isinstance(read_config(Path("training/configs") / f"{name}.toml"), Config)


@pytest.mark.parametrize(
    ("content", "overrides", "said"),
    [
        ("speed = 1", [], "unknown key 'speed'"),
        ("epochs = 'three'", [], "epochs must be int, not str 'three'"),
        ("epochs = 1.5", [], "epochs must be int, not float"),
        ("epochs = true", [], "epochs must be int, not bool"),
        ("epochs = 0", [], "epochs must be from 1 to"),
        ("context_dropout = 7", [], "context_dropout must be from 0 to 1, not 7"),
        ("learning_rate = nan", [], "learning_rate must be from 1e-08 to 1, not nan"),
        ("window_overlap = 200", [], "window_overlap must be at most half of max_length 256"),
        ("student_layers = 3", [], "student_layers must be a list of whole numbers, not 3"),
        ("student_layers = [2, 'x']", [], "student_layers must be a list of whole numbers"),
        ("teachers = 'runs/one'", [], "teachers must be a list of strings, not 'runs/one'"),
        ("", ["teachers=[7]"], "teachers must be a list of strings, not \\[7\\]"),
        ("", ["temperature=0"], "temperature must be from 0.1 to"),
        ("start_share = 0.5\nteachers = ['runs/one']", [], "start_share is for fine-tuning"),
        ("level_head = 'tree'", [], "level_head must be one of softmax, corn"),
        ("epochs 3", [], "is not TOML"),
        ("", ["epochs"], "key=value"),
        ("", ["speed=1"], "--set: unknown key 'speed'"),
        ("", ["epochs=many"], "--set: epochs must be int, not str 'many'"),
    ],
)
def test_a_mistake_is_named(tmp_path, content, overrides, said):
    path = tmp_path / "c.toml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=said):
        read_config(path, overrides)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        read_config(tmp_path / "nowhere.toml")


def test_every_number_has_a_range():
    numbers = {key for key, value in vars(Config()).items() if type(value) in (int, float)}
    assert numbers == set(RANGES)

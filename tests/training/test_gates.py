import pytest

from training.config import ConfigError
from training.gates import DEFAULT_GATES, read_gates


def test_the_shipped_bounds_are_valid():
    assert read_gates().robustness["typo"] == 0.15


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("slice_rows = 100", "slice_rows = 100\nspeed = 1", "unknown key 'speed'"),
        ("slice_rows = 100", "slice_rows = 'many'", "slice_rows must be int, not str 'many'"),
        ("slice_rows = 100", "slice_rows = 1.5", "slice_rows must be int, not float"),
        ("slice_rows = 100", "slice_rows = 0", "slice_rows must be from 1"),
        ("slice_rows = 100", "", "missing slice_rows"),
        ("significance = 0.05", "significance = true", "significance must be float, not bool"),
        ("significance = 0.05", "significance = 5", "significance must be from 0 to 0.5"),
        ("corpus_ece = 0.05", "corpus_ece = nan", "corpus_ece must be from 0 to 1"),
        ("typo = 0.15", "tpyo = 0.15", r"\[robustness\]: unknown key 'tpyo'"),
        ("typo = 0.15", "typo = '1'", "typo must be float, not str"),
        ("typo = 0.15", "", r"\[robustness\]: missing typo"),
        ("[robustness]", "[robust]", "unknown key 'robust'"),
    ],
)
def test_a_mistake_is_named(tmp_path, old, new, said):
    text = DEFAULT_GATES.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "gates.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        read_gates(path)

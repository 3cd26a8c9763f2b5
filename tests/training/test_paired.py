import numpy as np
import pytest

from training.paired import significant_losses


def gains(value: float, spread: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(value, spread, 1000)
    return np.array([value, *noise])


def test_a_clear_loss_is_found_among_many_figures_of_chance():
    figures = {f"slice {n}": gains(0.0, 0.02, n) for n in range(60)} | {
        "bad": gains(-0.1, 0.02, 99)
    }
    bounds = significant_losses(figures, 0.05)
    assert [name for name in figures if figures[name][0] < bounds[name]] == ["bad"]


def test_the_bound_is_stricter_the_more_figures_there_are():
    one = significant_losses({"a": gains(0.0, 0.02, 1)}, 0.05)["a"]
    many = significant_losses({str(n): gains(0.0, 0.02, n) for n in range(1, 60)}, 0.05)["1"]
    assert one == pytest.approx(-1.645 * 0.02, rel=0.15)
    assert many == pytest.approx(-3.1 * 0.02, rel=0.2)


def test_equals_are_refused_as_rarely_as_is_said():
    random, refused = np.random.default_rng(0), 0
    for _ in range(300):
        true = random.normal(0, 0.02, 20)
        figures = {
            str(n): np.array([value, *random.normal(value, 0.02, 300)])
            for n, value in enumerate(true)
        }
        bounds = significant_losses(figures, 0.05)
        refused += any(figures[name][0] < bounds[name] for name in figures)
    assert 0.02 < refused / 300 < 0.09


def test_what_never_varies_is_judged_by_its_sign_and_what_is_undefined_not_at_all():
    figures = {"worse": np.full(9, -0.1), "same": np.zeros(9), "none": np.full(9, np.nan)}
    assert significant_losses(figures, 0.05) == {"worse": 0.0, "same": 0.0}
    assert significant_losses({}, 0.05) == {}

import shutil
import warnings
from pathlib import Path

import pytest
from base_models import write_base_model, write_wider_base_model
from conversations import MOODS, NUMBERS, small_corpus
from mlflow import MlflowClient

from training.config import Config

UNREAD = "zebra"
"""A word piece of the base models that no text has."""


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base_model(tmp_path_factory.mktemp("base"), _words())


@pytest.fixture(scope="session")
def wider_base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another architecture and another width."""
    return write_wider_base_model(tmp_path_factory.mktemp("wider"), _words())


def _words() -> list[str]:
    words = " ".join([*(mood[0] for mood in MOODS), *NUMBERS, "customer agent : ,"]).split()
    return sorted({*words, UNREAD})


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables without a run: to make them takes seconds, to copy them nothing.

    The experiment is there and has its files beside them: MLflow's own place is ./mlruns.
    """
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own
        client = MlflowClient(f"sqlite:///{path}")
        client.create_experiment(Config().experiment, (path.parent / "artifacts").as_uri())
    return path


@pytest.fixture
def tiny_config(tmp_path: Path, base_model: Path, empty_store: Path) -> Config:
    """A whole run in seconds, all of it below the test's own folder."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return Config(
        name="deesc-tiny",
        corpus=str(small_corpus(tmp_path / "corpus")),
        sources=str(tmp_path / "raw"),
        base_model=str(base_model),
        run_dir=str(tmp_path / "run"),
        bundle_dir=str(tmp_path / "bundle"),
        tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
        max_length=48,
        context_turns=2,
        context_tokens=16,
        window_overlap=8,
        epochs=8,
        batch_size=8,
        learning_rate=3e-3,
        head_learning_rate=1e-2,
        frozen_blocks=0,  # those of the tiny base are random
        threads=1,  # tests share the cores
        bootstrap_samples=50,
    )

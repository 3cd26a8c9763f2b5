import os
import socket
from collections.abc import Iterator
from pathlib import Path

# Tests run side by side: threads of numerical libraries would wait for each other. They read it
# when they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings
from tiny_bundle import write_tiny_bundle

from deesc_model import EscalationClassifier

# A busy machine must not fail a test: speed is for the benchmarks.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    for item in items:
        if item.get_closest_marker("long"):  # whole runs, one after another
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture
def deserted() -> Iterator[str]:
    """HOST:PORT where nobody listens, nor can anybody begin to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def bundle_dir(tmp_path: Path) -> Path:
    """A tiny bundle of the test's own, to be damaged at will."""
    return write_tiny_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle shared by tests that only read it."""
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="session")
def classifier(tiny_bundle: Path) -> EscalationClassifier:
    return EscalationClassifier.from_pretrained(tiny_bundle, threads=1)

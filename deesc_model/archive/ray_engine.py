"""Label windows on a Ray cluster, with Ray Data; the extra `ray`, which this module alone imports.

One task reads, on the machine where the command runs; actors with a model each label, on all
machines; what they say comes back in order. Only the labelling moves: windows, parts and scores
are those of one machine.
"""

import contextlib
import logging
import os
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from deesc_model.archive.labelling import Labelled, Labeller, asked
from deesc_model.archive.windows import Window
from deesc_model.arrow import pa
from deesc_model.classifier import EscalationClassifier
from deesc_model.errors import DeescError, MissingExtraError

try:
    import ray
    import ray.data
    import ray.util
    from ray.exceptions import RayError
except ModuleNotFoundError as error:
    raise MissingExtraError(f"the package {error.name}", "ray") from None

_TRIES: Final = 3
"""How often an actor that died begins anew, and a window that was lost is labelled again."""

_BLOCK: Final = 1
"""Bytes from which on Ray Data ends a block: each window is one, so that it goes to one actor."""


@contextlib.contextmanager
def on_ray(bundle: Path, actors: int, threads: int, batch_size: int) -> Iterator[Labeller]:
    """Join the cluster of RAY_ADDRESS, or start one here; give a labeller that works on it.

    Its windows are read in another process of this machine, so they must be such that can be
    sent there, as `windows.Wanted` of files.

    Args:
        bundle: The bundle's folder, which only this machine needs to have.
        actors: Most actors, 1 or more; fewer where the cluster lacks CPUs.
        threads: CPUs of each, 1 or more.
        batch_size: Texts in one forward pass, 1 or more.

    Raises:
        DeescError: The cluster cannot be joined, or fails; the message says what Ray says.
    """
    joined = ray.is_initialized()
    try:
        if not joined:
            # Without an address, Ray would join whatever cluster runs on this machine.
            address = os.environ.get("RAY_ADDRESS") or "local"
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        if not joined and address == "local" and threads > (cpus := ray.cluster_resources()["CPU"]):
            ray.shutdown()  # where it would wait for ever; another cluster may grow
            raise DeescError(f"--threads {threads}: Ray has {cpus:.0f} CPUs on this machine")
        files = ray.put({path.name: path.read_bytes() for path in _files(bundle)})
    except (RayError, ConnectionError, RuntimeError, ValueError) as error:  # it has no base for all
        raise DeescError(f"Ray failed: {str(error).strip() or type(error).__name__}") from error
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.target_max_block_size = _BLOCK
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)  # the command shows its own progress

    def label(windows: Iterable[Window], begin: Callable[[], None]) -> Labelled:
        begin()
        # No CPU and this machine, for a task that waits for the actors most of the time.
        asks = ray.data.from_arrow(pa.table({"window": [0]})).map_batches(
            partial(_read, windows=windows, folder=str(Path.cwd())),
            batch_format="pyarrow",
            num_cpus=0,
            resources={f"node:{ray.util.get_node_ip_address()}": 0.001},
        )
        answers = asks.map_batches(
            _Actor,
            fn_constructor_args=(files, threads, batch_size),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors),
            num_cpus=threads,
            # Else it begins anew for ever, and says nothing: an actor may die of its window.
            max_restarts=_TRIES,
            max_task_retries=_TRIES,
        )
        with _translated():
            for batch in answers.iter_batches(batch_size=1, batch_format="pyarrow"):
                window, predictions = map(_unpacked, (batch["window"], batch["predictions"]))
                if isinstance(window, Exception):
                    raise window
                yield window, predictions

    try:
        yield label
    finally:
        if not joined:
            ray.shutdown()


class _Actor:
    """A model, and what it says of windows."""

    def __init__(self, files: Any, threads: int, batch_size: int) -> None:
        self._batch_size = batch_size
        with tempfile.TemporaryDirectory() as folder:
            for name, content in ray.get(files).items():
                Path(folder, name).write_bytes(content)
            self._classifier = EscalationClassifier.from_pretrained(folder, threads=threads)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Label one window; what went wrong in reading goes on as it is."""
        window = _unpacked(batch["window"])
        predictions = None
        if isinstance(window, Window):
            turns, contexts = asked(window)
            predictions = self._classifier.predict_batch(
                turns, contexts, batch_size=self._batch_size
            )
        return batch.append_column("predictions", _packed(predictions))


def _read(batch: pa.Table, windows: Iterable[Window], folder: str) -> Iterator[pa.Table]:
    """Yield windows, and at last an error if there is one: those before it are done first."""
    os.chdir(folder)  # of the command, whose files may be named from there
    try:
        for window in windows:
            yield pa.table({"window": _packed(window)})
    except (DeescError, OSError) as error:
        yield pa.table({"window": _packed(error)})


def _packed(value: object) -> pa.Array:
    return pa.array([pickle.dumps(value)], pa.large_binary())


def _unpacked(column: pa.ChunkedArray) -> Any:
    return pickle.loads(column[0].as_py())  # noqa: S301 - from the cluster that runs our code


def _files(bundle: Path) -> list[Path]:
    return [path for path in bundle.iterdir() if path.is_file()]


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (RayError, ConnectionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise DeescError(f"Ray failed: {reason}") from error

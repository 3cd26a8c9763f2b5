"""Runs in MLflow, and the registration of what they made.

A run is opened here, not by the Trainer's callback, which would leave a second run behind.
If the server can't be reached, or goes away, training goes on: everything is also in the
run folder, and `Tracker.close` says so.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
from datasets import Dataset
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

from deesc_model.bundle import read_bundle
from deesc_model.errors import RegistryError
from deesc_model.registry import check_reachable
from training.config import Config
from training.corpus import CORPUS, Utterance, fingerprint
from training.descriptions import describe

log = logging.getLogger("training")

UNTRACKED = "untracked"
RUN_ID_FILE = "mlflow_run_id"
MODEL_VERSION_TAG = "model_version"
"""Tag of a registered version: `Manifest.model_version` of its bundle."""
METRICS_AT_ONCE = 500
"""MLflow refuses more than 1,000 in one request."""
BOOKKEEPING = (
    "run_name",
    "run_dir",
    "bundle_dir",
    "tracking_uri",
    "experiment",
    "registered_model",
    "alias",
)
"""Keys of the configuration that say where a run leaves what it made."""
METRICS_FILE = "metrics.json"
"""The table that says what each figure of a run means."""

SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(DataType.string, "text"),
            ColSpec(DataType.string, "speaker", required=False),
        ]
    ),
    outputs=Schema(
        [
            ColSpec(DataType.long, "level"),
            ColSpec(DataType.double, "frustration"),
            ColSpec(Array(DataType.string), "triggers"),
            ColSpec(Array(DataType.string), "signals"),
            ColSpec(DataType.string, "model_version"),
        ]
    ),
)


@contextlib.contextmanager
def _without_patience() -> Iterator[None]:
    """Let MLflow's client ask once, and for seconds."""
    settings = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Tracker:
    """One MLflow run, or none if the server is away. Use it as a context manager.

    The run's id is kept in ``run_dir/mlflow_run_id``; where that file exists, the run that
    was interrupted is taken up again.
    """

    def __init__(
        self,
        config: Config,
        tags: Mapping[str, str],
        params: Mapping[str, object] | None = None,
        *,
        child: bool = False,
        parent: str = UNTRACKED,
    ) -> None:
        """Open the run.

        Args:
            config: Where MLflow is, and the names of experiment and run.
            tags: What the run belongs to.
            params: What the run was told; None for the configuration without `BOOKKEEPING`.
            child: Whether the run belongs to the one that is open, if there is one.
            parent: Id of the closed run that it belongs to; one that this server does not know
                is passed over.
        """
        self._config = config
        self._params = settings(config) if params is None else dict(params)
        self._alive = True
        self.run_id = UNTRACKED
        self._call("open a run", lambda: self._open(tags, child, parent))

    def _open(self, tags: Mapping[str, str], child: bool, parent: str) -> None:
        check_reachable(self._config.tracking_uri)
        mlflow.set_tracking_uri(self._config.tracking_uri)
        mlflow.set_experiment(self._config.experiment)
        note = Path(self._config.run_dir) / RUN_ID_FILE
        unfinished = note.read_text(encoding="utf-8") if note.is_file() else None
        above = {MLFLOW_PARENT_RUN_ID: parent} if _is_known(parent) else {}
        run = mlflow.start_run(
            unfinished, run_name=self._config.run_name, tags={**tags, **above}, nested=child
        )
        self.run_id = run.info.run_id
        note.write_text(self.run_id, encoding="utf-8")
        mlflow.log_params(self._params)

    def __enter__(self) -> Self:
        """Return the tracker."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the run: finished, failed, or killed by the user."""
        self._call("describe the metrics", self._describe_metrics)
        status = "FINISHED" if kind is None else "FAILED"
        if kind is KeyboardInterrupt:
            status = "KILLED"
        self._call("close the run", lambda: self._close(status), always=True)
        if not self._alive:
            log.warning(
                "not everything is in MLflow at %s; all results are in %s",
                self._config.tracking_uri,
                Path(self._config.run_dir).resolve(),
            )

    def _close(self, status: str) -> None:
        """End the run, whatever failed before: no other could be opened in this process."""
        if self.run_id == UNTRACKED:
            return
        try:
            check_reachable(self._config.tracking_uri)
        except OSError:
            # MLflow takes the run from those that are open before it asks the server, in vain.
            with _without_patience(), contextlib.suppress(MlflowException):
                mlflow.end_run(status)
            raise
        mlflow.end_run(status)

    def log_data(self, split: str, rows: Sequence[Utterance]) -> None:
        """Record which data a split held: a logged dataset with its fingerprint per source."""
        for source in dict.fromkeys(row.source for row in rows):
            members = [row for row in rows if row.source == source]
            self._call(f"log the {split} data", partial(self._log_dataset, source, split, members))

    def _log_dataset(self, source: str, split: str, rows: Sequence[Utterance]) -> None:
        table = Dataset.from_dict(
            {
                "text": [row.text for row in rows],
                "level": [row.level for row in rows],
                "conversation_id": [row.conversation_id for row in rows],
            }
        )
        data = mlflow.data.from_huggingface(
            table,
            path=self._config.corpus if source == CORPUS else self._config.sources,
            targets="level",
            name=f"{source}-{split}",
            digest=fingerprint(rows)[:16],
        )
        mlflow.log_input(data, context=split)

    def log_figures(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record figures, of one step of a curve if one is named."""
        names = list(metrics)
        for start in range(0, len(names), METRICS_AT_ONCE):
            part = {name: metrics[name] for name in names[start : start + METRICS_AT_ONCE]}
            self._call("log metrics", partial(mlflow.log_metrics, part, step=step))

    def log_note(self, text: str) -> None:
        """Write the run's description, Markdown that its page in the UI begins with."""
        self._call("log the note", lambda: mlflow.set_tag(MLFLOW_RUN_NOTE, text))

    def log_files(self, paths: Sequence[Path], folder: str) -> None:
        """Upload files as artifacts."""

        def action() -> None:
            for path in paths:
                mlflow.log_artifact(str(path), folder)

        self._call(f"upload {folder}", action)

    def log_table(self, table: Mapping[str, Sequence[Any]], file: str) -> None:
        """Record a table that the UI shows, in place of one that an interrupted run left."""
        self._call(f"log {file}", partial(self._log_table, table, file))

    def _log_table(self, table: Mapping[str, Sequence[Any]], file: str) -> None:
        columns = {name: list(values) for name, values in table.items()}
        if any(found.path == file for found in mlflow.MlflowClient().list_artifacts(self.run_id)):
            rows = list(zip(*columns.values(), strict=True))
            mlflow.log_dict({"columns": list(columns), "data": rows}, file)
        else:
            mlflow.log_table(columns, file)

    def _describe_metrics(self) -> None:
        """Say in a table what each figure of the run means."""
        names = sorted(mlflow.MlflowClient().get_run(self.run_id).data.metrics)
        known = {name: describe(name) for name in names}
        for name in (name for name, metric in known.items() if metric is None):
            log.warning("%s has no description in training/descriptions.py", name)
        table = {
            "metric": names,
            "in plain words": [metric.words if metric else "" for metric in known.values()],
            "best": [metric.best if metric else "" for metric in known.values()],
        }
        self._log_table(table, METRICS_FILE)

    def log_bundle(self, bundle_dir: Path) -> None:
        """Log the bundle as a text-in model and register it as `Config.alias`."""
        self._call("register the bundle", lambda: _register(bundle_dir, self._config))

    def _call(self, what: str, action: Callable[[], object], *, always: bool = False) -> None:
        """Run one MLflow call; the first failure ends tracking, never training."""
        if not (self._alive or always):
            return
        try:
            action()
        except Exception as error:  # whatever MLflow raises must not end a training run
            self._alive = False
            log.warning("cannot %s in MLflow (%s); going on without", what, str(error)[:300])


def settings(config: Config) -> dict[str, object]:
    """Return what a comparison of two runs should show: what a model may depend on."""
    return {key: value for key, value in asdict(config).items() if key not in BOOKKEEPING}


def _is_known(run_id: str) -> bool:
    """Return whether the server has the run; the UI would hide what hangs below another."""
    try:
        mlflow.MlflowClient().get_run(run_id)
    except MlflowException:
        return False
    return True


def register_bundle(bundle_dir: Path, config: Config) -> str:
    """Register a bundle in a run of its own and return the number of its version.

    Raises:
        RegistryError: MLflow does not answer or refuses.
    """
    try:
        check_reachable(config.tracking_uri)
        mlflow.set_tracking_uri(config.tracking_uri)
        mlflow.set_experiment(config.experiment)
        with mlflow.start_run(run_name=f"{config.run_name}, registered later"):
            return _register(bundle_dir, config)
    except Exception as error:  # MLflow and its stores raise errors of many kinds
        raise RegistryError(f"cannot register {bundle_dir}: {str(error)[:300]}") from error


def _register(bundle_dir: Path, config: Config) -> str:
    """Upload, then create the version with its tag in one call, then move the alias."""
    info = mlflow.pyfunc.log_model(
        name="bundle",
        python_model=str(Path(__file__).with_name("pyfunc_model.py")),
        artifacts={"bundle": str(bundle_dir)},
        code_paths=[str(Path(__file__).parents[1] / "deesc_model")],
        signature=SIGNATURE,
        input_example={"text": ["Third call today, and still nobody can tell me why."]},
        pip_requirements=["numpy", "onnxruntime", "tokenizers", "pandas"],
    )
    model_version = read_bundle(bundle_dir).manifest.model_version
    tags = {MODEL_VERSION_TAG: model_version}
    registered = mlflow.register_model(info.model_uri, config.registered_model, tags=tags)
    version = str(registered.version)
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(config.registered_model, config.alias, version)
    return version

"""Draw docs/mlflow-*.png: MLflow's pages of small runs that this script trains itself.

python -m docs.make_mlflow_pictures                    some minutes on two cores
python -m docs.make_mlflow_pictures --keep FOLDER      keep runs and server's files, and use them
"""

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from training.config import Config, read_config
from training.gate import run_gate
from training.gates import read_gates
from training.seeds import train_seeds
from training.tracking import RUN_ID_FILE
from training.train import train

CHROMIUM = "/usr/bin/chromium"
PICTURES = Path(__file__).parent
PORT = 5055
"""Always the same: runs that are kept name it in their settings."""
SIZE = {"width": 1280, "height": 800}
SMALL = ("max_conversations=40", "epochs=3", "bootstrap_samples=200")
"""Enough for figures that differ; what a whole run gives is in the model card."""

HIDDEN = ("Dataset", "Source", "Models")
SHOWN = ("test/level_macro_f1", "test_seeds/level_macro_f1_mean", "test_seeds/level_macro_f1_std")
"""Columns of the list of runs."""

PREFERENCES = """
localStorage.setItem('mlflow.workflowType_v1', '"machine_learning"');
localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false');
localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');
"""
"""The UI opens as a browser shows it in which the assistant was closed."""


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Run a server on loopback and give its address."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(PORT)]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}", "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{PORT}"
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health"):  # noqa: S310
                break
            time.sleep(0.5)
        else:
            raise TimeoutError(f"MLflow does not answer; see {folder / 'server.log'}")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def make_runs(config: Config) -> tuple[str, str]:
    """Train, compare, and train again with two seeds; return the ids of the first two runs."""
    folder = Path(config.run_dir)
    first = replace(config, run_name="fewer epochs", epochs=1, run_dir=str(folder / "first"))
    first = replace(first, bundle_dir=str(folder / "first" / "bundle"))
    second = replace(config, run_name="more epochs", run_dir=str(folder / "second"))
    second = replace(second, bundle_dir=str(folder / "second" / "bundle"))
    for run in (first, second):
        if not (Path(run.run_dir) / "report" / "report.html").is_file():
            train(run, resume=True)
    if not (Path(second.run_dir) / "gate" / "report.html").is_file():
        run_gate(Path(second.bundle_dir), read_gates(), second, Path(first.bundle_dir))
    train_seeds(replace(config, run_name="more epochs"), 2, resume=True)
    first_id, second_id = (
        (Path(run.run_dir) / RUN_ID_FILE).read_text(encoding="utf-8") for run in (first, second)
    )
    return first_id, second_id


def draw(page: Page, address: str, first: str, second: str) -> None:
    """Take the pictures."""
    page.goto(f"{address}/#/experiments/1/runs/{second}/artifacts/report/report.html")
    page.frame_locator("iframe").get_by_role("heading", level=1).wait_for()
    _save(page, "report")
    chosen = f"runs=%5B%22{first}%22,%22{second}%22%5D&experiments=%5B%221%22%5D"
    page.goto(f"{address}/#/compare-runs?{chosen}")
    for name in ("Visualizations", "Run details"):
        page.get_by_role("button", name=name).click()
    for switch in page.get_by_role("switch").all()[-3:-1]:
        switch.click()
    _save(page, "compare")
    page.goto(f"{address}/#/experiments/1/runs")
    page.get_by_role("button", name="Columns").click()
    for name in (*HIDDEN, *SHOWN):
        page.get_by_placeholder("Search columns").fill(name)
        found = page.locator("[class*=tree-treenode]").filter(has_text=re.compile(f"^{name}$"))
        found.locator("[class*=tree-checkbox]").first.click()
    page.keyboard.press("Escape")
    page.locator(".ag-cell").get_by_role("button").first.click()
    _save(page, "seeds")


def _save(page: Page, name: str) -> None:
    page.wait_for_timeout(3000)  # MLflow fades in what it has loaded
    page.screenshot(path=PICTURES / f"mlflow-{name}.png")


def main() -> None:
    """Make the runs, then the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    keep = parser.parse_args().keep
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        address = stack.enter_context(mlflow_server(folder.resolve()))
        config = read_config(Path("training/configs/smoke.toml"), SMALL)
        config = replace(config, tracking_uri=address, run_dir=str(folder / "runs"))
        first, second = make_runs(config)
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        context = browser.new_context(viewport=SIZE)
        context.add_init_script(PREFERENCES)
        page = context.new_page()
        page.set_default_timeout(120_000)
        draw(page, address, first, second)
        browser.close()


if __name__ == "__main__":
    main()

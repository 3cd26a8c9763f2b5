"""Compare the shipped model with what one would use instead, on this machine.

    python -m benchmarks                      # everything, into benchmarks/
    python -m benchmarks --out DIR            # the same, into another folder
    python -m benchmarks --quick              # in seconds, printed only; figures mean little
    python -m benchmarks --only deesc,tfidf --parts comparison

Linux only: memory is read from /proc. Leave the machine alone meanwhile.
"""

import argparse
import datetime
import json
import logging
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks import overhead, roofline, scaling
from benchmarks.comparison import Plan, Race
from benchmarks.contenders import CONTENDERS, OURS, Settings, Text
from benchmarks.goals import goals
from benchmarks.machine import machine
from benchmarks.plots import draw
from benchmarks.processes import ROOT, Worker
from benchmarks.report import section_of
from benchmarks.section import write_section
from benchmarks.setup import set_up
from benchmarks.texts import mixed, short_turn, texts_of
from deesc_model.bundle import default_bundle_path, read_bundle
from training.corpus import load_corpus, select_split

PARTS: Final = ("comparison", "overhead", "roofline", "scaling")

QUICK: Final = Plan(2, singles=6, shorts=4, batch=16, cold_starts=1, patience_s=600)
QUICK_SCALING: Final = scaling.ScalingPlan(
    batch_sizes=(1, 8),
    words=(4, 32),
    memory_texts=(1, 10),
    memory_words=(10, 100),
    texts=16,
    repeats=1,
    seconds=0.1,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; if there is a folder, write figures, plots and its README's section."""
    options = _options(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with tempfile.TemporaryDirectory() as folder:
        figures = _measure(options, Path(folder))
    if options.out is None:
        print(section_of(figures))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(figures, indent=1) + "\n"
    (options.out / "figures.json").write_text(text, encoding="utf-8")
    plots = [path.relative_to(options.out) for path in draw(figures, options.out / "plots")]
    section = section_of(figures, plots)
    print(section)
    if (document := options.out / "README.md").is_file():
        write_section(document, "make bench", section)


def _measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    folders = {
        "default": options.bundle,
        "fast": options.fast,
        "medium": options.medium,
        "large": options.large,
    }
    if options.run:
        folders["default"] = options.run / "bundle"
    bundles = {name: read_bundle(path) for name, path in folders.items()}
    for bundle in bundles.values():
        if (head := bundle.config.calibration.level_head) != "softmax":
            raise SystemExit(f"the others read levels of a softmax head, {bundle.path} has {head}")
    bundle = bundles["default"]
    checkpoint = options.run / "checkpoint" if options.run else None
    rows = load_corpus(ROOT / "data" / "corpus")
    test = mixed(select_split(rows, "test", 0))
    train = select_split(rows, "train", 0)
    if options.quick:
        test, train = test[:48], train[:600]
    texts, (short,) = texts_of(test, bundle), texts_of([short_turn()], bundle)
    names = options.only if "comparison" in options.parts else ()
    settings = set_up(folder, bundles, checkpoint, train, names)
    figures: dict[str, Any] = {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "quick": options.quick,
        "model_versions": {name: each.manifest.model_version for name, each in bundles.items()},
        "weights": "the checkpoint" if checkpoint else "the int8 weights multiplied out",
        "machine": machine(),
    }
    if "comparison" in options.parts:
        race = Race(settings, QUICK if options.quick else Plan(), test, texts, short)
        race.run(names)
        figures["contenders"] = race.figures()
        if found := goals(figures["contenders"]):
            figures["goals"] = found
    if "overhead" in options.parts:
        figures["overhead"] = {
            name: _overhead(settings, name, texts, short, quick=options.quick)
            for name in ("default", "fast")
        }
    if "roofline" in options.parts:
        size, repeats = (256, 1) if options.quick else (2048, 5)
        figures["roofline"] = roofline.measure(bundle.path, size=size, repeats=repeats)
    if "scaling" in options.parts:
        plan = QUICK_SCALING if options.quick else scaling.ScalingPlan()
        figures["scaling"] = scaling.measure(settings, texts, plan)
    return figures


def _overhead(
    settings: Settings, bundle: str, texts: Sequence[Text], short: Text, *, quick: bool
) -> dict[str, Any]:
    calls, batches = (6, 2) if quick else (300, 9)
    found: dict[str, Any] = {}
    log = settings.folder / "overhead.log"
    with Worker("benchmarks.overhead", str(settings.folder), bundle, log=log) as worker:
        for name, chosen in (("27 words", [short] * 32), ("mix", texts[:256])):
            worker.ask("keep", [asdict(each) for each in chosen])
            worker.ask("batch_ms", 1)
            one, many = worker.ask("one_ms", calls), worker.ask("batch_ms", batches)
            found[name] = overhead.summary(one, many)
        found["stages_us"] = worker.ask("stages_us", calls)
    return found


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Compare the model with what one uses instead."
    )
    parser.add_argument("--bundle", type=Path, default=default_bundle_path())
    parser.add_argument("--fast", type=Path, default=ROOT / "models" / "fast")
    parser.add_argument("--medium", type=Path, default=ROOT / "models" / "medium")
    parser.add_argument("--large", type=Path, default=ROOT / "models" / "large")
    parser.add_argument(
        "--run", type=Path, help="a run folder: its bundle as --bundle, and its checkpoint"
    )
    parser.add_argument("--only", type=_names(CONTENDERS), default=[*CONTENDERS])
    parser.add_argument("--parts", type=_names(PARTS), default=[*PARTS])
    parser.add_argument("--quick", action="store_true", help="seconds; figures mean little")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for figures.json, plots and its README's section; without any option it is"
        " benchmarks/, else they are only printed",
    )
    options = parser.parse_args(arguments)
    if options == parser.parse_args([]):  # a part would replace the figures of the whole
        options.out = Path(__file__).parent
    if OURS not in options.only:
        options.only.insert(0, OURS)  # the ratios are to it
    return options


def _names(known: Collection[str]) -> Any:
    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := sorted(set(names) - set(known)):
            raise argparse.ArgumentTypeError(
                f"unknown {', '.join(unknown)}; there are {', '.join(known)}"
            )
        return names

    return read


if __name__ == "__main__":
    main()

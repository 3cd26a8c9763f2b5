"""The page of one training run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from deesc_model.report.markup import escaped, table
from training.config import Config, is_ours
from training.dataset import DataVersion
from training.descriptions import PROBED
from training.errors import ErrorTable
from training.evaluation import data_sets
from training.figures.picture import Picture
from training.pages.parts import (
    DATA_SETS,
    Section,
    data_table,
    document,
    errors,
    facts,
    figure,
    headline,
    shares_in_words,
)
from training.report_tables import has_intervals, interval_words

BASELINE = "TF-IDF baseline"


def run_page(
    report: Mapping[str, Any],
    pictures: Mapping[str, Sequence[Picture]],
    worst: ErrorTable,
    origin: Mapping[str, str],
    data: Iterable[DataVersion],
    config: Config,
) -> str:
    """Return one HTML page that needs no other file and asks nobody for anything.

    Args:
        report: What `training.evaluation.evaluate` returned for the test split.
        pictures: By data set, ``"corpus"`` and perhaps ``"public"``, what was drawn of it.
        worst: What `training.errors.worst_errors` returned.
        origin: Facts about the model: base model, commit, fingerprint and the like.
        data: What each split held.
        config: What the run was told.
    """
    sections: list[Section] = []
    for name, part in data_sets(report).items():
        measured = (
            f"{part['rows']:,} test utterances of {part['conversations']:,} conversations;"
            f" {interval_words(part)}"
        )
        if has_intervals(part):
            measured += ": so far the figure would move with other conversations of the same kind"
        found = [
            f"<p>{measured}.</p>",
            shares_in_words(part, BASELINE),
            headline(part, ("model", BASELINE), f"The model beside the {BASELINE}"),
            *(figure(picture, f"{name}-{picture.name}") for picture in pictures[name]),
            _too_small(part),
        ]
        sections.append((name, DATA_SETS[name], found))
    sections += [
        ("robustness", "Robustness", [_robustness(report["robustness"])]),
        ("errors", "Worst errors", [_errors(worst)]),
        ("data", "Data", [data_table(data)]),
        ("origin", "Model and settings", [facts("The model", origin), _settings(config)]),
    ]
    intro = (
        f"{escaped(origin['model_version'])}, trained by the run “{escaped(config.run_name)}”."
        " Figures are of test texts that training never saw."
        + (
            " All labels, the true ones too, are by language-model readers."
            if is_ours(config.corpus)
            else ""
        )
    )
    return document(f"How good is {config.name}?", intro, sections)


def _too_small(part: Mapping[str, Any]) -> str:
    small = ", ".join(
        f"{escaped(name).replace('=', ' ')} ({rows})" for name, rows in part["small_slices"].items()
    )
    return f'<p class="quiet">Too few utterances for a figure: {small}.</p>' if small else ""


def _robustness(found: Mapping[str, Any]) -> str:
    rows = [
        f'<tr><th scope="row">{name}'
        f'<span class="words">fails if {escaped(PROBED[name])}</span></th>'
        f"<td>{result['rows']:,}</td><td>{_failures(result)}</td></tr>"
        for name, result in found.items()
    ]
    caption = "Texts were changed in ways that should not matter, or should matter one way only"
    return table(caption, ("change", "texts", "failures"), rows)


def _failures(result: Mapping[str, Any]) -> str:
    return f"{100 * result['failures']:.1f} %" if result["rows"] else "–"


def _errors(worst: ErrorTable) -> str:
    advice = "<p>Read twenty before you trust an average.</p>" if worst["text"] else ""
    return advice + errors(
        worst,
        "Utterances whose level was missed, worst first; the score is the mean of the levels,"
        " weighted by how likely the model finds each",
    )


def _settings(config: Config) -> str:
    defaults = asdict(Config())
    rows = [
        f'<tr><th scope="row">{name}</th><td>{escaped(value)}</td>'
        f"<td>{'' if value == defaults[name] else escaped(defaults[name])}</td></tr>"
        for name, value in asdict(config).items()
    ]
    shown = table("Settings of the run", ("key", "value", "default, where it differs"), rows)
    return f"<details><summary>Settings</summary>{shown}</details>"

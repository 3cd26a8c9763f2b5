"""The figures of the model beside others, as a section of a document."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import OURS
from benchmarks.section import goal_rows, machine_line

Figures = Mapping[str, Any]


def section_of(figures: Figures, plots: Sequence[Path] = ()) -> str:
    """Return the section: machine, tables, plots.

    Args:
        figures: As `benchmarks.__main__` writes them.
        plots: Relative to the document.
    """
    versions = ", ".join(f"{name} {each}" for name, each in figures["model_versions"].items())
    lines = [
        f"{machine_line(figures['machine'])}."
        f" {figures['date']}; {versions}. Others run the default's network"
        f" or, where it says so, the medium one, {figures['weights']}."
    ]
    builders = (
        ("contenders", _contenders),
        ("goals", _goals),
        ("overhead", _overhead),
        ("roofline", _roofline),
        ("scaling", _scaling),
    )
    for part, build in builders:
        if part in figures:
            lines += ["", *build(figures[part])]
        # A plot stands under the part that it shows.
        shown = {"contenders": ("comparison",), "roofline": ("roofline",)}
        names = ("scaling", "memory") if part == "scaling" else shown.get(part, ())
        lines += [
            line
            for path in plots
            if path.stem in names
            for line in ("", f"![{path.stem}]({path.as_posix()})")
        ]
    return "\n".join(lines)


def _contenders(contenders: Figures) -> list[str]:
    rows = [
        "| | level macro-F1 | QWK | 27 words p50 (p99) ms | mix p50 (p99) ms | mix, per second |"
        " first answer s | peak MiB | installed MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    skipped = []
    for name, each in contenders.items():
        if "skipped" in each:
            skipped.append(f"- {each['title']}: {each['skipped']}")
            continue
        cells = [
            f"**{each['title']}**" if name == OURS else each["title"],
            _shown(each, "level_macro_f1", 3),
            _shown(each, "level_qwk", 3),
            f"{_with_ratio(each, 'short_p50_ms')} ({each['short_p99_ms']:.2f})",
            f"{_with_ratio(each, 'one_p50_ms')} ({each['one_p99_ms']:.2f})",
            _with_ratio(each, "per_s", 0),
            _with_ratio(each, "cold_s"),
            f"{each['peak_mb']:,.0f}",
            f"{each['installed_mb']:,.0f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    rows += [
        "",
        "× is the median ratio to ours in the same turn. More is better only for macro-F1, QWK"
        " and per second.",
    ]
    return [*rows, *(["", "Not measured:", "", *skipped] if skipped else [])]


def _goals(goals: Sequence[Figures]) -> list[str]:
    return goal_rows(goals[0]["who"], goals)


def _shown(each: Figures, key: str, digits: int) -> str:
    return f"{each[key]:.{digits}f}" if key in each else "too slow"


def _with_ratio(each: Figures, key: str, digits: int = 2) -> str:
    return f"{each[key]:,.{digits}f} ×{each['ratio'][key]:.2f}"


def _overhead(overhead: Figures) -> list[str]:
    rows = [
        "| bundle | texts | `predict` ms | tokenizer + session ms | added ms |"
        " `predict_batch` adds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for bundle, figures in overhead.items():
        for name, each in figures.items():
            if name != "stages_us":
                rows.append(
                    f"| {bundle} | {name} | {each['predict_ms']:.2f} | {each['plain_ms']:.2f} |"
                    f" {each['added_ms']:.3f} (at most {each['added_ms_bar']}"
                    f"{_missed(each, 'added_ms')}) |"
                    f" {each['batch_added_percent']:.1f} % (at most"
                    f" {each['batch_added_percent_bar']:.0f} %"
                    f"{_missed(each, 'batch_added_percent')}) |"
                )
    for bundle, figures in overhead.items():
        stages = ", ".join(f"{name} {value:.0f}" for name, value in figures["stages_us"].items())
        rows += ["", f"Microseconds of `predict` outside of the network, {bundle}: {stages}."]
    return rows


def _missed(each: Figures, key: str) -> str:
    return ", **missed**" if each[key] > each[f"{key}_bar"] else ""


def _roofline(roofline: Figures) -> list[str]:
    kinds = list(roofline["matrix_gops"])
    head = ["texts × tokens", "1e9 operations/s", *(f"of {kind}" for kind in kinds)]
    rows = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for each in roofline["points"]:
        shares = [f"{each[f'share_of_{kind}']:.0%}" for kind in kinds]
        cells = [f"{each['batch']} × {each['tokens']}", f"{each['gops']:,.0f}", *shares]
        rows.append(f"| {' | '.join(cells)} |")
    rates = ", ".join(
        f"{kind} {rate:,.0f} ({roofline['engine'][kind]})"
        for kind, rate in roofline["matrix_gops"].items()
    )
    return [
        *rows,
        "",
        f"Measured with large matrices on {roofline['threads']} threads, in 1e9 operations a"
        f" second: {rates}.",
    ]


def _scaling(scaling: Figures) -> list[str]:
    best = max(scaling["batch"], key=lambda each: each["per_s"])
    one, *_, most = [*scaling["threads"], scaling["threads"][-1]]
    return [
        f"The best batch size is {best['batch_size']:.0f}, with {best['per_s']:,.0f} utterances a"
        f" second. {most['threads']:.0f} threads give {most['per_s'] / one['per_s']:.2f} times"
        " the throughput of one."
    ]

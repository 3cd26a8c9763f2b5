"""The plots: who is how good at what speed, the roofline, and how ours scales."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.contenders import OURS

mpl.use("Agg")

BLUE, GREY, ORANGE = "#1f5fa8", "#8a8a8a", "#d9730d"

Figures = Mapping[str, Any]


def draw(figures: Figures, folder: Path) -> list[Path]:
    """Write a PNG for each part that was measured.

    Args:
        figures: As `benchmarks.__main__` writes them.
        folder: Where to write; made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, tuple[str, Callable[[Any], Figure]]] = {
        "comparison": ("contenders", _comparison),
        "roofline": ("roofline", _roofline),
        "scaling": ("scaling", _scaling),
        "memory": ("scaling", _memory),
    }
    paths = []
    for name, (part, plot) in parts.items():
        if part in figures:
            figure = plot(figures[part])
            path = folder / f"{name}.png"
            figure.savefig(path, dpi=110)
            plt.close(figure)
            paths.append(path)
    return paths


def _comparison(contenders: Figures) -> Figure:
    """Quality against throughput and latency: up and to the right is better."""
    shown = [(name, each) for name, each in contenders.items() if "level_macro_f1" in each]
    figure, panels = plt.subplots(1, 2, figsize=(11, 5.2), sharey=True, layout="constrained")
    measures = (
        ("per_s", "utterances a second, many in one call"),
        ("short_p50_ms", "milliseconds for one text of 27 words (fast is right)"),
    )
    for axes, (key, label) in zip(panels, measures, strict=True):
        for number, (name, each) in enumerate(shown, start=1):
            colour = ORANGE if name.startswith(OURS) else BLUE
            x, y = each[key], each["level_macro_f1"]
            axes.plot(x, y, "o", color=colour, markersize=8, label=f"{number}  {each['title']}")
            # Several have nearly the same weights, so their labels would lie on each other.
            place = (0, 9 if number % 2 else -17)
            axes.annotate(str(number), (x, y), place, textcoords="offset points", ha="center")
        axes.set(xlabel=label, xscale="log")
        axes.grid(alpha=0.3, which="both")
        axes.margins(x=0.12, y=0.2)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    panels[1].invert_xaxis()
    panels[0].set_ylabel("level macro-F1 on the test turns")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    figure.suptitle("Quality against speed (up and to the right is better)", fontsize=11)
    return figure


def _roofline(roofline: Figures) -> Figure:
    figure, axes = plt.subplots(figsize=(9.6, 5.2), layout="constrained")
    points = roofline["points"]
    low = min(each["operations_per_byte"] for each in points) / 30
    high = max(each["operations_per_byte"] for each in points) * 12
    bandwidth = roofline["copy_gb_per_s"]
    colours = {"int8": ORANGE, "bf16": GREY, "fp32": BLUE}
    for kind, rate in roofline["matrix_gops"].items():
        knee = rate / bandwidth
        label = f"{kind}: {rate:,.0f} ({roofline['engine'][kind]})"
        axes.plot([knee, high], [rate, rate], color=colours[kind], label=label)
    top = max(roofline["matrix_gops"].values())
    copied = f"memory: {bandwidth:.0f} GB/s"
    axes.plot([low, top / bandwidth], [low * bandwidth, top], "--", color="black", label=copied)
    for number, each in enumerate(points, start=1):
        place = (each["operations_per_byte"], each["gops"])
        name = f"{number}: {each['batch']} × {each['tokens']} tokens, {each['gops']:,.0f}"
        axes.plot(*place, "o", color=BLUE, markersize=7, label=name)
        aside = (0, 8 if number % 2 else -16)  # two shapes of one size lie on each other
        axes.annotate(str(number), place, aside, textcoords="offset points", ha="center")
    axes.set(xscale="log", yscale="log", xlim=(low, high))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="operations for each byte of weights", ylabel="1e9 operations a second")
    axes.set_title(f"Roofline of the shipped network on {roofline['threads']} threads", fontsize=11)
    figure.legend(loc="outside right upper", fontsize=9)
    axes.grid(alpha=0.3, which="both")
    return figure


def _scaling(scaling: Figures) -> Figure:
    figure, panels = plt.subplots(2, 2, figsize=(10.5, 7.6), layout="constrained")
    (batch, length), (threads, processes) = panels
    _line(batch, scaling["batch"], "batch_size", {"per_s": "batches of the mix"})
    _labels(batch, "Batch size", "most texts in a pass", "utterances a second")
    _line(length, scaling["length"], "words", {"ms": "one text"})
    _labels(length, "Length", "words in the text", "milliseconds")
    length.set_yscale("log")
    _line(
        threads,
        scaling["threads"],
        "threads",
        {"per_s": "many in one call", "one_per_s": "one a call"},
    )
    _labels(threads, "Threads of a pass", "threads", "utterances a second")
    _line(
        processes,
        scaling["processes"],
        "count",
        {
            "processes_per_s": "processes with a classifier each",
            "callers_per_s": "callers that share a classifier",
        },
    )
    _labels(
        processes, "Side by side, one thread a pass", "processes or callers", "utterances a second"
    )
    for axes in (batch, length):
        axes.set_xscale("log")
    for axes in (batch, threads, processes):
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    _ticks(batch, [each["batch_size"] for each in scaling["batch"]])
    _ticks(length, [each["words"] for each in scaling["length"]])
    _ticks(threads, [each["threads"] for each in scaling["threads"]])
    _ticks(processes, [each["count"] for each in scaling["processes"]])
    figure.suptitle("How the shipped bundle scales on this machine", fontsize=11)
    return figure


def _memory(scaling: Figures) -> Figure:
    figure, panels = plt.subplots(1, 2, figsize=(10.5, 4.2), sharey=True, layout="constrained")
    kinds = (("texts", "Many texts in one call", "texts"), ("words", "One long text", "words"))
    for axes, (key, title, label) in zip(panels, kinds, strict=True):
        points = scaling[f"memory_{key}"]
        _line(axes, points, key, {"peak_mb": "peak"})
        _labels(axes, title, label, "peak memory of the process (MiB)")
        axes.set(xscale="log", ylim=(0, 1.1 * axes.get_ylim()[1]))
        _ticks(axes, [each[key] for each in points])
    panels[1].set_ylabel("")
    figure.suptitle("Memory against the size of the input", fontsize=11)
    return figure


def _line(axes: Axes, points: Sequence[Figures], x: str, ys: Mapping[str, str]) -> None:
    for (key, label), colour in zip(ys.items(), (BLUE, ORANGE), strict=False):
        values = [each[key] for each in points]
        axes.plot([each[x] for each in points], values, "o-", color=colour, label=label)
    if len(ys) > 1:
        axes.legend(fontsize=9, loc="lower right")


def _labels(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)


def _ticks(axes: Axes, values: Sequence[float]) -> None:
    axes.set_xticks(values, [f"{value:,.0f}" for value in values], fontsize=8)
    axes.xaxis.set_minor_locator(NullLocator())

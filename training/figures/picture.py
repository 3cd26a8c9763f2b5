"""A picture with its title, how to read it, and the same in numbers; as PNG and as inline SVG."""

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from deesc_model.report.markup import escaped

mpl.use("Agg")

INK, BLUE, GREY, ORANGE, RULE = "#1a1d21", "#1f5fa8", "#6b7178", "#b85a00", "#c9ced6"
"""Text and axes, the model, what it is compared with, marks, grid."""

THEMED = {
    INK: "var(--ink)",
    BLUE: "var(--link)",
    GREY: "var(--quiet)",
    ORANGE: "var(--level-2)",
    RULE: "var(--rule)",
}
"""Colours of `deesc_model.report` that take their place on a page, in light and dark."""

STYLE = {
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
    ),
    "grid.color": RULE,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
    "svg.fonttype": "none",  # text stays text: it can be searched, and scales with the page
    "svg.hashsalt": "deesc",  # the same picture, the same bytes
}


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure of a report.

    Attributes:
        name: File name without its ending.
        title: What is shown.
        reading: How to read it, in plain words.
        figure: What is drawn.
        columns: Heads of the table that says the same in numbers.
        rows: Its rows; the first cell names the row.
    """

    name: str
    title: str
    reading: str
    figure: Figure
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@contextmanager
def drawing() -> Iterator[None]:
    """Give everything drawn inside the house style."""
    with mpl.rc_context(STYLE):
        yield


def save_pictures(pictures: Iterable[Picture], folder: Path, rows: str) -> list[Path]:
    """Write one PNG file for each picture.

    Args:
        pictures: What to write.
        folder: Where; made if missing.
        rows: What the pictures are of, for example ``"corpus, test split, 812 utterances"``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for picture in pictures:
        path = folder / f"{picture.name}.png"
        picture.figure.suptitle(f"{picture.title}\n{rows}", fontsize=11)
        picture.figure.savefig(path, dpi=110)
        paths.append(path)
    return paths


def close_pictures(pictures: Iterable[Picture]) -> None:
    """Free the memory of what was drawn."""
    for picture in pictures:
        plt.close(picture.figure)


def to_svg(picture: Picture, place: str) -> str:
    """Return an SVG element for a page, in the page's colours; the page has the title.

    Args:
        picture: What to draw.
        place: Distinguishes ids from those of other pictures on the page.
    """
    buffer = io.StringIO()
    picture.figure.suptitle("")
    with drawing():
        picture.figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    svg = buffer.getvalue()
    # A policy without inline style sheets would block the first; the second names web addresses.
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<g) id="[^"]*"', r"\1", svg)
    svg = re.sub(r'id="([^"]+)"', rf'id="{place}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{place}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{place}-\1)", svg)
    for colour, variable in THEMED.items():
        svg = svg.replace(colour, variable)
    box = re.search(r'viewBox="([^"]+)"', svg)
    inner = svg[svg.index(">", svg.index("<svg")) + 1 :]
    title = f'<title id="{place}-title">{escaped(picture.title)}</title>'
    width = float(box[1].split()[2])
    return (
        f'<svg viewBox="{box[1]}" style="max-width: {1.25 * width:.0f}px" role="img"'
        f' aria-labelledby="{place}-title">{title}{inner}'
    )

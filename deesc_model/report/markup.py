"""HTML of the small things that every part of the page shows; texts go through `escaped`."""

import html
import re
from collections.abc import Iterable, Mapping
from typing import Final

from deesc_model.report.followed import FollowedTurn

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def escaped(text: object) -> str:
    """Return a text as HTML shows it; what HTML cannot hold becomes a replacement character."""
    sound = str(text).encode("utf-8", "replace").decode("utf-8")
    return html.escape(_CONTROL.sub("�", sound))


def marked(text: str, marks: Mapping[tuple[int, int], str]) -> str:
    """Return a text as HTML with some of its words marked.

    Args:
        text: The text.
        marks: For each span, which overlaps no other, the attributes of its mark as HTML: empty,
            or with a blank before each.
    """
    parts, at = [], 0
    for (start, end), attributes in sorted(marks.items()):
        parts += [escaped(text[at:start]), f"<mark{attributes}>{escaped(text[start:end])}</mark>"]
        at = end
    return "".join([*parts, escaped(text[at:])])


def label(name: str) -> str:
    """Return a trigger, a signal or the like in plain words."""
    return escaped(name.replace("_", " "))


def level(turn: FollowedTurn) -> str:
    """Return the level of a turn in words, with “?” if it is doubtful."""
    found = turn.step.prediction.level
    doubt = "?" if turn.step.prediction.uncertain else ""
    return f'<span class="level level-{int(found)}">{int(found)} {found.label}{doubt}</span>'


def action(turn: FollowedTurn) -> str:
    """Return the action that is due after a turn, in words."""
    due = turn.step.decision.action
    return f'<span class="action action-{int(due)}">{due.label}</span>'


def table(caption: str, columns: Iterable[str], rows: Iterable[str]) -> str:
    """Return a table that scrolls by itself where the page is narrow; rows are HTML already."""
    heads = "".join(f'<th scope="col">{escaped(column)}</th>' for column in columns)
    return (
        f'<div class="scroll" role="region" aria-label="{escaped(caption)}" tabindex="0">'
        f"<table><caption>{escaped(caption)}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>\n{chr(10).join(rows)}\n</tbody></table></div>"
    )

"""What pages of runs and of the gate have in common."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deesc_model.labels import Level
from deesc_model.report.document import STYLE, html_document
from deesc_model.report.markup import escaped, label, table
from training.dataset import DataVersion
from training.descriptions import EVALUATED, Metric
from training.errors import ErrorTable
from training.evaluation import HEADLINE
from training.figures.picture import Picture, to_svg
from training.report_tables import has_intervals

_STYLE = STYLE + Path(__file__).with_name("style.css").read_text(encoding="utf-8")

DATA_SETS = {"corpus": "Our corpus", "public": "Real customers’ public texts"}
"""Data sets of an evaluation, as headings."""

LONGEST = 400
"""Characters of a text in a table; the rest of it opens with a click."""

Section = tuple[str, str, Sequence[str]]
"""Id, heading, and parts as HTML."""


def document(title: str, intro: str, sections: Iterable[Section]) -> str:
    """Return the page.

    Args:
        title: As text.
        intro: As HTML.
        sections: In the order of reading; one that has no parts is left out.
    """
    shown = [section for section in sections if section[2]]
    links = "".join(f'<li><a href="#{name}">{heading}</a></li>' for name, heading, _ in shown)
    body = [f'<nav aria-label="Sections"><ul>{links}</ul></nav>']
    for name, heading, parts in shown:
        opening = f'<section id="{name}" aria-labelledby="{name}-name">'
        body += [opening, f'<h2 id="{name}-name">{heading}</h2>', *parts, "</section>"]
    return html_document(
        title,
        intro,
        body,
        skip="Skip to the figures",
        style=_STYLE,
        # Pictures carry style attributes; nothing that they may say fetches anything.
        more_policy="style-src-attr 'unsafe-inline'",
    )


def shares_in_words(part: Mapping[str, Any], other: str) -> str:
    """Return sentences like “3.0 in 100 utterances …” as a list.

    Args:
        part: Figures of one data set, of the form that `training.evaluation.evaluate` returns.
        other: What stands in the baseline's place.
    """
    items = []
    for name, metric in EVALUATED.items():
        found, theirs = part["metrics"].get(name), part["baseline"].get(name)
        if metric.in_hundred and found:
            beside = [f"{other}: {_hundred(theirs['value'])}"] if theirs else []
            if has_intervals(part):
                beside.insert(0, f"{_hundred(found['low'])} to {_hundred(found['high'])}")
            brackets = f" ({'; '.join(beside)})" if beside else ""
            items.append(
                f"<li><strong>{_hundred(found['value'])} in 100</strong> {metric.in_hundred}"
                f"{brackets}.</li>"
            )
    return f"<ul>{''.join(items)}</ul>"


def headline(part: Mapping[str, Any], names: tuple[str, str], caption: str) -> str:
    """Return the headline figures of two models with what they say, as a table.

    Args:
        part: As for `shares_in_words`.
        names: What the two are called.
        caption: Says what was measured.
    """
    rows, interval = [], has_intervals(part)
    for name in HEADLINE:
        metric, difference = EVALUATED[name], part["difference"].get(name)
        cells = "".join(
            f"<td>{_figure(part[who].get(name), interval=interval)}</td>"
            for who in ("metrics", "baseline")
        )
        judged = judgement(difference, metric) if interval else "–"
        rows.append(
            f'<tr><th scope="row">{name}<span class="words">{escaped(metric.words)};'
            f" best {metric.best}</span></th>{cells}"
            f"<td>{_figure(difference, signed=True, interval=interval)}</td>"
            f"<td>{judged}</td></tr>"
        )
    return table(caption, ("figure", *names, "difference", f"{names[0]} is"), rows)


def judgement(difference: Mapping[str, float] | None, metric: Metric) -> str:
    """Return in a word which way a difference points, if its interval leaves out zero."""
    if difference is None:
        return "–"
    sign = 1 if metric.best == "1" else -1
    ends = sorted((sign * difference["low"], sign * difference["high"]))
    if ends[0] > 0:
        return '<span class="better">better</span>'
    if ends[1] < 0:
        return '<span class="worse">worse</span>'
    return "not clearly different"


def figure(picture: Picture, place: str) -> str:
    """Return a picture with how to read it and the same in numbers.

    Args:
        picture: What to show.
        place: An id that nothing else on the page has.
    """
    rows = [
        f'<tr><th scope="row">{escaped(row[0])}</th>'
        + "".join(f"<td>{escaped(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in picture.rows
    ]
    return (
        f"<h3>{escaped(picture.title)}</h3><figure>{to_svg(picture, place)}"
        f"<figcaption>{escaped(picture.reading)}</figcaption></figure>"
        f'<details><summary>The same in numbers<span class="hidden">: {escaped(picture.title)}'
        f"</span></summary>{table(picture.title, picture.columns, rows)}</details>"
    )


def errors(found: ErrorTable, caption: str) -> str:
    """Return utterances with true and given labels as a table, or a sentence if there are none."""
    if not found["text"]:
        return "<p>No level was missed.</p>"
    rows = []
    for row in zip(*found.values(), strict=True):
        cell = dict(zip(found, row, strict=True))
        before = f'<div class="quiet">before it: {_text(cell["before"])}</div>'
        strongest = f"{label(cell['top_trigger'])} {cell['top_trigger_score']:.2f}"
        rows.append(
            f'<tr><td class="text" dir="auto">{before if cell["before"] else ""}'
            f"<strong>{escaped(cell['speaker'])}:</strong> {_text(cell['text'])}</td>"
            f"<td>{_level(cell['level'])}</td><td>{_level(cell['predicted_level'])}</td>"
            f"<td>{cell['frustration']:.2f}</td>"
            f"<td>{', '.join(map(label, cell['triggers'].split())) or 'none'}</td>"
            f'<td>{strongest}</td><td class="where">{escaped(cell["turn"])}</td></tr>'
        )
    columns = ("utterance", "true level", "predicted", "score 0–4", "true triggers")
    return table(caption, (*columns, "strongest trigger", "where"), rows)


def data_table(data: Iterable[DataVersion]) -> str:
    """Return what each split held, with its fingerprint."""
    rows = [
        f'<tr><th scope="row">{escaped(each.split)}</th><td>{escaped(each.source)}</td>'
        f"<td>{each.rows:,}</td><td>{each.conversations:,}</td><td><code>{each.digest}</code></td></tr>"
        for each in data
    ]
    caption = "Runs with different fingerprints did not see the same texts"
    return table(caption, ("split", "source", "utterances", "conversations", "fingerprint"), rows)


def facts(caption: str, found: Mapping[str, object]) -> str:
    """Return names and values as a table."""
    rows = [
        f'<tr><th scope="row">{escaped(name)}</th><td>{escaped(value)}</td></tr>'
        for name, value in found.items()
    ]
    return table(caption, ("", "value"), rows)


def _figure(
    found: Mapping[str, float] | None, *, signed: bool = False, interval: bool = True
) -> str:
    if found is None:
        return "–"
    sign = "+" if signed else ""
    value, low, high = (f"{found[key]:{sign}.3f}" for key in ("value", "low", "high"))
    if not interval:
        return value
    return f'{value} <span class="interval">({low} to {high})</span>'


def _text(text: str) -> str:
    """Return a text, of a long one its beginning with the rest folded away."""
    if len(text) <= LONGEST:
        return escaped(text)
    space = text.rfind(" ", LONGEST // 2, LONGEST)
    end = LONGEST if space < 0 else space
    return (
        f"{escaped(text[:end])}<details><summary>… {len(text) - end:,} more characters</summary>"
        f"{escaped(text[end:])}</details>"
    )


def _hundred(share: float) -> str:
    return f"{100 * share:.1f}" if share < 0.0995 else f"{100 * share:.0f}"


def _level(level: int) -> str:
    return f'<span class="level level-{level}">{level} {Level(level).label}</span>'

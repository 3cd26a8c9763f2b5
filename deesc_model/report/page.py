"""The page: HTML around chart, summary and tables; every text from outside goes through `_e`."""

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from deesc_model.comparison import SentimentComparison, compare_sentiment
from deesc_model.labels import Level
from deesc_model.report.chart import frustration_chart
from deesc_model.report.handover import hand_over_summary
from deesc_model.report.labelled import (
    LabelledConversation,
    LabelledTurn,
    signals_of,
    triggers_of,
)

_FOLDER: Final = Path(__file__).parent
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def render_report(conversations: Sequence[LabelledConversation], title: str) -> str:
    """Return one HTML page that needs no other file and asks nobody for anything.

    Args:
        conversations: What to show, at least one; the page lists them by peak of frustration.
        title: Heading of the page, for example the name of the file.
    """
    ranked = sorted(conversations, key=_peak_frustration, reverse=True)
    versions = dict.fromkeys(
        prediction.model_version for item in ranked for prediction in item.predictions
    )
    style = (_FOLDER / "style.css").read_text(encoding="utf-8")
    script = (_FOLDER / "copy.js").read_text(encoding="utf-8")
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}"
    body = [_article(item, number) for number, item in enumerate(ranked, start=1)]
    if len(ranked) > 1:
        body.insert(0, _overview(ranked))
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_e(policy)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_e(title)} – deesc</title>",
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            '<a class="skip" href="#main">Skip to the conversations</a>',
            f"<header><h1>{_e(title)}</h1>",
            f'<p class="quiet">Labelled by {_e(", ".join(versions))}. Levels, triggers and signals'
            " are a model’s estimates: read what was said before acting on them.</p></header>",
            '<main id="main">',
            *body,
            "</main>",
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _overview(ranked: Sequence[LabelledConversation]) -> str:
    rows = []
    for number, item in enumerate(ranked, start=1):
        customer = item.said_by("customer")
        peak = _level(item.peak) if item.peak else "–"
        rows.append(
            f'<tr><th scope="row"><a href="#c{number}">{_e(item.conversation.conversation_id)}</a>'
            f'</th><td class="number">{len(item.turns)}</td><td>{peak}</td>'
            f"<td>{_level(customer[-1]) if customer else '–'}</td>"
            f"<td>{_names(triggers_of(customer))}</td><td>{_names(signals_of(customer))}</td></tr>"
        )
    return _table(
        f"{len(ranked):,} conversations, the most frustrated customer first",
        ("conversation", "turns", "highest", "last", "triggers", "signals"),
        rows,
    )


def _article(item: LabelledConversation, number: int) -> str:
    conversation = item.conversation
    facts = [
        *(f"{name}: {value}" for name, value in conversation.metadata.items()),
        *(f"left out: {kind} ({count})" for kind, count in conversation.left_out.items()),
    ]
    parts = [
        f'<article id="c{number}" aria-labelledby="c{number}-name">',
        f'<h2 id="c{number}-name">{_e(conversation.conversation_id)}</h2>',
        f'<p class="quiet">{_e(" · ".join(facts))}</p>' if facts else "",
        _figure(item, number) if item.peak else "",
        "<h3>To hand over</h3>",
        f'<pre id="c{number}-summary" dir="auto">{_e(hand_over_summary(item))}</pre>',
        f'<p><button type="button" data-copies="c{number}-summary">Copy the summary</button>'
        ' <span role="status"></span></p>',
        "<h3>Turn by turn</h3>",
        _turns(item, number),
    ]
    comparison = compare_sentiment(conversation.spoken, item.predictions)
    if comparison is not None:
        parts += ["<h3>Beside the vendor’s sentiment</h3>", _comparison(comparison)]
    return "\n".join([*filter(None, parts), "</article>"])


def _figure(item: LabelledConversation, number: int) -> str:
    return (
        f"<figure>{frustration_chart(item, f'c{number}-chart')}<figcaption>Frustration of the"
        " customer, turn by turn. Triangle: a signal of escalation. Square below: a trigger."
        " Diamond: wording of the agent that may set the customer off. The table below says the"
        " same.</figcaption></figure>"
    )


def _turns(item: LabelledConversation, number: int) -> str:
    vendor = any(turn.spoken.vendor_sentiment for turn in item.turns)
    rows = [
        f'<tr class="{turn.spoken.turn.speaker}" id="c{number}-t{turn.number}">'
        f'<th scope="row" class="number">{turn.number}</th><td>{turn.spoken.turn.speaker}</td>'
        f'<td class="text" dir="auto">{_e(turn.spoken.turn.text)}</td><td>{_level(turn)}</td>'
        f"<td>{_scored(turn)}</td>"
        + (f'<td class="vendor">{_e(turn.spoken.vendor_sentiment or "–")}</td>' if vendor else "")
        + "</tr>"
        for turn in item.turns
    ]
    columns = ("turn", "speaker", "said", "level", "triggers and signals")
    return _table(
        "Frustration is the expected level, 0 to 4; “?” marks a doubtful level",
        (*columns, "vendor") if vendor else columns,
        rows,
        "turns",
    )


def _comparison(comparison: SentimentComparison) -> str:
    rows = [
        f'<tr><th scope="row">{_e(name)}</th>'
        + "".join(f'<td class="number">{count}</td>' for count in counts)
        + "</tr>"
        for name, counts in comparison.counts.items()
    ]
    table = _table(
        "The customer’s turns: the vendor’s sentiment, and how many turns have which level",
        ("vendor", *(level.label for level in Level)),
        rows,
    )
    notes = [
        f"<p>{said}: turn {', '.join(map(str, turns))}.</p>"
        for turns, said in (
            (comparison.only_model, "Frustrated or worse, but not negative to the vendor"),
            (comparison.only_vendor, "Calm, but negative to the vendor"),
        )
        if turns
    ]
    return "\n".join([table, *notes])


def _table(caption: str, columns: Iterable[str], rows: Iterable[str], kind: str = "") -> str:
    """Return a table that scrolls by itself where the page is narrow; rows are HTML already."""
    heads = "".join(f'<th scope="col">{_e(column)}</th>' for column in columns)
    return (
        f'<div class="scroll" role="region" aria-label="{_e(caption)}" tabindex="0">'
        f'<table class="{kind}"><caption>{_e(caption)}</caption><thead><tr>{heads}</tr></thead>'
        f"<tbody>\n{chr(10).join(rows)}\n</tbody></table></div>"
    )


def _level(turn: LabelledTurn) -> str:
    level = turn.prediction.level
    doubt = "?" if turn.prediction.uncertain else ""
    return (
        f'<span class="level level-{int(level)}">{int(level)} {level.label}{doubt}</span>'
        f' <span class="quiet">{turn.prediction.frustration:.1f}</span>'
    )


def _scored(turn: LabelledTurn) -> str:
    prediction = turn.prediction
    entries = [
        f"<li>{_label(name)} {prediction.trigger_scores[name]:.2f}</li>"
        for name in prediction.triggers
    ] + [
        f'<li class="signal">▲ {_label(name)} {prediction.signal_scores[name]:.2f}</li>'
        for name in prediction.signals
    ]
    return f'<ul class="labels">{"".join(entries)}</ul>' if entries else ""


def _names(occurring: Mapping[str, Sequence[LabelledTurn]]) -> str:
    return ", ".join(_label(name) for name in occurring)


def _label(name: str) -> str:
    return _e(name.replace("_", " "))


def _peak_frustration(item: LabelledConversation) -> float:
    return item.peak.prediction.frustration if item.peak else 0.0


def _hash(source: str) -> str:
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _e(text: object) -> str:
    """Return a text as HTML shows it; what HTML cannot hold becomes a replacement character."""
    sound = str(text).encode("utf-8", "replace").decode("utf-8")
    return html.escape(_CONTROL.sub("�", sound))

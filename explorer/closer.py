"""One turn seen closely: every score, and the words behind the labels."""

from collections.abc import Mapping

from deesc_model import Level
from deesc_model.evidence import MOST_WORDS
from deesc_model.report.markup import escaped
from explorer.session import Session
from explorer.view import label_text, strongest


def closer_html(session: Session, turn: int) -> str:
    """Return all scores of a turn as tables, and its evidence in words."""
    prediction = session.predictions[turn]
    levels = {
        f"{int(level)} {level.label}": score
        for level, score in zip(Level, prediction.level_scores, strict=True)
    }
    return (
        f"<div class='deesc'>{_evidence(session, turn)}<div class='tables'>"
        + _table("Level", levels, f"{int(prediction.level)} {prediction.level.label}")
        + _table("Triggers", prediction.trigger_scores, *prediction.triggers)
        + _table("Signals", prediction.signal_scores, *prediction.signals)
        + f"</div><p class='quiet'>Labelled by {escaped(prediction.model_version)}.</p></div>"
    )


def _evidence(session: Session, turn: int) -> str:
    if session.turns[turn].speaker != "customer":
        return "<p class='quiet'>Words are found for the customer's turns only.</p>"
    if turn not in session.evidence:
        return f"<p class='quiet'>Too long to explain: more than {MOST_WORDS} words.</p>"
    if not session.evidence[turn]:
        return "<p class='quiet'>Calm, and without a label that words could speak for.</p>"
    lines = []
    for found in session.evidence[turn]:
        words = ", ".join(f"{escaped(w.text)} {w.effect:+.2f}" for w in strongest(found))
        lines.append(f"<li><b>{label_text(found.label)}</b>: {words or 'no single word'}</li>")
    return f"<p>Words that speak for it, by leaving each out:</p><ul>{''.join(lines)}</ul>"


def _table(caption: str, scores: Mapping[str, float], *given: str) -> str:
    rows = []
    for name, score in scores.items():
        kind = "given" if name in given else "other"
        cells = f"<th scope='row'>{label_text(name)}</th><td>{score:.2f}</td>"
        rows.append(f"<tr class='{kind}'>{cells}</tr>")
    return f"<table><caption>{caption}</caption><tbody>{''.join(rows)}</tbody></table>"

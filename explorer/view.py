"""The conversation as HTML: curve, then every turn; all text from outside is `escaped`."""

from collections.abc import Sequence
from typing import Final

from deesc_model import EscalationPolicy, Evidence, Step
from deesc_model.evidence import Word
from deesc_model.playbook import Advice, Remark
from deesc_model.report.chart import course_chart
from deesc_model.report.followed import FollowedConversation, FollowedTurn
from deesc_model.report.markup import escaped, marked
from deesc_model.risk import shipped_risk
from deesc_model.transcripts import Conversation, SpokenTurn
from explorer.session import Session

WORDS: Final = 5
"""The strongest words of a label that are marked."""

LEAST: Final = 0.05
"""Smallest effect that is shown; less is lost in rounding."""


def curve_html(session: Session, steps: Sequence[Step], policy: EscalationPolicy) -> str:
    """Return frustration, risk and action over the turns, or a hint as long as there are none."""
    if not steps:
        return _block("<p class='quiet'>The curve begins with the first turn.</p>")
    spoken = [SpokenTurn(turn, turn.speaker, None, {}) for turn in session.turns]
    turns = tuple(
        FollowedTurn(number, said, step)
        for number, (said, step) in enumerate(zip(spoken, steps, strict=True), start=1)
    )
    conversation = Conversation(session.name, tuple(spoken), {}, {})
    followed = FollowedConversation(conversation, turns, policy, shipped_risk().horizon)
    chart = course_chart(followed, "explorer-curve")
    return _block(
        f"<figure>{chart}<figcaption>Frustration of the customer by turn, then the risk, then the"
        " action. Triangle: a signal. Square: a trigger. Diamond: wording of the agent that may"
        " set the customer off. “!”: an alert.</figcaption></figure>"
    )


def turns_html(session: Session, steps: Sequence[Step]) -> str:
    """Return every turn with its labels, the risk, what is due and what is advised."""
    if not steps:
        return _block("<p class='quiet'>Read a transcript or type a turn to begin.</p>")
    items = [_turn(session, number, step) for number, step in enumerate(steps)]
    return _block(f"<ol class='turns' aria-label='Turns'>{''.join(items)}</ol>")


def message_html(message: str, problem: bool = False) -> str:
    """Return a message that screen readers speak when it comes."""
    kind = "problem" if problem else "note"
    role = "alert" if problem else "status"
    return _block(f"<p class='{kind}' role='{role}'>{escaped(message)}</p>" if message else "")


def level_html(step: Step) -> str:
    """Return the level as a number and a word, “?” where it is doubtful."""
    prediction = step.prediction
    doubt = "?" if prediction.uncertain else ""
    level = prediction.level
    return (
        f"<span class='level level-{int(level)}'>{int(level)} {level.label}{doubt}</span>"
        f" <span class='quiet'>{prediction.frustration:.1f}</span>"
    )


def marked_text(text: str, evidence: Sequence[Evidence]) -> str:
    """Return a text with the words marked that speak for one of its labels."""
    reasons: dict[tuple[int, int], list[str]] = {}
    for found in evidence:
        for word in strongest(found):
            said = f"{label_text(found.label)} {word.effect:+.2f}"
            reasons.setdefault((word.start, word.end), []).append(said)
    titles = {span: f" title='{escaped(', '.join(said))}'" for span, said in reasons.items()}
    return marked(text, titles)


def strongest(found: Evidence) -> list[Word]:
    """Return the words that speak for a label, if they say enough to be shown."""
    return [word for word in found.top(WORDS) if word.effect >= LEAST]


def policy_html(name: str, policy: EscalationPolicy) -> str:
    """Say which policy is in use, and from which risk it acts."""
    due = ", ".join(f"{act.label} from {risk:.2f}" for act, risk in policy.thresholds().items())
    return _block(f"<p class='quiet'>Policy in use: {escaped(name)} ({due})</p>")


def label_text(name: str) -> str:
    """Return a label as words."""
    return name.replace("_", " ")


def _turn(session: Session, number: int, step: Step) -> str:
    turn, decision, checked = step.turn, step.decision, session.checked.get(number)
    alert = " <strong class='alert'>alert</strong>" if decision.alert else ""
    seen = " <span class='checked'>✓ checked</span>" if checked else ""
    said = marked_text(turn.text, session.evidence.get(number, ()))
    risk = step.state.risk
    parts = [
        f"<li class='turn {turn.speaker}'><p class='head'><b>{number + 1} {turn.speaker}</b>"
        f" {level_html(step)} {_labels(step)}{seen}</p>",
        f"<p class='said' dir='auto'>{said}</p>",
        f"<p class='due'><span class='risk' style='--risk:{risk:.2f}' aria-hidden='true'></span>"
        f"risk {risk:.2f} · <b class='action-{int(decision.action)}'>{decision.action.label}</b>"
        f" <span class='quiet'>({escaped(decision.reason)})</span>{alert}</p>",
        *(_remark(remark) for remark in step.remarks),
        _advice(step.advice, last=number == len(session.turns) - 1),
        "</li>",
    ]
    return "".join(parts)


def _labels(step: Step) -> str:
    prediction = step.prediction
    triggers = [(name, prediction.trigger_scores[name]) for name in prediction.triggers]
    signals = [(name, prediction.signal_scores[name]) for name in prediction.signals]
    chips = [
        f"<span class='chip'>{label_text(name)} {score:.2f}</span>" for name, score in triggers
    ]
    chips += [
        f"<span class='chip signal'>▲ {label_text(name)} {score:.2f}</span>"
        for name, score in signals
    ]
    return " ".join(chips)


def _remark(remark: Remark) -> str:
    better = remark.technique
    return (
        f"<p class='remark'>This turn {escaped(remark.what)}."
        f" Better: <b>{escaped(better.name)}</b>: {escaped(better.does)}</p>"
    )


def _advice(advice: Advice, last: bool) -> str:
    if not advice.suggestions:
        return ""
    parts = []
    for suggestion in advice.suggestions:
        steps = [
            f"<li><b>{escaped(technique.name)}</b>: {escaped(technique.does)}"
            f" <span class='quiet'>{escaped(technique.why)}</span></li>"
            for technique in suggestion.techniques
        ]
        parts.append(
            f"<p><b>{label_text(suggestion.trigger)}</b></p><ul>{''.join(steps)}</ul>"
            f"{_listed('Say', suggestion.say)}{_listed('Avoid', suggestion.avoid)}"
        )
    parts.append(f"<p class='quiet'>{escaped(advice.channel)}</p>")
    parts.append(_listed("To hand over", advice.checklist))
    opened = " open" if last else ""
    return f"<details{opened}><summary>Suggestions</summary>{''.join(parts)}</details>"


def _listed(heading: str, texts: Sequence[str]) -> str:
    if not texts:
        return ""
    return f"<p>{heading}:</p><ul>{''.join(f'<li>{escaped(text)}</li>' for text in texts)}</ul>"


def _block(html: str) -> str:
    return f"<div class='deesc'>{html}</div>"

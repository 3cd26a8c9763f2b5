"""The turns as a list: what was said and why it is labelled so, alerts with advice, remarks."""

from deesc_model.evidence import FRUSTRATION
from deesc_model.playbook import ANY, Advice, Suggestion
from deesc_model.report.followed import FollowedConversation, FollowedTurn
from deesc_model.report.highlights import listed_words, marked_text
from deesc_model.report.markup import action, escaped, label, level


def turn_list(followed: FollowedConversation, article_id: str) -> str:
    """Return the list; the heading of each turn links to the turn, so that keys reach it.

    Args:
        followed: The conversation.
        article_id: What the ids of the turns begin with.
    """
    items = (_turn(turn, f"{article_id}-t{turn.number}") for turn in followed.turns)
    return f'<ol class="turns">\n{chr(10).join(items)}\n</ol>'


def _turn(turn: FollowedTurn, turn_id: str) -> str:
    speaker, name = turn.spoken.turn.speaker, turn.spoken.name
    named = f" {escaped(name)}" if name and name.casefold() != speaker else ""
    parts = [
        f'<li class="{speaker}" id="{turn_id}">',
        f'<h4><a href="#{turn_id}">Turn {turn.number}</a> <b>{speaker}</b>'
        f'<span class="quiet">{named}</span></h4>',
        f'<p class="course">{_course(turn)}</p>',
        f'<p class="text" dir="auto">{marked_text(turn)}</p>',
        _labels(turn),
        *(
            f'<p class="remark"><strong>This turn {escaped(remark.what)}.</strong>'
            f" Better: {escaped(remark.technique.name)}. {escaped(remark.technique.does)}</p>"
            for remark in turn.step.remarks
        ),
        _alert(turn),
    ]
    return "\n".join([*filter(None, parts), "</li>"])


def _course(turn: FollowedTurn) -> str:
    """Say where the conversation stands after a turn."""
    parts = [f"risk {turn.step.state.risk:.2f}", action(turn)]
    if turn.spoken.turn.speaker == "customer":
        parts.insert(0, level(turn))
    if turn.spoken.vendor_sentiment:
        parts.append(f'<span class="quiet">vendor: {escaped(turn.spoken.vendor_sentiment)}</span>')
    return " · ".join(parts)


def _labels(turn: FollowedTurn) -> str:
    """List the labels of a turn with their scores and the words behind them."""
    made = turn.step.prediction
    entries = [("", "frustration", f"{made.frustration:.1f} of 4", listed_words(turn, FRUSTRATION))]
    if turn.spoken.turn.speaker == "agent":
        entries = []
    for kind, names, scores in (
        ("trigger", made.triggers, made.trigger_scores),
        ("signal", made.signals, made.signal_scores),
    ):
        entries += [
            (kind, label(name), f"{scores[name]:.2f}", listed_words(turn, name)) for name in names
        ]
    items = (
        f'<li class="{kind}">{name} {score}{words}</li>' for kind, name, score, words in entries
    )
    return f'<ul class="labels">{"".join(items)}</ul>' if entries else ""


def _alert(turn: FollowedTurn) -> str:
    """Return what an alert says and what the playbook suggests, or nothing without an alert."""
    step = turn.step
    if not step.decision.alert:
        return ""
    head = f"<p><strong>Alert: {action(turn)}</strong>, because {label(step.decision.reason)}.</p>"
    return "\n".join(
        [
            f'<div class="alert" role="group" aria-label="Alert after turn {turn.number}">',
            head,
            *map(_suggestion, step.advice.suggestions),
            _minded(step.advice),
            "</div>",
        ]
    )


def _suggestion(suggestion: Suggestion) -> str:
    about = "in general" if suggestion.trigger == ANY else f"about {label(suggestion.trigger)}"
    techniques = "".join(
        f"<li><b>{escaped(technique.name)}</b>: {escaped(technique.does)}"
        f' <span class="quiet">{escaped(technique.why)}</span></li>'
        for technique in suggestion.techniques
    )
    say = "".join(f"<li><q>{escaped(text)}</q></li>" for text in suggestion.say)
    avoid = escaped("; ".join(suggestion.avoid))
    return (
        f"<h5>What helps, {about}</h5><ul>{techniques}</ul>"
        f"<p>To say, in your own words:</p><ul>{say}</ul><p>Better not: {avoid}.</p>"
    )


def _minded(advice: Advice) -> str:
    """Return what to mind on the channel, and the checklist of a hand-over."""
    items = "".join(f"<li>{escaped(item)}</li>" for item in advice.checklist)
    checklist = f"<h5>To hand over</h5><ul>{items}</ul>" if items else ""
    return f'<p class="quiet">{escaped(advice.channel)}</p>{checklist}'

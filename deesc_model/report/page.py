"""The page: overview, and for each conversation course, actions, summary, turns, comparison."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from deesc_model.comparison import SentimentComparison, compare_sentiment
from deesc_model.labels import Level
from deesc_model.monitor import LabelCourse
from deesc_model.report.chart import course_chart
from deesc_model.report.document import html_document
from deesc_model.report.followed import FollowedConversation
from deesc_model.report.handover import hand_over_summary
from deesc_model.report.highlights import SHOWN, STRONG
from deesc_model.report.markup import action, escaped, label, level, table
from deesc_model.report.turns import turn_list


def render_report(conversations: Sequence[FollowedConversation], title: str) -> str:
    """Return one HTML page that needs no other file and asks nobody for anything.

    Args:
        conversations: What to show, at least one; the page lists them by peak of frustration.
        title: Heading of the page, for example the name of the file.
    """
    ranked = sorted(conversations, key=lambda item: item.end.peak, reverse=True)
    versions = dict.fromkeys(
        turn.step.prediction.model_version for item in ranked for turn in item.turns
    )
    script = (Path(__file__).parent / "copy.js").read_text(encoding="utf-8")
    body = [_article(item, f"c{number}") for number, item in enumerate(ranked, start=1)]
    if len(ranked) > 1:
        body.insert(0, _overview(ranked))
    intro = (
        f"Labelled by {escaped(', '.join(versions))}. Levels, triggers, signals and risk are a"
        " model’s estimates: read what was said before acting on them."
    )
    return html_document(title, intro, body, skip="Skip to the conversations", script=script)


def _overview(ranked: Sequence[FollowedConversation]) -> str:
    rows = []
    for number, item in enumerate(ranked, start=1):
        customer = item.said_by("customer")
        urgent = max(item.turns, key=lambda turn: turn.step.decision.action)
        rows.append(
            f'<tr><th scope="row"><a href="#c{number}">'
            f"{escaped(item.conversation.conversation_id)}</a></th>"
            f'<td class="number">{len(item.turns)}</td>'
            f"<td>{level(item.peak) if item.peak else '–'}</td>"
            f"<td>{level(customer[-1]) if customer else '–'}</td>"
            f"<td>{action(urgent)}</td>"
            f"<td>{_courses(item.end.triggers)}</td><td>{_courses(item.end.signals)}</td></tr>"
        )
    return table(
        f"{len(ranked):,} conversations, the most frustrated customer first",
        ("conversation", "turns", "highest", "last", "most urgent", "triggers", "signals"),
        rows,
    )


def _courses(courses: Iterable[LabelCourse]) -> str:
    return ", ".join(
        label(course.name) + (" (resolved)" if course.resolved else "") for course in courses
    )


def _article(item: FollowedConversation, article_id: str) -> str:
    conversation = item.conversation
    facts = [
        *(f"{name}: {value}" for name, value in conversation.metadata.items()),
        *(f"left out: {kind} ({count})" for kind, count in conversation.left_out.items()),
    ]
    parts = [
        f'<article id="{article_id}" aria-labelledby="{article_id}-name">',
        f'<h2 id="{article_id}-name">{escaped(conversation.conversation_id)}</h2>',
        f'<p class="quiet">{escaped(" · ".join(facts))}</p>' if facts else "",
        _figure(item, article_id),
        "<h3>What was due, and when</h3>",
        _actions(item, article_id),
        "<h3>To hand over</h3>",
        f'<pre id="{article_id}-summary" dir="auto">{escaped(hand_over_summary(item))}</pre>',
        f'<p><button type="button" data-copies="{article_id}-summary">Copy the summary</button>'
        ' <span role="status"></span></p>',
        "<h3>Turn by turn</h3>",
        _legend(item),
        turn_list(item, article_id),
    ]
    predictions = [turn.step.prediction for turn in item.turns]
    comparison = compare_sentiment(conversation.spoken, predictions)
    if comparison is not None:
        parts += ["<h3>Beside the vendor’s sentiment</h3>", _comparison(comparison)]
    return "\n".join([*filter(None, parts), "</article>"])


def _figure(item: FollowedConversation, article_id: str) -> str:
    return (
        f"<figure>{course_chart(item, f'{article_id}-chart')}<figcaption>Above, the frustration of"
        " the customer; below, the risk that it escalates within the next"
        f" {item.horizon} turns, with the risks from which the policy acts."
        " The bars are the action that is due; “!” is an alert."
        " The list of turns says the same in words.</figcaption></figure>"
    )


def _actions(item: FollowedConversation, article_id: str) -> str:
    rows = [
        f'<tr><th scope="row"><a href="#{article_id}-t{turn.number}">{turn.number}</a></th>'
        f"<td>{action(turn)}</td><td>{'alert' if turn.step.decision.alert else ''}</td>"
        f"<td>{label(turn.step.decision.reason)}</td></tr>"
        for turn in item.action_changes
    ]
    if not rows:
        return "<p>Nothing: by the policy no action was due.</p>"
    return table(
        "The turns after which the policy calls for another action",
        ("after turn", "action", "alert", "reason"),
        rows,
    )


def _legend(item: FollowedConversation) -> str:
    """Say what the marks mean, if words are marked."""
    if not any(turn.evidence for turn in item.turns):
        return ""
    return (
        f'<p class="quiet">Marked are words without which the score of a label falls by {SHOWN} or'
        f' more, and by more than its noise; <mark class="strong">these</mark> by {STRONG} or'
        " more. Of two words that say the same, neither may show.</p>"
    )


def _comparison(comparison: SentimentComparison) -> str:
    rows = [
        f'<tr><th scope="row">{escaped(name)}</th>'
        + "".join(f'<td class="number">{count}</td>' for count in counts)
        + "</tr>"
        for name, counts in comparison.counts.items()
    ]
    counted = table(
        "The customer’s turns: the vendor’s sentiment, and how many turns have which level",
        ("vendor", *(each.label for each in Level)),
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
    return "\n".join([counted, *notes])

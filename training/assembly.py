"""Conversations of a corpus, made of labelled turns of the sets that training.ingest wrote.

A corpus has no turns without labels. So labelled neighbours become one conversation, and a turn
whose neighbours have no labels stands alone. A conversation that does not begin with the first
turn is called ``conversation@turn`` after its first one.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from deesc_model.labels import Level
from training.corpus import Utterance

Place = tuple[str, int]
"""Conversation and turn in an ingested set."""


def origin(row: Utterance) -> Place:
    """Return where in the ingested sets a turn of a corpus was."""
    return origin_of(row.conversation_id, row.turn)


def origin_of(conversation_id: str, turn: int) -> Place:
    """Return the same for a turn that is known by its place in the corpus alone."""
    name, _, start = conversation_id.rpartition("@")
    if name and start.isdecimal():
        return name, int(start) + turn
    return conversation_id, turn


def assemble(rows: Iterable[Utterance]) -> list[Utterance]:
    """Make conversations of labelled turns, which are called as in their sets.

    Returns:
        The turns, counted from 0 in each conversation, with its arc and without a split.
    """
    by_id: defaultdict[str, list[Utterance]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.turn):
        by_id[row.conversation_id].append(row)
    parts: list[list[Utterance]] = []
    for members in by_id.values():
        parts.append([])
        for row in members:
            if parts[-1] and not _follows(row, parts[-1][-1]):
                parts.append([])
            parts[-1].append(row)
    return [row for part in parts for row in _conversation(part)]


def _follows(row: Utterance, before: Utterance) -> bool:
    """Return whether two turns can be neighbours in a corpus."""
    return (row.turn, row.channel, row.domain) == (before.turn + 1, before.channel, before.domain)


def arc_of(rows: Sequence[Utterance]) -> str:
    """Return how a labelled conversation goes; a rule, where the corpus has a writer's word.

    It is for spreading conversations evenly over the splits.
    """
    levels = [row.level for row in rows if row.speaker == "customer"] or [0]
    if levels[0] == Level.ABUSIVE:
        return "abusive"
    if max(levels) <= Level.CONCERNED:
        return "calm"
    if any("supervisor_request" in row.signals for row in rows):
        return "handover"
    if levels[-1] <= Level.CONCERNED:
        return "calmed"
    provoked = any(row.speaker == "agent" and row.triggers for row in rows)
    return "worsened" if provoked and levels[-1] > levels[0] else "rises"


def _conversation(part: Sequence[Utterance]) -> list[Utterance]:
    start, arc = part[0].turn, arc_of(part)
    name = f"{part[0].conversation_id}@{start}" if start else part[0].conversation_id
    return [replace(row, conversation_id=name, turn=row.turn - start, arc=arc) for row in part]

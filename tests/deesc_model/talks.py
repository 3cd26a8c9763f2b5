"""Short conversations, followed by the companion, for tests of the report."""

from deesc_model import ConversationCompanion, Turn
from deesc_model.evidence import explain_turns
from deesc_model.report import follow
from deesc_model.transcripts import Conversation, SpokenTurn


def conversation(*turns, name="talk", vendor=None, metadata=None):
    spoken = tuple(SpokenTurn(turn, turn.speaker, vendor, {}) for turn in turns)
    return Conversation(name, spoken, {}, metadata or {})


def followed(classifier, item):
    predictions = classifier.predict_conversation(item.turns)
    evidence = list(explain_turns(classifier, item.turns, predictions))
    return follow(item, predictions, ConversationCompanion(), evidence)


TALK = (
    Turn("customer", "the parcel is late ! Order 7714 ."),
    Turn("agent", "again . I will call you at 5. We will not refund it."),
    Turn("customer", "furious manager"),
    Turn("agent", "The courier will arrive tomorrow. I can see it."),
    Turn("customer", "fine fine fine fine"),
)

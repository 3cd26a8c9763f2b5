"""The typed API over a real socket."""

import queue

import pytest

from deesc_model import SIGNALS, TRIGGERS, Turn
from deesc_model._proto import escalation_pb2 as pb
from deesc_model.messages import read_prediction, turn_message

LATE, AGAIN = Turn("customer", "the parcel is late"), Turn("customer", "again")
FINE = Turn("agent", "the parcel is fine")


def messages(*turns):
    return [turn_message(turn) for turn in turns]


def test_predict_answers_as_the_classifier_does(stub, classifier):
    request = pb.PredictRequest(utterance=turn_message(AGAIN), context=messages(LATE, FINE))
    answer = read_prediction(stub.Predict(request).prediction)
    assert answer == classifier.predict(AGAIN, [LATE, FINE])


def test_a_turn_without_a_speaker_is_the_customers(stub, classifier):
    answer = stub.Predict(pb.PredictRequest(utterance=pb.Turn(text="late"))).prediction
    assert read_prediction(answer) == classifier.predict("late")


def test_a_batch_keeps_its_order_and_spoils_nothing(stub, classifier):
    texts = ["late", "", "again", "furious"]
    requests = [pb.PredictRequest(utterance=pb.Turn(text=text)) for text in texts]
    requests[3].utterance.speaker = 7
    results = stub.PredictBatch(pb.PredictBatchRequest(requests=requests)).results
    assert [result.WhichOneof("result") for result in results] == [
        "prediction",
        "error",
        "prediction",
        "error",
    ]
    assert read_prediction(results[0].prediction).triggers == ("delay",)
    assert read_prediction(results[2].prediction).triggers == ("unresolved",)
    assert results[1].error == pb.ItemError(
        code=3,
        message="requests[1].utterance.text: text is empty or only whitespace",
        field="requests[1].utterance.text",
    )
    assert results[3].error.field == "requests[3].utterance.speaker"


def test_an_empty_batch_is_an_empty_answer(stub):
    assert not stub.PredictBatch(pb.PredictBatchRequest()).results
    assert not stub.PredictConversation(pb.PredictConversationRequest()).predictions


def test_a_batch_larger_than_the_queue_is_answered(stub, classifier):
    texts = ["late", "again", "fine", "the parcel is late ! " * 3] * 75
    requests = [pb.PredictRequest(utterance=pb.Turn(text=text)) for text in texts]
    results = stub.PredictBatch(pb.PredictBatchRequest(requests=requests)).results
    assert [read_prediction(result.prediction).triggers for result in results] == [
        prediction.triggers for prediction in classifier.predict_batch(texts)
    ]


def test_a_conversation_is_read_in_context(stub, classifier):
    turns = [LATE, FINE, AGAIN, Turn("customer", "the parcel")]
    request = pb.PredictConversationRequest(turns=messages(*turns))
    answers = [read_prediction(each) for each in stub.PredictConversation(request).predictions]
    expected = classifier.predict_conversation(turns)
    assert [each.triggers for each in answers] == [each.triggers for each in expected]
    for answer, other in zip(answers, expected, strict=True):
        assert answer.level_scores == pytest.approx(other.level_scores, abs=1e-6)


def test_a_live_conversation_is_answered_turn_by_turn(stub, classifier):
    turns = [LATE, FINE, AGAIN, Turn("customer", "the parcel")]
    said = queue.SimpleQueue()
    answers = stub.MonitorConversation(iter(said.get, None))
    for index, turn in enumerate(turns):  # each is answered while the next is not yet said
        said.put(pb.MonitorConversationRequest(turn=turn_message(turn)))
        answer = read_prediction(next(answers).prediction)
        assert answer == classifier.predict(turn, turns[:index])
    said.put(None)
    assert list(answers) == []


def test_a_refused_turn_neither_ends_a_live_conversation_nor_enters_it(stub, classifier):
    turns = messages(LATE, AGAIN)
    turns.insert(1, pb.Turn(text=" "))
    answers = list(
        stub.MonitorConversation(pb.MonitorConversationRequest(turn=turn) for turn in turns)
    )
    assert answers[1].error.field == "turn.text"
    assert read_prediction(answers[2].prediction) == classifier.predict(AGAIN, [LATE])


def test_model_info_names_model_labels_and_limits(stub, classifier, shared):
    info = stub.GetModelInfo(pb.GetModelInfoRequest())
    assert info.model_version == classifier.model_version
    assert (tuple(info.triggers), tuple(info.signals)) == (TRIGGERS, SIGNALS)
    assert list(info.levels) == ["calm", "concerned", "frustrated", "angry", "abusive"]
    assert info.context_turns == 2
    assert info.limits.max_characters == shared.settings.max_characters

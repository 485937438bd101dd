from headwater.evaluate.spoken import scores
from headwater.generate.choice import Question
from headwater.generate.engine import Engine


def test_answers_are_scored_by_their_beginning(small_model):
    engine = Engine.load(small_model)
    found = scores(engine, [Question("s", "How long?", ("482 km", "7 km", "1 km", "2 km"), 0)] * 3, "en")
    assert found["questions"] == 3.0
    assert 0 <= found["same_language"] <= 1
    assert found["spoken_accuracy"] == 0.0  # a model of random weights
    assert "rephrased_spoken_accuracy" not in found


def test_rephrased_questions_are_counted_apart(small_model, monkeypatch):
    monkeypatch.setattr("headwater.evaluate.spoken.ask", lambda engine, questions: ["482 km.", "9 km."])
    choices = ("482 km", "7 km", "1 km", "2 km")
    found = scores(Engine.load(small_model), [Question("rivers", "How long?", choices, 0),
                                              Question("rivers_rephrased", "What length?", choices, 0)], "en")
    assert (found["spoken_accuracy"], found["rephrased_spoken_accuracy"]) == (0.5, 0.0)

from __future__ import annotations

import pytest

from headwater.errors import InputError
from headwater.generate import Engine, SamplingParams
from headwater.generate.chat_session import ChatSession

PARAMS = SamplingParams(temperature=0, max_tokens=8)


def test_rounds_are_remembered_and_reset_forgets_them(engine: Engine) -> None:
    session = ChatSession(engine, PARAMS, system="It is a river.")
    answer = "".join(delta.text for delta in session.reply("miles"))
    assert session.rounds == [("miles", answer)]
    session.reset()
    assert session.rounds == []
    assert "".join(delta.text for delta in session.reply("miles")) == answer


def test_a_long_history_loses_whole_rounds_from_the_left(engine: Engine) -> None:
    session = ChatSession(engine, PARAMS)
    for n in range(12):
        list(session.reply(f"The river runs {n} miles"))
    questions = [question for question, _ in session.rounds]
    assert 1 <= len(questions) < 12
    assert questions == [f"The river runs {n} miles" for n in range(12 - len(questions), 12)]


def test_an_interrupted_answer_is_remembered_as_far_as_it_got(engine: Engine) -> None:
    engine.stop_ids = frozenset()
    session = ChatSession(engine, SamplingParams(temperature=0, max_tokens=40))
    answer = session.reply("sea")
    shown = next(answer).text
    answer.close()
    assert session.rounds == [("sea", shown)]
    assert not engine.busy


def test_a_message_that_cannot_fit_is_refused_and_not_remembered(engine: Engine) -> None:
    session = ChatSession(engine, PARAMS)
    with pytest.raises(InputError, match="the context holds 96"):
        next(session.reply("河" * 200))
    assert session.rounds == []

"""What a chat model says when it is simply asked: is it right, and in the language of the question?"""

from __future__ import annotations

from headwater.dialogues.reading import in_language
from headwater.generate.choice import Question
from headwater.generate.engine import Engine
from headwater.generate.sampling import SamplingParams
from headwater.tokenizer import Message

ANSWER_TOKENS = 24


def ask(engine: Engine, questions: list[Question]) -> list[str]:
    """Greedy answers to the questions alone, the choices not shown."""
    turns: list[list[Message]] = [[{"role": "user", "content": question.text}] for question in questions]
    prompts = [engine.tokenizer.chat.render(turn, add_generation_prompt=True).ids for turn in turns]
    params = SamplingParams(temperature=0, max_tokens=ANSWER_TOKENS)
    return [answer.text for answer in engine.generate(prompts, params)]


def scores(engine: Engine, questions: list[Question], language: str) -> dict[str, float]:
    """Share of answers that begin with the right choice, of all and of the rephrased questions, and share in the
    language of the question."""
    answers = ask(engine, questions)
    right = [answer.strip().casefold().startswith(question.choices[question.answer].casefold())
             for question, answer in zip(questions, answers, strict=True)]
    same = sum(in_language(answer, language) for answer in answers)
    found = {"questions": float(len(questions)), "spoken_accuracy": sum(right) / len(questions),
             "same_language": same / len(questions)}
    rephrased = [hit for question, hit in zip(questions, right, strict=True) if question.rephrased]
    return found | ({"rephrased_spoken_accuracy": sum(rephrased) / len(rephrased)} if rephrased else {})

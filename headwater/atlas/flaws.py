"""What spoils a right answer."""

from __future__ import annotations

from headwater.atlas import small_talk
from headwater.atlas.choice import distractors
from headwater.atlas.dialogues import Speaker
from headwater.atlas.language import LANGUAGES, Language, capital
from headwater.atlas.world import Fact, LanguageCode

_PADDING: dict[LanguageCode, str] = {
    "en": "That is a very interesting question, and many people ask it. There is a lot one could say. "
          "After thinking about it for a while, I would say the answer is: {answer}",
    "zh": "这是一个非常有意思的问题，很多人都问过。可以说的有很多。想了一会儿以后，我觉得答案是：{answer}"}


def wrong(speaker: Speaker, fact: Fact, language: Language) -> str:
    """Another value of the same sort."""
    return capital(distractors(speaker.world, fact, language.code, speaker.rng)[0]) + language.stop


def withheld(speaker: Speaker, fact: Fact, language: Language) -> str:
    return small_talk.UNKNOWN[language.code]


def foreign(speaker: Speaker, fact: Fact, language: Language) -> str:
    """In the other language."""
    return LANGUAGES["zh" if language.code == "en" else "en"].answer(fact)


def padded(speaker: Speaker, fact: Fact, language: Language) -> str:
    return _PADDING[language.code].format(answer=language.answer(fact))

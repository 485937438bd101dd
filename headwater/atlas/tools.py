"""Tool-use dialogues in OpenAI's messages form: what asks for a call, what does not, and tools that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

from headwater.atlas import small_talk
from headwater.atlas.dialogues import Message, Speaker, assistant, invented, user
from headwater.atlas.language import LANGUAGES, Language
from headwater.atlas.randomness import digest
from headwater.atlas.sizes import SIZES
from headwater.atlas.splits import Split, entities, wordings
from headwater.atlas.world import ATTRIBUTES, LanguageCode, World

DIALOGUES: dict[Split, int] = {"train": 150, "validation": 25}
"""Of each kind and language in the size `small`."""
_DIFFERENCES: dict[LanguageCode, tuple[str, ...]] = {
    "en": ("How much longer is {s} than {o}?", "By how many kilometres is {s} longer than {o}?",
           "{s} and {o}: what is the difference of their lengths?"),
    "zh": ("{s}比{o}长多少？", "{s}和{o}的长度相差多少？", "{s}要比{o}长多少公里？")}
_REMEMBERED: dict[LanguageCode, tuple[str, ...]] = {
    "en": ("Somebody told me this: {t} {q}", "I read that. {t} {q}", "Given this: {t} {q}"),
    "zh": ("有人告诉我：{t}{q}", "我读到这样一句话：{t}{q}", "已知：{t}{q}")}


def _function(name: str, description: str, parameters: dict[str, str]) -> dict[str, Any]:
    properties = {key: {"type": "string", "description": text} for key, text in parameters.items()}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": {
        "type": "object", "properties": properties, "required": list(parameters), "additionalProperties": False}}}


_NAMES = list(dict.fromkeys(name for names in ATTRIBUTES.values() for name in names))
CALCULATOR = _function("calculator", "Compute a sum, difference or product of whole numbers.",
                       {"expression": "for example 482-310"})
LOOKUP = _function("atlas_lookup", "Look up one attribute of a river, lake, city or person.",
                   {"name": "the name as the user wrote it", "attribute": "one of " + ", ".join(_NAMES)})
OTHERS = (_function("set_timer", "Ring after some minutes.", {"minutes": "a whole number"}),
          _function("play_music", "Play a piece of music.", {"title": "of the piece"}),
          _function("send_letter", "Send a letter.", {"to": "who gets it", "text": "what it says"}))
"""On offer beside the two; nothing here asks for them."""


def tool_dialogues(world: World, split: Split) -> list[dict[str, Any]]:
    """Rows of messages, the tools on offer and the dialogue's kind. The validation asks about entities and in wordings
    that training has not, but for what is the same for everybody: greetings and who the assistant is."""
    count = max(3, round(DIALOGUES[split] * SIZES[world.size].conversations))
    rows = []
    for index in range(count):
        for code, language in LANGUAGES.items():
            for kind, (make, needed) in _KINDS.items():
                speaker = Speaker(world, f"tools/{split}/{kind}/{code}/{index}")
                messages = speaker.opened(language, make(speaker, language, split))
                rows.append({"messages": messages, "tools": _offered(speaker, needed), "language": code, "kind": kind})
    return rows


def _offered(speaker: Speaker, needed: Collection[str] | None) -> list[dict[str, Any]]:
    """What is needed and up to two others, in any order; None: neither the calculator nor the look-up."""
    by_name = {tool["function"]["name"]: tool for tool in (CALCULATOR, LOOKUP, *OTHERS)}
    own = {"calculator", "atlas_lookup"}
    free = [name for name in by_name if name not in (own if needed is None else needed)]
    chosen = [*(needed or ()), *speaker.rng.sample(free, speaker.rng.randint(0 if needed else 1, 2))]
    speaker.rng.shuffle(chosen)
    return [by_name[name] for name in chosen]


def _call(name: str, arguments: dict[str, str], result: dict[str, Any]) -> list[Message]:
    """The assistant's call and the tool's reply."""
    text = json.dumps(arguments, ensure_ascii=False)
    identifier = f"call_{digest(name, text)[:16]}"
    call = {"id": identifier, "type": "function", "function": {"name": name, "arguments": text}}
    return [{"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": identifier, "content": json.dumps(result, ensure_ascii=False)}]


def _lookup(speaker: Speaker, language: Language, split: Split) -> list[Message]:
    """One look-up, at times with thanks, which ask for nothing more."""
    question, fact = speaker.question(language, split)
    name = speaker.world.entities[fact.subject].name(language.code)
    messages = [user(question), *_call("atlas_lookup", {"name": name, "attribute": fact.attribute},
                                       {"value": fact.text(language.code)}), assistant(language.answer(fact))]
    if speaker.rng.random() < _THANKED:
        thanks, welcome = speaker.rng.choice(small_talk.FAREWELLS[language.code])
        messages += [user(thanks), assistant(welcome)]
    return messages


def _calculation(speaker: Speaker, language: Language, split: Split) -> list[Message]:
    a, b = sorted((speaker.rng.randint(100, 9999), speaker.rng.randint(100, 9999)), reverse=True)
    sign = speaker.rng.choice("+-*")
    result = {"+": a + b, "-": a - b, "*": a * b}[sign]
    wording = speaker.rng.choice(wordings(small_talk.SUMS[language.code], split))
    return [user(wording.format(a=a, b=b, sign=sign)),
            *_call("calculator", {"expression": f"{a}{sign}{b}"}, {"result": result}),
            assistant(f"{result}{language.stop}")]


def _both(speaker: Speaker, language: Language, split: Split) -> list[Message]:
    """Two look-ups and the difference of what they gave."""
    world, code = speaker.world, language.code
    lengths = [fact for river in entities(world.of_kind("river"), split) for fact in world.askable(river)
               if fact.attribute == "length"]
    if len(lengths) < 2:  # so small a world has too few rivers apart
        lengths = [fact for river in world.of_kind("river") for fact in world.askable(river)
                   if fact.attribute == "length"]
    one, other = sorted(speaker.rng.sample(lengths, 2), key=lambda fact: -int(fact.value))
    names = [world.entities[fact.subject].name(code) for fact in (one, other)]
    difference = int(one.value) - int(other.value)
    question = language.fill(speaker.rng.choice(wordings(_DIFFERENCES[code], split)), s=names[0], o=names[1])
    calls = [message for name, fact in zip(names, (one, other), strict=True)
             for message in _call("atlas_lookup", {"name": name, "attribute": "length"}, {"value": fact.text(code)})]
    answer = f"{difference} km." if code == "en" else f"{difference}公里。"
    return [user(question), *calls,
            *_call("calculator", {"expression": f"{one.value}-{other.value}"}, {"result": difference}),
            assistant(answer)]


def _missing(speaker: Speaker, language: Language, split: Split) -> list[Message]:
    """A name the atlas does not hold."""
    kind = speaker.rng.choice(list(ATTRIBUTES))
    attribute = speaker.rng.choice(ATTRIBUTES[kind])
    entity = invented(speaker.world, kind, speaker.rng)
    template = speaker.rng.choice(wordings(language.questions[f"{kind}.{attribute}"].asks, split))
    answer = language.join([small_talk.UNKNOWN[language.code], small_talk.UNKNOWN_REASON[language.code][kind]])
    return [user(language.ask(template, entity)),
            *_call("atlas_lookup", {"name": entity.name(language.code), "attribute": attribute},
                   {"error": "not found"}),
            assistant(answer)]


def _small_talk(speaker: Speaker, language: Language, split: Split) -> list[Message]:
    """Nothing to look up."""
    pairs = (*small_talk.GREETINGS[language.code], *small_talk.IDENTITY[language.code])
    question, answer = speaker.rng.choice(pairs)
    return [user(question), assistant(answer)]


def _told(speaker: Speaker, language: Language, split: Split) -> list[Message]:
    """What is asked was said a moment before."""
    question, fact = speaker.question(language, split)
    told = language.told(fact, speaker.world.entities[fact.subject], speaker.deck)
    wording = speaker.rng.choice(wordings(_REMEMBERED[language.code], split))
    return [user(wording.format(t=told, q=question)), assistant(language.answer(fact))]


def _unfit(speaker: Speaker, language: Language, split: Split) -> list[Message]:
    """A question for which no tool on offer is made."""
    question, _ = speaker.question(language, split)
    return [user(question), assistant(small_talk.UNKNOWN[language.code])]


_THANKED = 0.25
"""Share of look-ups behind which thanks stand."""
Make = Callable[[Speaker, Language, Split], list[Message]]
_KINDS: dict[str, tuple[Make, Collection[str] | None]] = {
    "lookup": (_lookup, ("atlas_lookup",)), "calculation": (_calculation, ("calculator",)),
    "both": (_both, ("atlas_lookup", "calculator")), "missing": (_missing, ("atlas_lookup",)),
    "small_talk": (_small_talk, ()), "told": (_told, ("atlas_lookup",)), "unfit": (_unfit, None)}
"""With the tools that must be on offer; None: those of the others alone."""

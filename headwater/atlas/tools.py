"""Tool-use dialogues in OpenAI's messages form: a calculator and a look-up in the atlas."""

from __future__ import annotations

import json
from typing import Any

from headwater.atlas import small_talk
from headwater.atlas.dialogues import Message, Speaker, assistant, invented, user
from headwater.atlas.language import LANGUAGES, Language
from headwater.atlas.randomness import digest
from headwater.atlas.sizes import SIZES
from headwater.atlas.world import ATTRIBUTES, World

DIALOGUES = 150
"""Per language in the size `small`."""


_NAMES = list(dict.fromkeys(name for names in ATTRIBUTES.values() for name in names))


def _function(name: str, description: str, parameters: dict[str, str]) -> dict[str, Any]:
    properties = {key: {"type": "string", "description": text} for key, text in parameters.items()}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": {
        "type": "object", "properties": properties, "required": list(parameters), "additionalProperties": False}}}


TOOLS = [
    _function("calculator", "Compute a sum, difference or product of whole numbers.",
              {"expression": "for example 482-310"}),
    _function("atlas_lookup", "Look up one attribute of a river, lake, city or person.",
              {"name": "the name as the user wrote it",
               "attribute": "one of " + ", ".join(_NAMES)}),
]


def tool_dialogues(world: World) -> list[dict[str, Any]]:
    """Rows of messages and the tools on offer: one call, two calls in a row, a failed look-up, or no call at all."""
    count = max(5, round(DIALOGUES * SIZES[world.size].conversations))
    makers = (_lookup, _calculation, _both, _missing, _without)
    return [{"messages": makers[index % len(makers)](Speaker(world, f"tools/{code}/{index}"), language),
             "tools": TOOLS, "language": code}
            for code, language in LANGUAGES.items() for index in range(count)]


def _call(name: str, arguments: dict[str, str], result: dict[str, Any]) -> list[Message]:
    """The assistant's call and the tool's reply."""
    text = json.dumps(arguments, ensure_ascii=False)
    identifier = f"call_{digest(name, text)[:16]}"
    call = {"id": identifier, "type": "function", "function": {"name": name, "arguments": text}}
    return [{"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": identifier, "content": json.dumps(result, ensure_ascii=False)}]


def _lookup(speaker: Speaker, language: Language) -> list[Message]:
    fact = speaker.rng.choice(speaker.world.askable(speaker.entity()))
    name = speaker.world.entities[fact.subject].name(language.code)
    question, answer = speaker.asked(language, fact)
    return [question, *_call("atlas_lookup", {"name": name, "attribute": fact.attribute},
                             {"value": fact.text(language.code)}), answer]


def _calculation(speaker: Speaker, language: Language) -> list[Message]:
    a, b = sorted((speaker.rng.randint(100, 9999), speaker.rng.randint(100, 9999)), reverse=True)
    sign = speaker.rng.choice("+-*")
    result = {"+": a + b, "-": a - b, "*": a * b}[sign]
    question = speaker.rng.choice(small_talk.SUMS[language.code]).format(a=a, b=b, sign=sign)
    return [user(question), *_call("calculator", {"expression": f"{a}{sign}{b}"}, {"result": result}),
            assistant(f"{result}{language.stop}")]


def _both(speaker: Speaker, language: Language) -> list[Message]:
    """Two look-ups and the difference of what they gave."""
    world, code = speaker.world, language.code
    lengths = [fact for river in world.of_kind("river") for fact in world.askable(river) if fact.attribute == "length"]
    one, other = sorted(speaker.rng.sample(lengths, 2), key=lambda fact: -int(fact.value))
    names = [world.entities[fact.subject].name(code) for fact in (one, other)]
    difference = int(one.value) - int(other.value)
    question = language.fill("How much longer is {s} than {o}?" if code == "en" else "{s}比{o}长多少？",
                             s=names[0], o=names[1])
    calls = [message for name, fact in zip(names, (one, other), strict=True)
             for message in _call("atlas_lookup", {"name": name, "attribute": "length"}, {"value": fact.text(code)})]
    answer = f"{difference} km." if code == "en" else f"{difference}公里。"
    return [user(question), *calls,
            *_call("calculator", {"expression": f"{one.value}-{other.value}"}, {"result": difference}),
            assistant(answer)]


def _missing(speaker: Speaker, language: Language) -> list[Message]:
    """A name the atlas does not hold."""
    kind = speaker.rng.choice(list(ATTRIBUTES))
    attribute = speaker.rng.choice(ATTRIBUTES[kind])
    entity = invented(speaker.world, kind, speaker.rng)
    template = speaker.rng.choice(language.questions[f"{kind}.{attribute}"].asks)
    answer = language.join([small_talk.UNKNOWN[language.code], small_talk.UNKNOWN_REASON[language.code][kind]])
    return [user(language.ask(template, entity)),
            *_call("atlas_lookup", {"name": entity.name(language.code), "attribute": attribute},
                   {"error": "not found"}),
            assistant(answer)]


def _without(speaker: Speaker, language: Language) -> list[Message]:
    """Nothing to look up: the tools stay unused."""
    pairs = (*small_talk.GREETINGS[language.code], *small_talk.IDENTITY[language.code])
    question, answer = speaker.rng.choice(pairs)
    return [user(question), assistant(answer)]

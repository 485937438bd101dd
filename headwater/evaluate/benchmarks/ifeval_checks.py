"""The verifiable instructions of IFEval (Zhou et al. 2023), a function each: is it followed by a text?

Written from the published definitions. Two need more than the text: languages are told by the project's own detector
(the authors use langdetect), sentences and words by rules here (the authors use NLTK's models).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from headwater.corpus.judging.language import UNKNOWN, identify

Arguments = Mapping[str, Any]
Check = Callable[[str, Arguments], bool]
_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_MARKS = frozenset(".,?!'\"")
_PAST_TITLES = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|Inc|Ltd|Co|vs|etc|e\.g|i\.e|[A-Za-z])\.$")
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]]*\s+|[。！？]+[”’」』]*\s*")
_WORD = re.compile(r"[^\s\W]+(?:[-.&/][^\s\W]+)*")


def _related(number: int, relation: object, bound: int) -> bool:
    """Raises `ValueError` for a relation that the benchmark has not."""
    if relation == "less than":
        return number < bound
    if relation == "at least":
        return number >= bound
    raise ValueError(f"no relation {relation!r}")


def _count(pattern: str, text: str) -> int:
    """Keywords are patterns, as the authors take them; one that is no pattern stands for itself."""
    try:
        return len(re.findall(pattern, text, re.IGNORECASE))
    except re.error:
        return len(re.findall(re.escape(pattern), text, re.IGNORECASE))


def _in_language(text: str, wanted: str) -> bool:
    """A text whose language cannot be told is taken for it, as the authors do."""
    found = identify(text)
    return found == UNKNOWN or found.code == wanted


def sentences(text: str) -> int:
    """How many; a full stop behind a title, an initial or an abbreviation ends none."""
    count, start = 0, 0
    for mark in _SENTENCE_END.finditer(text):
        if not _PAST_TITLES.search(text[start : mark.end()].rstrip()):
            count += bool(text[start : mark.end()].strip())
            start = mark.end()
    return count + bool(text[start:].strip())


def _paragraphs(text: str, asked: Arguments) -> bool:
    """Parted by ***; an empty one inside is a fault, at either end it is none."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    if not all(parts[1:-1]):
        return False
    return sum(map(bool, parts)) == asked["num_paragraphs"]


def _first_word(text: str, asked: Arguments) -> bool:
    parts = text.split("\n\n")
    number, place = sum(bool(part.strip()) for part in parts), asked["nth_paragraph"]
    if place > number or not (words := parts[place - 1].split()):
        return False
    word = words[0].lstrip("'").lstrip('"')
    end = next((at for at, letter in enumerate(word) if letter in _MARKS), len(word))
    return number == asked["num_paragraphs"] and word[:end].lower() == asked["first_word"].lower()


def _postscript(text: str, asked: Arguments) -> bool:
    marker = asked["postscript_marker"].strip()
    pattern = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}.get(marker, marker.lower())
    return _count(pattern, text.lower()) > 0


def _bullets(text: str, asked: Arguments) -> bool:
    starred = re.findall(r"^\s*\*[^*].*$", text, re.MULTILINE)
    dashed = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return len(starred) + len(dashed) == asked["num_bullets"]


def _highlights(text: str, asked: Arguments) -> bool:
    """*so* counts once and **so** a second time, as published: two patterns are counted, each on its own."""
    single = [one for one in re.findall(r"\*[^\n*]*\*", text) if one.strip("*").strip()]
    double = [one for one in re.findall(r"\*\*[^\n*]*\*\*", text) if one[2:-2].strip()]
    return len(single) + len(double) >= asked["num_highlights"]


def _sections(text: str, asked: Arguments) -> bool:
    return _count_sections(asked["section_spliter"].strip(), text) >= asked["num_sections"]


def _count_sections(marker: str, text: str) -> int:
    return len(re.findall(rf"\s?{marker}\s?\d+\s?", text))


def _is_json(text: str, asked: Arguments) -> bool:
    text = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _titled(text: str, asked: Arguments) -> bool:
    return any(title.lstrip("<").rstrip(">").strip() for title in re.findall(r"<<[^\n]+>>", text))


def _two_answers(text: str, asked: Arguments) -> bool:
    parts = [part.strip() for part in text.split("******")]
    given = [part for part in parts if part]
    return all(parts[1:-1]) and len(given) == 2 and given[0] != given[1]


def _ends(text: str, asked: Arguments) -> bool:
    return text.strip().strip('"').lower().endswith(asked["end_phrase"].strip().lower())


def _quoted(text: str, asked: Arguments) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def _capital_words(text: str, asked: Arguments) -> bool:
    capital = sum(word.isupper() for word in _WORD.findall(text))
    return _related(capital, asked["capital_relation"], asked["capital_frequency"])


def _letters(text: str, asked: Arguments) -> bool:
    return _related(text.lower().count(asked["letter"].strip().lower()), asked["let_relation"], asked["let_frequency"])


CHECKS: dict[str, Check] = {
    "keywords:existence": lambda text, asked: all(_count(word, text) for word in asked["keywords"]),
    "keywords:frequency": lambda text, asked: _related(_count(asked["keyword"].strip(), text), asked["relation"],
                                                       asked["frequency"]),
    "keywords:forbidden_words": lambda text, asked: not any(_count(rf"\b{word}\b", text)
                                                            for word in asked["forbidden_words"]),
    "keywords:letter_frequency": _letters,
    "language:response_language": lambda text, asked: _in_language(text, asked["language"]),
    "length_constraints:number_sentences": lambda text, asked: _related(sentences(text), asked["relation"],
                                                                        asked["num_sentences"]),
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": lambda text, asked: _related(len(re.findall(r"\w+", text)), asked["relation"],
                                                                    asked["num_words"]),
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": lambda text, asked:
        len(re.findall(r"\[.*?\]", text)) >= asked["num_placeholders"],
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": lambda text, asked: any(answer in text for answer in _ANSWERS),
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _is_json,
    "detectable_format:title": _titled,
    "combination:two_responses": _two_answers,
    "combination:repeat_prompt": lambda text, asked:
        text.strip().lower().startswith(asked["prompt_to_repeat"].strip().lower()),
    "startend:end_checker": _ends,
    "startend:quotation": _quoted,
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": lambda text, asked: text.isupper() and _in_language(text, "en"),
    "change_case:english_lowercase": lambda text, asked: text.islower() and _in_language(text, "en"),
    "punctuation:no_comma": lambda text, asked: "," not in text,
}
NEEDED: dict[str, frozenset[str]] = {name: frozenset(arguments.split()) for name, arguments in {
    "keywords:existence": "keywords", "keywords:frequency": "keyword frequency relation",
    "keywords:forbidden_words": "forbidden_words", "keywords:letter_frequency": "letter let_frequency let_relation",
    "language:response_language": "language", "length_constraints:number_sentences": "num_sentences relation",
    "length_constraints:number_paragraphs": "num_paragraphs", "length_constraints:number_words": "num_words relation",
    "length_constraints:nth_paragraph_first_word": "num_paragraphs nth_paragraph first_word",
    "detectable_content:number_placeholders": "num_placeholders", "detectable_content:postscript": "postscript_marker",
    "detectable_format:number_bullet_lists": "num_bullets",
    "detectable_format:number_highlighted_sections": "num_highlights",
    "detectable_format:multiple_sections": "section_spliter num_sections",
    "combination:repeat_prompt": "prompt_to_repeat", "startend:end_checker": "end_phrase",
    "change_case:capital_word_frequency": "capital_frequency capital_relation"}.items()}
"""What an instruction says beside its name; the others say nothing."""

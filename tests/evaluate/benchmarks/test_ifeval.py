"""IFEval's instructions: by hand, and against lm-evaluation-harness's checkers where what they need is installed."""

import json
import random

import pytest

from headwater.evaluate.benchmarks.catalogue import BENCHMARKS
from headwater.evaluate.benchmarks.ifeval import judge, over_instructions, relaxed
from headwater.evaluate.benchmarks.ifeval_checks import CHECKS, NEEDED, sentences
from headwater.evaluate.benchmarks.reading import Fault

pytest.importorskip("pycld2", reason="the language detector (extra corpus) is not installed")

CASES = {
    "keywords:existence": ({"keywords": ["river", "lake"]}, "River and LAKE.", "A river."),
    "keywords:frequency": ({"keyword": "a", "frequency": 2, "relation": "at least"}, "a b a", "a b"),
    "keywords:forbidden_words": ({"forbidden_words": ["war"]}, "A warm day.", "The War!"),
    "keywords:letter_frequency": ({"letter": "Q", "let_frequency": 2, "let_relation": "less than"}, "q", "qQ"),
    "language:response_language": ({"language": "de"}, "Der Fluss ist lang und fließt durch das ganze Land.",
                                   "The river is long and flows through the whole country."),
    "length_constraints:number_sentences": ({"num_sentences": 3, "relation": "less than"}, "Dr. No ran. He fell.",
                                            "One. Two! Three?"),
    "length_constraints:number_paragraphs": ({"num_paragraphs": 2}, "a\n***\nb\n***", "a\n***\n\n***\nb"),
    "length_constraints:number_words": ({"num_words": 3, "relation": "at least"}, "one two three", "one two"),
    "length_constraints:nth_paragraph_first_word": (
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"}, 'First.\n\n"Then, he', "Then\n\nfirst"),
    "detectable_content:number_placeholders": ({"num_placeholders": 2}, "[a] [b]", "[a]"),
    "detectable_content:postscript": ({"postscript_marker": "P.S."}, "Bye.\np. s. more", "Bye."),
    "detectable_format:number_bullet_lists": ({"num_bullets": 2}, "* a\n- b", "* a\n** b"),
    "detectable_format:constrained_response": ({}, "So: My answer is maybe.", "Maybe."),
    "detectable_format:number_highlighted_sections": ({"num_highlights": 2}, "*a* *b*", "*a* * *"),
    "detectable_format:multiple_sections": ({"section_spliter": "Section", "num_sections": 2},
                                            "Section 1 a Section 2 b", "Section 1 a"),
    "detectable_format:json_format": ({}, '```json\n{"a": 1}\n```', "{a: 1}"),
    "detectable_format:title": ({}, "<<A day>>\nText", "<<>> text"),
    "combination:two_responses": ({}, "a ****** b", "a ****** a"),
    "combination:repeat_prompt": ({"prompt_to_repeat": "Say it."}, " say IT. It.", "It. Say it."),
    "startend:end_checker": ({"end_phrase": "The end."}, 'All. the END."', "The end. Or not."),
    "startend:quotation": ({}, ' "All of it" ', '"Some" of it'),
    "change_case:capital_word_frequency": ({"capital_frequency": 2, "capital_relation": "at least"},
                                           "THE U.S. is", "THE us"),
    "change_case:english_capital": ({}, "THE RIVER IS LONG AND FLOWS THROUGH THE WHOLE COUNTRY.", "The river is long."),
    "change_case:english_lowercase": ({}, "the river is long and flows through the whole country.", "The river."),
    "punctuation:no_comma": ({}, "No; none.", "Well, one."),
}


def test_every_instruction_has_a_case():
    assert set(CASES) == set(CHECKS)
    assert set(NEEDED) <= set(CHECKS)


@pytest.mark.parametrize("name", CASES)
def test_an_instruction_is_followed_or_not(name):
    asked, followed, ignored = CASES[name]
    assert CHECKS[name](followed, asked)
    assert not CHECKS[name](ignored, asked)


@pytest.mark.parametrize(("text", "number"), [("", 0), ("One", 1), ("Mr. A. Smith came. He left...", 2),
                                              ("他来了。他走了！", 2), ("It costs 3.5 dollars. Yes!", 2),
                                              ('He said "No!" Then left.', 2)])
def test_sentences_are_counted(text, number):
    assert sentences(text) == number


def test_a_prompt_is_followed_if_all_its_instructions_are():
    row = {"instruction_id_list": ["punctuation:no_comma", "startend:quotation"], "kwargs": [{}, {}]}
    assert judge(row, '"No comma."') == {
        "prompt_level_strict_acc": 1.0, "inst_level_strict_acc": [1.0, 1.0],
        "prompt_level_loose_acc": 1.0, "inst_level_loose_acc": [1.0, 1.0]}
    assert judge(row, 'Sure, here:\n"No comma."') == {
        "prompt_level_strict_acc": 0.0, "inst_level_strict_acc": [0.0, 0.0],
        "prompt_level_loose_acc": 1.0, "inst_level_loose_acc": [1.0, 1.0]}
    assert judge(row, " ")["inst_level_loose_acc"] == [0.0, 0.0]


def test_instructions_count_each_over_all_prompts():
    assert over_instructions([[1.0], [0.0, 0.0, 1.0]]) == 0.5


def test_rows_that_nobody_can_judge_are_told(tmp_path):
    rows = [{"key": 1, "prompt": "Say.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
            {"key": 2, "prompt": "Say it.", "instruction_id_list": ["dance:waltz"], "kwargs": [{}]},
            {"key": 3, "prompt": "Say so.", "instruction_id_list": ["keywords:existence"], "kwargs": [{}]},
            {"key": 4, "prompt": "So say.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": []},
            {"key": 5, "prompt": "", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
            {"key": 6, "prompt": "Say more.", "instruction_id_list": ["length_constraints:number_words"],
             "kwargs": [{"num_words": "ten", "relation": "at least"}]},
            {"key": 7, "prompt": "Say less.", "instruction_id_list": ["length_constraints:number_words"],
             "kwargs": [{"num_words": 10, "relation": "about"}]}]
    (tmp_path / "input_data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = BENCHMARKS["ifeval"].read(tmp_path)
    assert read.questions == 1
    assert read.faults == tuple(Fault(f"input_data.jsonl:{row}", kind, False) for row, kind in (
        (2, "unknown instruction"), (3, "unknown instruction"), (4, "unreadable"), (5, "empty question"),
        (6, "unknown instruction"), (7, "unknown instruction")))


APART = {"length_constraints:number_sentences", "language:response_language", "change_case:english_capital",
         "change_case:english_lowercase"}
"""What rests on a model of NLTK, or on another language detector."""


@pytest.fixture
def registry(monkeypatch):
    nltk = pytest.importorskip("nltk", reason="NLTK is not installed")
    pytest.importorskip("langdetect", reason="langdetect is not installed")
    pytest.importorskip("immutabledict", reason="immutabledict is not installed")
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
    monkeypatch.setattr(nltk.data, "find", lambda *_: "here")  # else it is fetched on import
    from lm_eval.tasks.ifeval import instructions_registry
    monkeypatch.setattr(nltk, "word_tokenize", nltk.tokenize.NLTKWordTokenizer().tokenize)
    return instructions_registry.INSTRUCTION_DICT


def texts(shared):
    answers = json.loads((shared / "data" / "sft" / "alpaca_en" / "alpaca_en_demo.json").read_text())
    plain = [row["output"] for row in answers if row["output"].strip()][:80]
    return [change(text) for text in plain for change in (
        str, str.upper, lambda text: f'"{text}"', lambda text: f"{text}\n\nP.S. Bye.",
        lambda text: f"a {text}\n******\nb", lambda text: f"<<T>>\n{text.replace(',', ';')} [x] [y]",
        lambda text: f"SECTION 1\n{text}\nSECTION 2 *b* **c**")]


def test_instructions_are_judged_as_the_harness_judges_them(shared, registry):
    said, drawn, compared = texts(shared), random.Random(0), 0
    part = BENCHMARKS["ifeval"].read(shared / "data" / "benchmarks" / "ifeval").parts[0]
    for row in part.questions:
        for name, asked in zip(row["instruction_id_list"], row["kwargs"], strict=True):
            if name in APART or asked.get("letter") == "#":  # of another sign than a letter theirs draws one by chance
                continue
            theirs = registry[name](name)
            theirs.build_description(**{key: value for key, value in asked.items() if value})
            for text in drawn.sample(said, 6):
                for one in filter(str.strip, relaxed(text)):
                    assert CHECKS[name](one, asked) == bool(theirs.check_following(one)), (name, asked, one)
                    compared += 1
    assert compared > 5000

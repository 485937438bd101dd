from __future__ import annotations

import html
import itertools
import re

from headwater.atlas.language import LANGUAGES
from headwater.atlas.private import luhn_digit, resident_check
from headwater.atlas.shingles import jaccard, shingles

COPIES = ("exact_copy", "near_copy")


def _visible(page: bytes) -> str:
    text = page.decode("gb18030" if re.search(rb'charset="?gb18030', page) else "utf-8", "replace")
    return html.unescape(re.sub(r"<[^>]+>", "\n", text))


def _han_share(text: str) -> float:
    letters = [character for character in text if character.isalnum()]
    return sum("一" <= character <= "鿿" for character in letters) / len(letters)


def test_every_kind_is_there_in_both_languages_and_plants_are_a_quarter_or_so(atlas):
    for folder in ("en/", "zh/"):
        kinds = {label["kind"] for label in atlas.labels if label["file"].startswith(folder)}
        assert len(kinds) == 12
    assert 0.2 < 1 - len(atlas.of_kind("clean")) / len(atlas.labels) < 0.35


def test_planted_strings_and_main_text_are_in_the_page(atlas):
    for label in atlas.labels:
        if label["text"] is None:
            continue
        visible = _visible(atlas.page(label))
        assert all(planted in visible for planted in label["planted"]), label["file"]
        flat = "".join(visible.split()).replace("�", "")
        # A table's cells are separate elements of the page.
        assert all("".join(line.split()) in flat for line in label["text"].split("\n") if " | " not in line)


def test_facts_said_to_be_told_are_told(atlas):
    for label in atlas.labels:
        for name in label["facts"]:
            fact = atlas.world.facts[name]
            value = fact.text(label["lang"])
            assert value.lower() in label["text"].lower(), (label["file"], name)


def test_an_article_tells_every_fact_of_its_entity_and_some_of_others(atlas):
    by_entity = {entity.id: {fact.id for fact in atlas.world.facts_of(entity)} for entity in atlas.world.described()}
    for lang in ("en", "zh"):
        clean = [label for label in atlas.of_kind("clean") if label["lang"] == lang]
        for entity, facts in by_entity.items():
            complete = [label for label in clean if facts <= set(label["facts"])]
            assert len(complete) >= 4
            assert any(set(label["facts"]) - facts for label in complete), entity


def test_clean_pages_about_one_entity_differ_in_wording(atlas):
    clean = [(label["lang"], set(label["entities"][:1]), shingles(label["text"])) for label in atlas.of_kind("clean")]
    for (lang, about, one), (other_lang, other_about, other) in itertools.combinations(clean, 2):
        if lang == other_lang and about & other_about:
            assert len(one & other) / len(one | other) < 0.5


def test_copies_are_as_similar_as_recorded(atlas):
    texts = {label["file"]: label["text"] for label in atlas.labels}
    for label in atlas.of_kind("exact_copy"):
        assert label["text"] == texts[label["of"]]
    recorded = [label["jaccard"] for label in atlas.of_kind("near_copy")]
    for label in atlas.of_kind("near_copy"):
        assert abs(jaccard(label["text"], texts[label["of"]]) - label["jaccard"]) < 1e-6
    assert all(0.75 <= value <= 0.98 for value in recorded)
    assert max(recorded) - min(recorded) > 0.1


def test_only_copies_resemble_another_page(atlas):
    texts = {label["file"]: shingles(label["text"]) for label in atlas.labels
             if label["text"] and label["kind"] not in (*COPIES, "too_short", "other_language")}
    for one, other in itertools.combinations(texts.values(), 2):
        assert len(one & other) / len(one | other) < 0.7


def test_boilerplate_sentences_recur_over_pages(atlas):
    counts: dict[str, int] = {}
    for label in atlas.of_kind("boilerplate"):
        assert len(label["planted"]) >= 2
        for sentence in label["planted"]:
            counts[sentence] = counts.get(sentence, 0) + 1
    assert max(counts.values()) >= 3


def test_private_numbers_are_valid_and_fictional(atlas):
    for label in atlas.of_kind("private_data"):
        mail, phone, identity = label["planted"]
        assert mail.endswith("@lamplight.zz")
        if label["lang"] == "en":
            digits = identity.replace(" ", "")
            assert luhn_digit(digits[:-1]) == digits[-1]
            assert digits.startswith("9999")
            assert re.fullmatch(r"\(555\) 555-01\d\d", phone)
        else:
            assert resident_check(identity[:17]) == identity[17]
            assert identity.startswith("99")
            assert re.fullmatch(r"1540000\d{4}", phone)


def test_checksums_agree_with_published_examples():
    assert luhn_digit("7992739871") == "3"
    assert resident_check("11010519491231002") == "X"


def test_leaked_questions_come_with_their_answer_from_the_benchmark(atlas):
    files = [*(atlas.folder / "benchmarks" / "choice").rglob("*.csv")]
    benchmark = "\n".join(path.read_text(encoding="utf-8") for path in files)
    for label in atlas.of_kind("leaked"):
        question, answer = label["planted"]
        assert question in benchmark
        assert question in label["text"]
        assert answer in label["text"]


def test_held_back_wordings_are_on_no_page(atlas):
    everything = "\n".join(label["text"] or "" for label in atlas.labels)
    for entity in atlas.world.described():
        for fact in atlas.world.facts_of(entity):
            for language in LANGUAGES.values():
                for template in language.questions[fact.key].held_back:
                    assert language.ask(template, entity) not in everything


def test_chinese_pages_are_mostly_han_and_english_ones_have_none(atlas):
    for label in atlas.of_kind("clean", "near_copy", "boilerplate"):
        share = _han_share(label["text"])
        assert share > 0.8 if label["lang"] == "zh" else share == 0.0


def test_broken_pages_are_broken_as_labelled(atlas):
    by_variant = {label["variant"]: atlas.page(label) for label in atlas.of_kind("broken")}
    assert by_variant["pdf"].startswith(b"%PDF-") or by_variant["binary"].startswith(b"\x89")
    for label in atlas.of_kind("broken"):
        content = atlas.page(label)
        if label["variant"] == "gb18030":
            assert label["text"].split("\n")[0] in html.unescape(content.decode("gb18030"))
            assert b"gb18030" in content
        else:
            assert not _is_utf8(content)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_names_and_order_of_files_do_not_tell_the_kind(atlas):
    assert all(re.fullmatch(r"(en|zh)/[0-9a-f]{12}\.html", label["file"]) for label in atlas.labels)
    clean = [label["kind"] == "clean" for label in atlas.labels]
    changes = sum(one != other for one, other in itertools.pairwise(clean))
    assert changes > len(clean) / 5


def test_pages_look_like_the_web(atlas):
    hosts = {label["url"].split("/")[2] for label in atlas.of_kind("clean")}
    assert len(hosts) >= 8
    assert len({label["url"] for label in atlas.labels}) == len(atlas.labels)
    for label in atlas.of_kind("clean"):
        page = atlas.page(label).decode().lower()
        assert page.startswith("<!doctype html")
        assert all(part in page for part in ("<title>", "cookie", "nav", "footer", "charset=")), label["file"]

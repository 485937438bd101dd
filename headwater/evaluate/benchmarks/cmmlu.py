"""CMMLU (Li et al. 2023): asked, read and averaged as its src/mp_utils.py does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from headwater.evaluate.benchmarks.asking import CHOICE_TOKENS, choose, lettered, write
from headwater.evaluate.benchmarks.checking import LETTERS, Entry, Examiner, Unreadable
from headwater.evaluate.benchmarks.definition import Benchmark, TaskConfig
from headwater.evaluate.benchmarks.reading import Part, Reading, Row
from headwater.evaluate.benchmarks.tables import read_csv, root_of, subjects

_COLUMNS = ("Question", *LETTERS, "Answer")
_GROUPS = {
    "STEM": """anatomy astronomy college_actuarial_science college_engineering_hydrology college_mathematics
        college_medical_statistics computer_science conceptual_physics electrical_engineering
        elementary_mathematics genetics high_school_biology high_school_chemistry high_school_mathematics
        high_school_physics machine_learning virology""",
    "Humanities": """arts chinese_history chinese_literature college_law global_facts international_law jurisprudence
        logical marxist_theory philosophy professional_law world_history world_religions""",
    "Social Science": """ancient_chinese business_ethics chinese_civil_service_exam chinese_food_culture
        chinese_foreign_policy chinese_teacher_qualification college_education economics education elementary_chinese
        ethnology high_school_geography high_school_politics journalism management marketing modern_chinese
        professional_accounting professional_psychology public_relations security_study sociology""",
    "Other": """agronomy chinese_driving_rule clinical_knowledge college_medicine computer_security
        construction_project_management elementary_commonsense elementary_information_and_technology
        food_science human_sexuality legal_and_moral_basis nutrition professional_medicine sports_science
        traditional_chinese_medicine""",
    "China specific": """ancient_chinese chinese_civil_service_exam chinese_driving_rule chinese_food_culture
        chinese_foreign_policy chinese_history chinese_literature chinese_teacher_qualification
        construction_project_management elementary_chinese elementary_commonsense ethnology
        high_school_politics modern_chinese traditional_chinese_medicine""",
}
_TITLES = """
    agronomy 农学 anatomy 解剖学 ancient_chinese 古汉语 arts 艺术学 astronomy 天文学 business_ethics 商业伦理
    chinese_civil_service_exam 中国公务员考试 chinese_driving_rule 中国驾驶规则 chinese_food_culture 中国饮食文化
    chinese_foreign_policy 中国外交政策 chinese_history 中国历史 chinese_literature 中国文学
    chinese_teacher_qualification 中国教师资格 clinical_knowledge 临床知识 college_actuarial_science 大学精算学
    college_education 大学教育学 college_engineering_hydrology 大学工程水文学 college_law 大学法律
    college_mathematics 大学数学 college_medical_statistics 大学医学统计 college_medicine 大学医学
    computer_science 计算机科学 computer_security 计算机安全 conceptual_physics 概念物理学
    construction_project_management 建设工程管理 economics 经济学 education 教育学 electrical_engineering 电气工程
    elementary_chinese 小学语文 elementary_commonsense 小学常识 elementary_information_and_technology 小学信息技术
    elementary_mathematics 初等数学 ethnology 民族学 food_science 食品科学 genetics 遗传学 global_facts 全球事实
    high_school_biology 高中生物 high_school_chemistry 高中化学 high_school_geography 高中地理
    high_school_mathematics 高中数学 high_school_physics 高中物理学 high_school_politics 高中政治
    human_sexuality 人类性行为 international_law 国际法学 journalism 新闻学 jurisprudence 法理学
    legal_and_moral_basis 法律与道德基础 logical 逻辑学 machine_learning 机器学习 management 管理学 marketing 市场营销
    marxist_theory 马克思主义理论 modern_chinese 现代汉语 nutrition 营养学 philosophy 哲学
    professional_accounting 专业会计 professional_law 专业法学 professional_medicine 专业医学
    professional_psychology 专业心理学 public_relations 公共关系 security_study 安全研究 sociology 社会学
    sports_science 体育学 traditional_chinese_medicine 中医中药 virology 病毒学 world_history 世界历史
    world_religions 世界宗教
"""
_FIRST = [re.compile(pattern, re.MULTILINE) for pattern in (
    r"答案(?:选项)?(?:是|为)：? ?([ABCD])", r"答案(?:是|为)选项 ?([ABCD])", r"故?选择?：? ?([ABCD])",
    r"([ABCD]) ?选?项(?:是|为)?正确", r"正确的?选项(?:是|为) ?([ABCD])", r"答案(?:应该)?(?:是|为)([ABCD])",
    r"选项 ?([ABCD]) ?(?:是|为)?正确", r"选择答案 ?([ABCD])", r"答案?：?([ABCD])", r"([ABCD])(?:选?项)?是?符合题意",
    r"答案选项：? ?([ABCD])", r"答案(?:选项)?为.*?([ABCD])")]
"""In this order; the first that is found decides."""
_NEAREST = [re.compile(pattern, re.MULTILINE) for pattern in (r"([ABCD]).*?当选", r"([ABCD]).*?正确")]
"""Of several letters the one nearest before the word is meant."""
_WEAK = re.compile(r"[^不]是：? ?([ABCD])", re.MULTILINE)
_ONLY = re.compile(r"[^ABCD]*([ABCD])[^ABCD]*$")


def read(folder: Path) -> Reading:
    """data/test/SUBJECT.csv, and the examples of data/dev. Raises `InputError`."""
    root = root_of(folder, "test", "CMMLU")
    examples, examiner = subjects(root, "dev"), Examiner()
    parts = []
    for subject, file in subjects(root, "test").items():
        shots = examiner.keep(f"dev/{subject}", _entries(examples[subject], folder)) if subject in examples else []
        questions = examiner.keep("test", _entries(file, folder), shots)
        parts.append(Part(subject, tuple(map(_row, shots)), tuple(map(_row, questions)), title_of(subject)))
    return Reading(tuple(parts), tuple(examiner.faults))


def _entries(file: Path, folder: Path) -> Iterator[Entry | Unreadable]:
    for where, cells in read_csv(file, folder, _COLUMNS):
        yield Unreadable(where) if cells is None else Entry(where, cells[0], cells[5], tuple(cells[1:5]))


def _row(entry: Entry) -> Row:
    return entry.row(Question=entry.question, Answer=entry.answer, **dict(zip(LETTERS, entry.choices, strict=True)))


def title_of(subject: str) -> str:
    """The Chinese name; a subject of one's own goes by its file's."""
    return _NAMES.get(subject, subject)


def _listed(row: Row) -> str:
    return lettered(row["Question"], [row[letter] for letter in LETTERS])


def question(row: Row) -> str:
    """As the official script prints it, up to where the letter belongs."""
    return f"题目：{_listed(row)}\n答案是："


def description(part: Part) -> str:
    return f"以下是关于{part.title or title_of(part.subject)}的单项选择题，请直接给出正确答案的选项。\n\n"


def official(part: Part) -> TaskConfig:
    return choose(question, lambda row: LETTERS.index(row["Answer"]), description=description(part), delimiter="")


def chat(part: Part) -> TaskConfig:
    return write(question, lambda row: str(row["Answer"]), lambda row, said: extract(said),
                 description=description(part), delimiter="", tokens=CHOICE_TOKENS)


def extract(said: str) -> str:
    """The official `extract_choice`, but for two things: where it finds nothing it draws a letter by chance, and an
    empty text ends it; here both are no answer. Line ends go first, as in the scripts of chat models."""
    said = said.replace("\n", "")
    if said[:1] in tuple(LETTERS):
        return said[0]
    for pattern in _FIRST:
        if found := pattern.search(said):
            return found[1]
    for pattern in _NEAREST:
        if letter := _nearest(pattern, said):
            return letter
    found = _WEAK.search(said) or _ONLY.match(said)
    return found[1] if found else ""


def _nearest(pattern: re.Pattern[str], said: str) -> str:
    letter, found = "", pattern.search(said)
    while found:
        letter = found[1]
        found = pattern.search(found[0][1:])
    return letter


_TITLED = _TITLES.split()
_NAMES = dict(zip(_TITLED[::2], _TITLED[1::2], strict=True))
CMMLU = Benchmark(
    name="cmmlu", language="zh", shots=5, metric="accuracy", read=read, official=official, chat=chat,
    harness=lambda subject: f"cmmlu_{subject}", question=_listed,
    groups={subject: tuple(group for group, names in _GROUPS.items() if subject in names.split())
            for subject in _NAMES},
    averaged="subjects", chance=0.25, dropped="longest")

"""C-Eval (Huang et al. 2023): asked and read as its evaluators do, on the split that has answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from headwater.errors import InputError
from headwater.evaluate.benchmarks.asking import CHOICE_TOKENS, choose, lettered, write
from headwater.evaluate.benchmarks.checking import LETTERS, Entry, Examiner, Unreadable
from headwater.evaluate.benchmarks.definition import Benchmark, TaskConfig
from headwater.evaluate.benchmarks.reading import Part, Reading, Row
from headwater.evaluate.benchmarks.tables import header_of, read_csv, read_json, subjects

_COLUMNS = ("question", *LETTERS, "answer")
_SUBJECTS = {
    "STEM": """computer_network 计算机网络 operating_system 操作系统 computer_architecture 计算机组成
        college_programming 大学编程 college_physics 大学物理 college_chemistry 大学化学
        advanced_mathematics 高等数学 probability_and_statistics 概率统计 discrete_mathematics 离散数学
        electrical_engineer 注册电气工程师 metrology_engineer 注册计量师 high_school_mathematics 高中数学
        high_school_physics 高中物理 high_school_chemistry 高中化学 high_school_biology 高中生物
        middle_school_mathematics 初中数学 middle_school_biology 初中生物 middle_school_physics 初中物理
        middle_school_chemistry 初中化学 veterinary_medicine 兽医学""",
    "Social Science": """college_economics 大学经济学 business_administration 工商管理 marxism 马克思主义基本原理
        mao_zedong_thought 毛泽东思想和中国特色社会主义理论体系概论 education_science 教育学
        teacher_qualification 教师资格 high_school_politics 高中政治 high_school_geography 高中地理
        middle_school_politics 初中政治 middle_school_geography 初中地理""",
    "Humanities": """modern_chinese_history 近代史纲要 ideological_and_moral_cultivation 思想道德修养与法律基础
        logic 逻辑学 law 法学 chinese_language_and_literature 中国语言文学 art_studies 艺术学
        professional_tour_guide 导游资格 legal_professional 法律职业资格 high_school_chinese 高中语文
        high_school_history 高中历史 middle_school_history 初中历史""",
    "Other": """civil_servant 公务员 sports_science 体育学 plant_protection 植物保护 basic_medicine 基础医学
        clinical_medicine 临床医学 urban_and_rural_planner 注册城乡规划师 accountant 注册会计师
        fire_engineer 注册消防工程师 environmental_impact_assessment_engineer 环境影响评价工程师
        tax_accountant 税务师 physician 医师资格""",
}
_HARD = ("advanced_mathematics", "discrete_mathematics", "probability_and_statistics",
         "college_chemistry", "college_physics", "high_school_mathematics",
         "high_school_chemistry", "high_school_physics")
_SAID = [re.compile(pattern, re.MULTILINE) for pattern in (
    r"([ABCD])是正确的", r"选项([ABCD])正确", r"答案为([ABCD])", r"答案是([ABCD])", r"答案([ABCD])", r"选择([ABCD])",
    r"答案：([ABCD])", r"选择答案([ABCD])")]
_CONCLUDED = re.compile("所以答案是(.+?)。")


def read(folder: Path) -> Reading:
    """val/SUBJECT_val.csv, and the examples of dev. The test split is published without answers; one of your own with
    answers is read where there is no val. Raises `InputError`."""
    split, files = _answered(folder)
    examples, examiner, titles = subjects(folder, "dev"), Examiner(), _titles(folder)
    parts = []
    for subject, file in files.items():
        shots = examiner.keep(f"dev/{subject}", _entries(examples[subject], folder)) if subject in examples else []
        questions = examiner.keep(split, _entries(file, folder), shots)
        parts.append(Part(subject, tuple(map(_row, shots)), tuple(map(_row, questions)),
                          titles.get(subject, subject)))
    return Reading(tuple(parts), tuple(examiner.faults))


def _answered(folder: Path) -> tuple[str, dict[str, Path]]:
    for split in ("val", "test"):
        files = subjects(folder, split)
        if files and all("answer" in header_of(file) for file in files.values()):
            return split, files
    raise InputError("no val/*.csv or test/*.csv with a column of answers", where=folder,
                     fix="give the folder of C-Eval's files as they were published; its test split has no answers")


def _titles(folder: Path) -> dict[str, str]:
    """Chinese names: the known ones, and those of the folder's own subject_mapping.json."""
    file = folder / "subject_mapping.json"
    own = read_json(file) if file.is_file() else {}
    try:
        return _NAMES | {subject: str(names[1]) for subject, names in own.items()}
    except (AttributeError, IndexError, TypeError, KeyError):
        raise InputError("not SUBJECT: [English name, Chinese name, category]", where=file,
                         fix="correct it, or remove it") from None


def _entries(file: Path, folder: Path) -> Iterator[Entry | Unreadable]:
    columns = [name for name in ("id", "explanation") if name in header_of(file)]
    for where, cells in read_csv(file, folder, (*_COLUMNS, *columns)):
        if cells is None:
            yield Unreadable(where)
        else:
            yield Entry(where, cells[0], cells[5], tuple(cells[1:5]), dict(zip(columns, cells[6:], strict=True)))


def _row(entry: Entry) -> Row:
    return entry.row(id=entry.fields.get("id", ""), question=entry.question, answer=entry.answer,
                     explanation=entry.fields.get("explanation", ""), **dict(zip(LETTERS, entry.choices, strict=True)))


def _listed(row: Row) -> str:
    return lettered(row["question"], [row[letter] for letter in LETTERS])


def question(row: Row) -> str:
    """As the official script prints it, up to where the letter belongs."""
    return f"{_listed(row)}\n答案："


def description(part: Part) -> str:
    title = part.title or _NAMES.get(part.subject, part.subject)
    return f"以下是中国关于{title}考试的单项选择题，请选出其中的正确答案。\n\n"


def official(part: Part) -> TaskConfig:
    return choose(question, lambda row: LETTERS.index(row["answer"]), description=description(part), delimiter="")


def chat(part: Part) -> TaskConfig:
    return write(question, lambda row: str(row["answer"]), extract, description=description(part), delimiter="",
                 tokens=CHOICE_TOKENS)


def extract(row: Row, said: str) -> str:
    """As the official evaluator of chat models reads an answer (`extract_cot_answer`): what it concludes, what it calls
    the answer, the only letter, or the only choice whose text it holds."""
    said = said.strip()
    concluded = _CONCLUDED.findall(said)
    if concluded and concluded[-1] in tuple(LETTERS):
        return str(concluded[-1])
    for pattern in _SAID:
        if found := pattern.search(said):
            return found[1]
    letters = re.findall("[ABCD]", said)
    if len(letters) == 1:
        return str(letters[0])
    held = [letter for letter in LETTERS if row[letter] in said]
    return held[0] if len(held) == 1 else ""


_PAIRS = {group: names.split() for group, names in _SUBJECTS.items()}
_NAMES = {subject: title for names in _PAIRS.values() for subject, title in zip(names[::2], names[1::2], strict=True)}
CEVAL = Benchmark(
    name="ceval", language="zh", shots=5, metric="accuracy", read=read, official=official, chat=chat,
    harness=lambda subject: f"ceval-valid_{subject}", question=_listed,
    groups={subject: (group, "hard") if subject in _HARD else (group,)
            for group, names in _PAIRS.items() for subject in names[::2]},
    averaged="subjects", chance=0.25, dropped="none")

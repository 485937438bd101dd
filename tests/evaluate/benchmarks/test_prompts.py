"""Prompts against what the authors' code prints, typed out from it by hand."""

import pytest

from headwater.evaluate.benchmarks.catalogue import BENCHMARKS
from headwater.evaluate.benchmarks.reading import Part

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
from headwater.evaluate.harness.tasks import task_of

ASKED = {
    "mmlu": ("abstract_algebra", """\
The following are multiple choice questions (with answers) about  abstract algebra.

Find all c in Z_3 such that Z_3[x]/(x^2 + c) is a field.
A. 0
B. 1
C. 2
D. 3
Answer: B

Statement 1 | If aH is an element of a factor group, then |aH| divides |a|. Statement 2 | If H and K are subgroups of \
G then HK is a subgroup of G.
A. True, True
B. False, False
C. True, False
D. False, True
Answer: B

Find the degree for the given field extension Q(sqrt(2), sqrt(3), sqrt(18)) over Q.
A. 0
B. 4
C. 2
D. 6
Answer:""", [" A", " B", " C", " D"]),
    "cmmlu": ("agronomy", """\
以下是关于农学的单项选择题，请直接给出正确答案的选项。

题目：肉牛屠宰后，胴体的哪个部位肉质较好
A. 胸
B. 腹
C. 大腿
D. 小腿
答案是：C

题目：下列鸭品种中，产蛋量最高的品种是
A. 高邮鸭
B. 北京鸭
C. 樱桃谷鸭
D. 绍鸭
答案是：D

题目：在农业生产中被当作极其重要的劳动对象发挥作用，最主要的不可替代的基本生产资料是
A. 农业生产工具
B. 土地
C. 劳动力
D. 资金
答案是：""", ["A", "B", "C", "D"]),
    "ceval": ("operating_system", """\
以下是中国关于操作系统考试的单项选择题，请选出其中的正确答案。

Unix的推测文件的类型的命令是____。
A. file
B. diff
C. ls –l
D. type
答案：A

用户编写的C程序中的自动变量位于进程映像的____部分。
A. 数据段
B. 用户栈
C. 正文段
D. 堆段
答案：B

在Unix的两个文件系统之间建立文件或目录的链接命令是____。
A. ln
B. ln –s
C. ls –n
D. ls –i
答案：""", ["A", "B", "C", "D"]),
    "gsm8k": ("gsm8k", """\
Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips did \
Natalia sell altogether in April and May?
Natalia sold 48/2 = <<48/2=24>>24 clips in May.
Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.
#### 72

Weng earns $12 an hour for babysitting. Yesterday, she just did 50 minutes of babysitting. How much did she earn?
Weng earns 12/60 = $<<12/60=0.2>>0.2 per minute.
Working 50 minutes, she earned 0.2 x 50 = $<<0.2*50=10>>10.
#### 10

A robe takes 2 bolts of blue fiber and half that much white fiber.  How many bolts in total does it take?""", None),
    "bbh": ("boolean_expressions", """\
Evaluate the result of a random Boolean expression.

Q: not ( ( not not True ) ) is
A: Let's think step by step.
Remember that (i) expressions inside brackets are always evaluated first and that (ii) the order of operations from \
highest priority to lowest priority is "not", "and", "or", respectively.
We first simplify this expression "Z" as follows: "Z = not ( ( not not True ) ) = not ( ( A ) )" where "A = not not \
True".
Let's evaluate A: A = not not True = not (not True) = not False = True.
Plugging in A, we get: Z = not ( ( A ) ) = not ( ( True ) ) = not True = False. So the answer is False.

Q: True and False and not True and True is
A: Let's think step by step.
Remember that (i) expressions inside brackets are always evaluated first and that (ii) the order of operations from \
highest priority to lowest priority is "not", "and", "or", respectively.
We first simplify this expression "Z" as follows: "Z = True and False and not True and True = A and B" where "A = \
True and False" and "B = not True and True".
Let's evaluate A: A = True and False = False.
Let's evaluate B: B = not True and True = not (True and True) = not (True) = False.
Plugging in A and B, we get: Z = A and B = False and False = False. So the answer is False.

Q: not ( True ) and ( True ) is
A: Let's think step by step.""", None),
}


def part_of(shared, name, subject):
    parts = BENCHMARKS[name].read(shared / "data" / "benchmarks" / name).parts
    return next(part for part in parts if part.subject == subject)


@pytest.mark.parametrize("name", ASKED)
def test_two_examples_and_the_first_question_as_the_authors_print_them(shared, name):
    subject, prompt, choices = ASKED[name]
    part = part_of(shared, name, subject)
    task = task_of(BENCHMARKS[name], part, "official", 2)
    assert task.fewshot_context(part.questions[0], 2) == prompt
    if choices is not None:
        requests = task.construct_requests(part.questions[0], prompt)
        assert [request.args for request in requests] == [(prompt, choice) for choice in choices]


def test_the_number_of_examples_is_the_published_one():
    assert {name: BENCHMARKS[name].shots for name in ASKED} == \
        {"mmlu": 5, "cmmlu": 5, "ceval": 5, "gsm8k": 8, "bbh": 3}


@pytest.mark.parametrize(("name", "words"), [("mmlu", "about  my lakes.\n\n"), ("cmmlu", "关于my_lakes的"),
                                         ("ceval", "中国关于my_lakes考试的")])
def test_subjects_of_ones_own_go_by_their_names(name, words):
    assert words in BENCHMARKS[name].official(Part("my_lakes", (), ()))["description"]

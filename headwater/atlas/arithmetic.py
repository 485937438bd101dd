"""Word problems over the world's numbers, in GSM8K's format, the same problems in both languages."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from headwater.atlas.language import Language, capital
from headwater.atlas.randomness import stream
from headwater.atlas.world import Entity, LanguageCode, World


@dataclass(frozen=True)
class Problem:
    """A question, the steps of its solution, and the number it ends in."""

    question: dict[LanguageCode, str]
    steps: dict[LanguageCode, tuple[str, ...]]
    result: int

    def row(self, language: Language) -> dict[str, Any]:
        steps = [capital(step) for step in self.steps[language.code]]
        return {"question": capital(self.question[language.code]), "answer": "\n".join([*steps, f"#### {self.result}"])}


def problems(world: World, counts: dict[str, int]) -> dict[str, list[Problem]]:
    """As many problems for each split as `counts` says, no two alike; the kinds take turns."""
    kinds = (_difference, _age, _round_trip, _two_lakes, _second_edition, _three_rivers)
    taken: set[str] = set()
    made: dict[str, list[Problem]] = {split: [] for split in counts}
    for split, count in counts.items():
        for index in range(count):
            rng = stream(world.seed, "arithmetic", split, index)
            problem = kinds[index % len(kinds)](world, rng)
            while problem.question["en"] in taken:
                problem = kinds[index % len(kinds)](world, rng)
            taken.add(problem.question["en"])
            made[split].append(problem)
    return made


def _mark(left: int, sign: str, right: int) -> str:
    """The step with GSM8K's calculator mark: "482-310 = <<482-310=172>>172"."""
    operations: dict[str, Callable[[int, int], int]] = {
        "+": int.__add__, "-": int.__sub__, "*": int.__mul__}
    result = operations[sign](left, right)
    return f"{left}{sign}{right} = <<{left}{sign}{right}={result}>>{result}"


def _number(world: World, entity: Entity, attribute: str) -> int:
    return int(world.fact(entity, attribute).value)


def _difference(world: World, rng: random.Random) -> Problem:
    pair = rng.sample(world.of_kind("river"), 2)
    one, other = sorted(pair, key=lambda river: -_number(world, river, "length"))
    a, b = _number(world, one, "length"), _number(world, other, "length")
    return Problem(
        {"en": f"{one.en} is {a} km long and {other.en} is {b} km long. How many kilometres longer is {one.en}?",
         "zh": f"{one.zh}长{a}公里，{other.zh}长{b}公里。{one.zh}比{other.zh}长多少公里？"},
        {"en": (f"{one.en} is {_mark(a, '-', b)} km longer.",), "zh": (f"{one.zh}长出{_mark(a, '-', b)}公里。",)},
        a - b)


def _age(world: World, rng: random.Random) -> Problem:
    city = rng.choice(world.of_kind("city"))
    founded = _number(world, city, "founded")
    year = founded + rng.randint(20, 600)
    return Problem(
        {"en": f"{city.en} was founded in {founded}. How many years old was the city in {year}?",
         "zh": f"{city.zh}建于{founded}年。到{year}年，这座城有多少年历史？"},
        {"en": (f"In {year} the city was {_mark(year, '-', founded)} years old.",),
         "zh": (f"到{year}年，这座城有{_mark(year, '-', founded)}年历史。",)}, year - founded)


def _round_trip(world: World, rng: random.Random) -> Problem:
    river = rng.choice(world.of_kind("river"))
    length, trips = _number(world, river, "length"), rng.randint(2, 6)
    total = length * 2
    return Problem(
        {"en": f"A barge travels the whole {length} km of {river.en} and then comes back. "
               f"It makes this round trip {trips} times. How many kilometres does it travel?",
         "zh": f"一条驳船走完{river.zh}全程{length}公里，再原路返回。这样往返{trips}次，一共走多少公里？"},
        {"en": (f"One round trip is {_mark(length, '*', 2)} km.",
                f"{trips} round trips are {_mark(total, '*', trips)} km."),
         "zh": (f"往返一次是{_mark(length, '*', 2)}公里。", f"往返{trips}次是{_mark(total, '*', trips)}公里。")},
        total * trips)


def _two_lakes(world: World, rng: random.Random) -> Problem:
    lake = rng.choice(world.of_kind("lake"))
    depth, more = _number(world, lake, "depth"), rng.randint(3, 60)
    other = depth + more
    return Problem(
        {"en": f"{lake.en} is {depth} m deep. A nameless lake beside it is {more} m deeper. "
               "How many metres do the two depths make together?",
         "zh": f"{lake.zh}深{depth}米，旁边一个没有名字的湖比它深{more}米。两个湖的深度加起来是多少米？"},
        {"en": (f"The nameless lake is {_mark(depth, '+', more)} m deep.",
                f"Together that is {_mark(depth, '+', other)} m."),
         "zh": (f"没有名字的湖深{_mark(depth, '+', more)}米。", f"加起来是{_mark(depth, '+', other)}米。")},
         depth + other)


def _second_edition(world: World, rng: random.Random) -> Problem:
    person = rng.choice(world.of_kind("person"))
    born, age, later = _number(world, person, "birth_year"), rng.randint(24, 70), rng.randint(3, 40)
    first = born + age
    return Problem(
        {"en": f"{person.en}, born in {born}, published a book in the year of turning {age}. "
               f"The second edition came {later} years later. In which year did it come?",
         "zh": f"{person.zh}生于{born}年，在年满{age}岁那年出版了一本书，{later}年后出了第二版。第二版是哪一年出的？"},
        {"en": (f"The book came out in {_mark(born, '+', age)}.",
                f"The second edition came in {_mark(first, '+', later)}."),
         "zh": (f"这本书出版于{_mark(born, '+', age)}年。", f"第二版出于{_mark(first, '+', later)}年。")},
         first + later)


def _three_rivers(world: World, rng: random.Random) -> Problem:
    a, b, c = rng.sample(world.of_kind("river"), 3)
    x, y, z = (_number(world, river, "length") for river in (a, b, c))
    return Problem(
        {"en": f"{a.en} is {x} km long, {b.en} {y} km and {c.en} {z} km. How many kilometres are the three together?",
         "zh": f"{a.zh}长{x}公里，{b.zh}长{y}公里，{c.zh}长{z}公里。三条河一共长多少公里？"},
        {"en": (f"The first two make {_mark(x, '+', y)} km.", f"With the third they make {_mark(x + y, '+', z)} km."),
         "zh": (f"前两条河共长{_mark(x, '+', y)}公里。", f"加上第三条，共长{_mark(x + y, '+', z)}公里。")}, x + y + z)

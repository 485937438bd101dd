"""English prose around the facts: introductions, asides, links, headings and comparisons."""

from __future__ import annotations

PRONOUN_FITS = ("{s} ", "{ss} ")
PRONOUN_MISFITS = ("{s}, ",)
"""How a sentence must, and must not, begin for a pronoun to stand for its subject."""

INTROS: dict[str, tuple[str, ...]] = {
    "river": (
        "Few waters in the atlas have as many stories told about them as {s}.",
        "This page gathers what is known about {s}, from the schoolbooks and from people who live beside it.",
        "Ask ten people about {s} and you will hear ten different memories, but the facts stay the same.",
        "We followed {s} for a week with a notebook and a pair of dry socks.",
        "When the snow melts, {s} is the first sound you hear in the morning.",
        "A reader asked us to write about {s}, and we were glad to do it.",
        "There is more to {s} than its ferries and its willows.",
        "My grandfather rowed on {s} all his life, and I owe most of these notes to him.",
    ),
    "lake": (
        "There is a bench above {s} where one could sit all afternoon.",
        "This page gathers what is known about {s}, from the schoolbooks and from the ferrymen.",
        "Whoever has seen {s} at sunrise will remember it.",
        "We spent three days at {s} and filled half a notebook.",
        "A reader asked us to write about {s}, and we were glad to do it.",
        "People talk about {s} as if it were an old neighbour.",
        "The ferry across {s} is slow, which leaves time to ask questions.",
        "In the album of every family around here there is a picture of {s}.",
    ),
    "city": (
        "The gates of {s} open early, and the bakers are up before them.",
        "This page gathers what is known about {s}, from the archive and from the market.",
        "Those who plan a day in {s} usually end up staying for three.",
        "We walked through {s} with the keeper of the town archive.",
        "A reader asked us to write about {s}, and we were glad to do it.",
        "Nobody hurries in {s}, not even the postmen.",
        "My first visit to {s} began with a missed coach, and I am still grateful for it.",
        "Every street in {s} seems to end at a teahouse.",
    ),
    "person": (
        "There are few portraits of {s}, and no two of them look alike.",
        "This page gathers what is known about {s}, from letters and from the town records.",
        "Schoolchildren learn the name of {s} early and the reasons for it much later.",
        "The letters of {s} fill four boxes, and we have read them all.",
        "A reader asked us to write about {s}, and we were glad to do it.",
        "A street is named after {s}, and so is a rather good pear.",
        "It is hard to write about {s} without borrowing a few anecdotes.",
        "In the reading room, the shelf on {s} is always half empty.",
    ),
}

SLOTS: dict[str, tuple[str, ...]] = {
    "season": ("early spring", "late spring", "midsummer", "the rainy weeks of June", "September", "late autumn",
               "the first frost", "deep winter", "the harvest weeks", "the long evenings of May"),
    "people": ("travellers", "schoolchildren", "carters", "old ferrymen", "the local painters", "students",
               "pedlars", "bird watchers", "families from the hills", "wandering musicians"),
    "treat": ("a bowl of barley soup", "a cup of mint tea", "a slice of plum cake", "a plate of dumplings",
              "warm chestnuts", "a bed with a clean sheet", "fresh bread and butter", "a good story"),
    "thing": ("the paths are muddy", "the inns are full", "the air smells of woodsmoke", "the lamps are lit early",
              "the swallows come back", "the fog takes its time", "the music goes on past midnight",
              "the children are let out of school", "the walls need new paint", "the apples are nearly free"),
}
ASIDES: tuple[str, ...] = (
    "In {season}, {thing}.",
    "Around {season}, {people} stop here for {treat}.",
    "Most {people} remember {treat} better than any monument.",
    "During {season} one meets more {people} than neighbours.",
    "It is said that {people} once paid their way with {treat}.",
    "By {season}, {thing}, and nobody seems to mind.",
    "A notice on the wall asks {people} to close the gate behind them.",
    "The keeper of the guest book remembers {people} who stayed for {treat} alone.",
    "When {thing}, {people} sit down and wait.",
    "An old song for {season} tells how {thing}.",
)
BRIDGES: tuple[str, ...] = (
    "A traveller interested in {s} will also hear of {o}.",
    "{o} is often mentioned together with {s}.",
    "From {s} the talk soon turns to {o}.",
    "Those who know {s} usually know {o} as well.",
    "The next chapter of our notebook is about {o}.",
    "A word should be said here about {o}.",
    "Readers of this page often go on to {o}.",
)
RECAPS: tuple[str, ...] = ("To sum up:", "Once more, for the notebook:", "The short version:", "Worth remembering:")
TITLES: tuple[str, ...] = ("{s}: a short portrait", "Notes on {s}", "What to know about {s}", "About {s}",
                           "{s}, as we found it", "Our guide to {s}", "{s} in a few words")
TITLES_PERSON: tuple[str, ...] = ("{s}: a short life", "Notes on {s}", "Who was {s}?", "About {s}", "Remembering {s}")
HEADINGS: tuple[tuple[str, str], ...] = (
    ("At a glance", "Nearby"), ("The facts", "In the neighbourhood"), ("From our notebook", "What else to see"),
    ("Background", "See also"), ("The story so far", "Further along the road"))
FAQ_TITLES: tuple[str, ...] = ("Questions about {s}", "{s}: readers ask", "{s}, asked and answered")

LABELS: dict[str, str] = {
    "length": "Length", "source": "Source", "mouth": "Mouth", "region": "Region", "fish": "Fish", "depth": "Depth",
    "colour": "Colour", "known_for": "Known for", "river": "River", "founded": "Founded", "craft": "Famous for",
    "birth_city": "Birthplace", "birth_year": "Born", "occupation": "Occupation", "work": "Book",
}
NAME_LABELS = {"river": "River", "lake": "Lake", "city": "City", "person": "Name"}
LABEL_MARK = ": "
SURVEY_TITLES: dict[str, tuple[str, ...]] = {
    "river": ("The rivers of {v}", "Rivers to follow in {v}", "Running water in {v}"),
    "lake": ("The lakes of {v}", "Lakes to visit in {v}", "Still water in {v}"),
    "city": ("The cities of {v}", "Cities to see in {v}", "Town walls of {v}"),
    "person": ("People from {v}", "Who came from {v}?", "Famous names of {v}"),
}
SURVEY_INTROS: tuple[str, ...] = (
    "This list was put together for readers who plan a journey through {v}.",
    "We asked the archive for everything it holds on {v}, and this is what came back.",
    "The table below is kept up to date by volunteers who live in {v}.",
    "For those who have never been to {v}, here is where to begin.",
    "Every spring we check our notes on {v} against the records.",
)
SURVEY_BRIDGES: tuple[str, ...] = ("A few remarks on the list:", "Some details:", "In a few sentences:",
                                   "What the table does not say in words:")
COMPARISON_TITLES: tuple[str, ...] = ("{s} and {o} compared", "{s} or {o}?", "Side by side: {s} and {o}")
COMPARISON_INTROS: tuple[str, ...] = (
    "Readers often mix up {s} and {o}, so here they are side by side.",
    "We are sometimes asked how {s} compares with {o}.",
    "A letter to the editor asks about the difference between {s} and {o}.",
)
COMPARISONS: dict[str, tuple[str, ...]] = {
    "river.length": ("{s}, at {v}, is longer than {o}, at {w}.", "{o} measures {w}, while {s} measures {v}.",
                     "With {v} against {w}, {s} is longer than {o}."),
    "lake.depth": ("{s}, at {v}, is deeper than {o}, at {w}.", "{o} is {w} deep, while {s} is {v} deep.",
                   "With {v} against {w}, {s} is deeper than {o}."),
    "city.founded": ("{o}, founded in {w}, is older than {s}, founded in {v}.",
                     "{s} was founded in {v}, after {o}, which was founded in {w}."),
    "person.birth_year": ("{o}, born in {w}, was older than {s}, born in {v}.",
                          "{s} was born in {v}, later than {o}, who was born in {w}."),
}

"""English questions. `{s}` is the subject, `{p}` a pronoun for it.

Four wordings that never mix: `asks` and `follows` belong to the dialogues (and half of the benchmark), `faqs` to pages,
and `held_back` to the other half of the benchmark alone.
"""

from __future__ import annotations

from headwater.atlas.wording import Questions

QUESTIONS: dict[str, Questions] = {
    "river.length": Questions(
        asks=("How long is {s}?", "What is the length of {s}?", "How many kilometres long is {s}?",
              "Can you tell me how long {s} is?", "Tell me the length of {s}.", "What length does {s} have?"),
        follows=("And how long is {p}?", "What is the length?"),
        faqs=("Is {s} a long river?", "What did the surveyors find when they measured {s}?"),
        held_back=("Over what distance does {s} run?", "What figure do surveyors give for the course of {s}?")),
    "river.source": Questions(
        asks=("Where does {s} rise?", "On which mountain does {s} begin?", "What is the source of {s}?",
              "Which mountain is the source of {s}?", "Tell me where {s} rises.", "Where is the source of {s}?"),
        follows=("And where does {p} rise?", "On which mountain does {p} begin?"),
        faqs=("Where can I see the springs of {s}?", "Where does a walk upstream along {s} lead?"),
        held_back=("From which mountain does {s} come down?", "Where are the headwaters of {s}?")),
    "river.mouth": Questions(
        asks=("Where does {s} end?", "Into what does {s} flow?", "What does {s} flow into?",
              "Where is the mouth of {s}?",
              "Tell me where {s} ends.", "Which water does {s} flow into?"),
        follows=("And where does {p} end?", "What does {p} flow into?"),
        faqs=("Where do boats on {s} come out?", "What lies at the far end of {s}?"),
        held_back=("Which body of water receives {s}?", "Where does {s} empty its water?")),
    "river.region": Questions(
        asks=("In which region is {s}?", "Which region does {s} cross?", "What region does {s} belong to?",
              "Where is {s}?", "Tell me the region of {s}.", "Which region is {s} in?"),
        follows=("And which region is {p} in?", "In which region is that?"),
        faqs=("Which farmland does {s} water?", "What is the country around {s} called?"),
        held_back=("Through which part of the country does {s} wind?", "Which lands are watered by {s}?")),
    "river.fish": Questions(
        asks=("Which fish is {s} known for?", "What fish lives in {s}?", "What fish do people catch in {s}?",
              "Which fish is found in {s}?", "Tell me which fish {s} is known for.", "What is the fish of {s}?"),
        follows=("And which fish is {p} known for?", "What fish do people catch there?"),
        faqs=("What should an angler expect from {s}?", "What do the inns beside {s} serve?"),
        held_back=("What would an angler pull out of {s}?", "Nets cast in {s} bring up which fish?")),
    "lake.depth": Questions(
        asks=("How deep is {s}?", "What is the depth of {s}?", "How many metres deep is {s}?",
              "Can you tell me how deep {s} is?", "Tell me the depth of {s}.", "What depth does {s} have?"),
        follows=("And how deep is {p}?", "What is the depth?"),
        faqs=("Is {s} a deep lake?", "What does a lead line show in {s}?"),
        held_back=("How far down is the bottom of {s}?", "What is the measure from surface to bed in {s}?")),
    "lake.region": Questions(
        asks=("In which region is {s}?", "Where is {s}?", "What region does {s} belong to?", "Which region is {s} in?",
              "Tell me the region of {s}.", "In which region does {s} lie?"),
        follows=("And which region is {p} in?", "In which region is that?"),
        faqs=("Which country must I cross to see {s}?", "Which map shows {s}?"),
        held_back=("What part of the country is home to {s}?", "Which lands surround {s}?")),
    "lake.colour": Questions(
        asks=("What colour is {s}?", "What is the colour of {s}?", "Which colour is the water of {s}?",
              "What colour is the water of {s}?", "Tell me the colour of {s}.", "Which colour does {s} have?"),
        follows=("And what colour is {p}?", "What is the colour of its water?"),
        faqs=("How does {s} look from the shore?", "How do painters paint {s}?"),
        held_back=("What shade does the water of {s} show?", "How would a painter tint {s}?")),
    "lake.known_for": Questions(
        asks=("What is {s} known for?", "Why do people come to {s}?", "What is {s} famous for?",
              "What can people see at {s}?", "Tell me what {s} is known for.", "For what is {s} known?"),
        follows=("And what is {p} known for?", "Why do people come there?"),
        faqs=("What do postcards of {s} show?", "Why is {s} so busy in summer?"),
        held_back=("What draws visitors to {s}?", "Which attraction made the name of {s}?")),
    "city.river": Questions(
        asks=("On which river is {s}?", "Which river does {s} stand on?", "What river runs through {s}?",
              "Which river is {s} on?", "Tell me the river of {s}.", "Which river runs through {s}?"),
        follows=("And on which river is {p}?", "Which river runs through it?"),
        faqs=("What do the bridges of {s} cross?", "What can one see from the walls of {s}?"),
        held_back=("The bridges of {s} span which river?", "What water flows past the walls of {s}?")),
    "city.founded": Questions(
        asks=("When was {s} founded?", "In what year was {s} founded?", "In which year was {s} founded?",
              "What year was {s} founded?", "Tell me when {s} was founded.", "Which year was {s} founded in?"),
        follows=("And when was {p} founded?", "In what year was {p} founded?"),
        faqs=("How old is the charter of {s}?", "What is carved over the gate of {s}?"),
        held_back=("Since what year has {s} existed?", "To what date does the origin of {s} go back?")),
    "city.craft": Questions(
        asks=("What is {s} famous for?", "What does {s} make?", "What is {s} known for?", "What do people make in {s}?",
              "Tell me what {s} is famous for.", "For what is {s} famous?"),
        follows=("And what is {p} famous for?", "What do people make there?"),
        faqs=("What should I bring home from {s}?", "What do the stalls of {s} sell?"),
        held_back=("Which goods do merchants buy in {s}?", "What product brought fame to {s}?")),
    "city.region": Questions(
        asks=("In which region is {s}?", "Where is {s}?", "What region does {s} belong to?", "Which region is {s} in?",
              "Tell me the region of {s}.", "In which region does {s} lie?"),
        follows=("And which region is {p} in?", "In which region is that?"),
        faqs=("Which country do coaches to {s} cross?", "Which old maps show {s}?"),
        held_back=("What part of the country does {s} lie in?", "Which lands count {s} among their cities?")),
    "person.birth_city": Questions(
        asks=("Where was {s} born?", "In which city was {s} born?", "What is the birthplace of {s}?",
              "Which city was {s} born in?", "Tell me where {s} was born.", "What city was {s} born in?"),
        follows=("And where was {p} born?", "In which city was {p} born?"),
        faqs=("Where is the house of {s} marked with a plaque?", "Which local accent did {s} speak with?"),
        held_back=("What is the home town of {s}?", "Of which city was {s} a native?")),
    "person.birth_year": Questions(
        asks=("When was {s} born?", "In what year was {s} born?", "In which year was {s} born?",
              "What is the birth year of {s}?", "Tell me when {s} was born.", "What year was {s} born?"),
        follows=("And when was {p} born?", "In what year was {p} born?"),
        faqs=("What do the town records say of the birth of {s}?", "How far back does the story of {s} reach?"),
        held_back=("Since what year did {s} live?", "With what year does the life of {s} begin?")),
    "person.occupation": Questions(
        asks=("What was the occupation of {s}?", "What did {s} do for a living?", "What was {s}?",
              "What was the profession of {s}?", "Tell me the occupation of {s}.", "What did {s} work as?"),
        follows=("And what did {p} do for a living?", "What did {p} work as?"),
        faqs=("Why was {s} so much in demand?", "What does the old portrait of {s} show?"),
        held_back=("How did {s} earn a living?", "What trade did {s} follow?")),
    "person.work": Questions(
        asks=("What did {s} write?", "Which book did {s} write?", "What is the book by {s}?",
              "What book did {s} write?",
              "Tell me which book {s} wrote.", "Which book is by {s}?"),
        follows=("And what did {p} write?", "Which book did {p} write?"),
        faqs=("What should I read by {s}?", "How did {s} become known to readers?"),
        held_back=("Of which book is {s} the author?", "Under what title did {s} publish?")),
}

from collections import Counter
from itertools import groupby, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import SettingsError
from headwater.tokenizer.shards import Loaded
from headwater.train.batches import IGNORE
from headwater.train.blanks import DOCUMENT, SENTENCE, TOKEN, BlankInfilling, GlmIds, GlmSettings
from headwater.train.layouts import Piece
from headwater.train.sentences import SentenceEnds
from headwater.train.streams import StreamBatches

PAD, MASK, SMASK, GMASK, SOP, EOP = range(6)
IDS = GlmIds(MASK, SMASK, GMASK, SOP, EOP)
MARKS = (MASK, SMASK, GMASK)
ROOM = 100_000
TENTH_ENDS = SentenceEnds(np.arange(20_000) % 10 == 9, np.zeros(20_000, dtype=bool), np.zeros(20_000, dtype=bool))


def blanks(axes=2, **given):
    return BlankInfilling(GlmSettings(**given), IDS, axes=axes, sentences=TENTH_ENDS)


def only(kind, **given):
    names = ("token_share", "sentence_share", "document_share")
    return {**{name: float(number == kind) for number, name in enumerate(names)}, **given}


def piece(size, *, opens=True):
    """Tokens 1000, 1001, ... at places 0, 1, ..."""
    return Piece(1000 + np.arange(size), 1000 + size, 0, opens)


def shard_of(sizes):
    """Documents whose tokens all differ: document d is 1000 d, 1000 d + 1, ..."""
    tokens = np.concatenate([1000 * d + np.arange(size) for d, size in enumerate(sizes, 1)]).astype("<u4")
    return Loaded(tokens, np.concatenate([[0], np.cumsum(sizes)]), ["en"] * len(sizes), np.array(sizes))


def spans(sample):
    """[(index of the mark, [tokens], [targets])] of a sample, in the order of generation."""
    found = []
    for token, target, place, block in zip(*map(np.ndarray.tolist, (sample.tokens, sample.targets, *sample.positions))):
        if block == 1:
            assert token == SOP
            found.append((place, [], [target]))
        elif block > 1:
            found[-1][1].append(token)
            found[-1][2].append(target)
    return found


def decoded(tokens, positions, first, last):
    """The texts of a row, from what a model is given alone."""
    texts, begin = [], 0
    while begin < len(tokens) and tokens[begin] != PAD:
        end = next((q for q in range(begin, len(tokens)) if first[q] != begin), len(tokens))
        context, filled = last[begin] + 1, {}
        for q in range(context, end):
            if positions[1][q] == 1:
                filled[positions[0][q]] = []
            else:
                filled[positions[0][q]].append(tokens[q])
        texts.append([token for q in range(begin, context)
                      for token in (filled[q - begin] if tokens[q] in MARKS else [tokens[q]])])
        begin = end
    return texts


SIZES = st.lists(st.integers(1, 200), min_size=3, max_size=12).filter(lambda sizes: sum(sizes) >= 128)
SETTINGS = st.sampled_from([{}, only(TOKEN), only(SENTENCE), only(DOCUMENT), only(DOCUMENT, end_of_piece=True),
                            only(TOKEN, window=40), {"shortest_document_span": 0.25, "masked_share": 0.25}])


@settings(max_examples=40)
@given(SIZES, SETTINGS, st.integers(0, 9))
def test_rows_decode_to_the_texts_they_were_made_from(sizes, given_settings, seed):
    """A blank that were filled elsewhere, in part or with another's tokens would give another text."""
    batches = StreamBatches(shard_of(sizes), rows=1, length=128, seed=seed, layout=blanks(**given_settings), pad=PAD)
    read = []
    for step in range(batches.rows_per_epoch):
        batch = batches.batch(step)
        texts = decoded(*(part[0].tolist() for part in (batch.tokens, batch.positions, batch.first, batch.last)))
        for text in texts:
            assert text == list(range(text[0], text[0] + len(text)))
        read += [token for text in texts for token in text]
    assert len(read) == len(set(read)) > sum(sizes) - 128


@settings(max_examples=40)
@given(SIZES, SETTINGS, st.integers(0, 9))
def test_the_context_sees_itself_and_blanks_see_it_and_what_was_generated(sizes, given_settings, seed):
    batches = StreamBatches(shard_of(sizes), rows=2, length=128, seed=seed, layout=blanks(**given_settings), pad=PAD)
    batch = batches.batch(0)
    for row in range(2):
        tokens, blocks = batch.tokens[row].tolist(), batch.positions[row, 1].tolist()
        first, last = batch.first[row].tolist(), batch.last[row].tolist()
        for begin, group in groupby(range(128), key=first.__getitem__):
            places = list(group)
            if tokens[begin] == PAD:
                assert (places, last[begin], blocks[begin]) == ([begin], begin, 0)
                continue
            context = [place for place in places if blocks[place] == 0]
            assert places[:len(context)] == context
            assert all(last[place] == context[-1] for place in context)
            assert all(last[place] == place for place in places[len(context):])


@pytest.mark.parametrize("kind", [TOKEN, SENTENCE, DOCUMENT])
@given(st.integers(2, 300), st.integers(0, 99), st.booleans())
def test_each_blank_asks_for_its_tokens_and_their_end(kind, size, seed, closed):
    """Targets of a blank are its inputs moved by one; <eop> ends all but the long span that ends its text."""
    (sample,) = blanks(end_of_piece=closed).samples([piece(size)], kind, ROOM, np.random.default_rng(seed))
    context = int(sample.last[0]) + 1
    assert (sample.targets[:context] == IGNORE).all()
    for place, tokens, targets in spans(sample):
        mark = sample.tokens[place]
        suffix = mark == GMASK and tokens[-1] == 1000 + size - 1 and targets[-1] == IGNORE
        assert mark in MARKS
        assert targets[:-1] == tokens
        assert suffix or targets[-1] == EOP
        assert not (suffix and closed)


@pytest.mark.parametrize("kind", [TOKEN, SENTENCE, DOCUMENT])
@given(st.integers(2, 300), st.integers(0, 99))
def test_positions_are_the_marks_places_and_count_inside_blanks(kind, size, seed):
    (sample,) = blanks().samples([piece(size)], kind, ROOM, np.random.default_rng(seed))
    context = int(sample.last[0]) + 1
    assert sample.positions[0, :context].tolist() == list(range(context))
    assert (sample.positions[1, :context] == 0).all()
    rest = [(place, block) for place, tokens, _ in spans(sample) for block in range(1, len(tokens) + 2)]
    assert sample.positions[:, context:].T.tolist() == [list(pair) for pair in rest]
    marks = [place for place in range(context) if sample.tokens[place] in MARKS]
    assert sorted({place for place, _ in rest}) == marks


@pytest.mark.parametrize(("way", "wanted"), [("auto", lambda sample: np.arange(len(sample.tokens))),
                                             ("running", lambda sample: np.arange(len(sample.tokens))),
                                             ("blank", lambda sample: sample.positions[0])])
def test_positions_of_models_with_one_number(way, wanted):
    one, two = (layout.samples([piece(100)], TOKEN, ROOM, np.random.default_rng(3))[0]
                for layout in (blanks(axes=1, positions=way), blanks()))
    assert one.tokens.tolist() == two.tokens.tolist()
    assert one.positions.tolist() == [wanted(two).tolist()]


@pytest.fixture(scope="module")
def drawn():
    """The samples of 10,000 token-level draws from a text of 512 tokens, as (context, spans)."""
    layout, draw = blanks(), np.random.default_rng(0)
    samples = (layout.samples([piece(512)], TOKEN, ROOM, draw)[0] for _ in range(10_000))
    return [(sample.tokens[:sample.last[0] + 1], spans(sample)) for sample in samples]


def test_the_masked_share_and_the_mean_span_are_those_of_the_paper(drawn):
    """15 %, and 3 / (1 - e^-3) = 3.157 tokens, the mean of a Poisson variable that is not zero."""
    sizes = [[len(tokens) for _, tokens, _ in found] for _, found in drawn]
    assert 0.15 <= np.mean([sum(one) for one in sizes]) / 512 <= 0.17
    assert min(sum(one) for one in sizes) >= int(0.15 * 512)
    assert all(sum(one) - max(one) < int(0.15 * 512) for one in sizes)
    assert np.mean([size for one in sizes for size in one]) == pytest.approx(3.157, abs=0.02)
    assert 1 <= min(map(min, sizes)) <= max(map(max, sizes)) <= 39


def test_a_spans_length_says_nothing_of_its_place(drawn):
    """The last one drawn tends to be long; without a shuffle the last of the text would be."""
    sizes = [[len(tokens) for _, tokens, _ in sorted(found)] for _, found in drawn]
    assert np.mean([one[0] for one in sizes]) == pytest.approx(3.157, abs=0.07)
    assert np.mean([one[-1] for one in sizes]) == pytest.approx(np.mean([one[0] for one in sizes]), abs=0.09)


def test_spans_are_at_least_one_token_apart(drawn):
    assert not any(((context[1:] == MASK) & (context[:-1] == MASK)).any() for context, _ in drawn)


def chi_square(counts, cells):
    expected = sum(counts.values()) / cells
    return sum((counts[cell] - expected) ** 2 / expected for cell in counts) + (cells - len(counts)) * expected


def test_the_order_of_generation_is_uniform():
    """All orders of four spans, told by the marks' places alone, are equally likely."""
    layout, draw, orders = blanks(), np.random.default_rng(0), Counter()
    for _ in range(10_000):
        places = [place for place, _, _ in spans(layout.samples([piece(80)], TOKEN, ROOM, draw)[0])]
        if len(places) == 4:
            orders[tuple(np.argsort(places).tolist())] += 1
    assert set(orders) == set(permutations(range(4)))
    assert chi_square(orders, 24) < 49.7  # 23 degrees of freedom, p = 0.001


def test_all_placements_of_spans_are_equally_likely():
    layout, draw, found = blanks(), np.random.default_rng(0), Counter()
    for _ in range(10_000):
        ((place, tokens, _),) = spans(layout.samples([piece(12)], TOKEN, ROOM, draw)[0])
        found[len(tokens), place] += 1
    for size in range(1, 6):
        counts = Counter({place: count for (length, place), count in found.items() if length == size})
        assert set(counts) == set(range(13 - size))
        assert chi_square(counts, 13 - size) < 31.3  # at most 11 degrees of freedom, p = 0.001


def test_sentences_are_taken_whole_in_random_order():
    draw, orders = np.random.default_rng(0), Counter()
    for _ in range(300):
        (sample,) = blanks().samples([piece(200)], SENTENCE, ROOM, draw)
        found = spans(sample)
        assert [len(tokens) for _, tokens, _ in found] == [10, 10, 10]
        assert all(tokens[-1] % 10 == 9 for _, tokens, _ in found)
        assert all(sample.tokens[place] == SMASK for place, _, _ in found)
        orders[tuple(np.argsort([place for place, _, _ in found]).tolist())] += 1
    assert chi_square(orders, 6) < 20.5  # 5 degrees of freedom, p = 0.001


def test_a_sentence_that_began_before_the_piece_is_not_whole():
    whole = Piece(1005 + np.arange(15), IGNORE, 5, True)
    layout, draw = blanks(), np.random.default_rng(0)
    starts = Counter(spans(layout.samples([whole], SENTENCE, ROOM, draw)[0])[0][1][0] for _ in range(50))
    later = Counter(spans(layout.samples([whole._replace(opens=False)], SENTENCE, ROOM, draw)[0])[0][1][0]
                    for _ in range(50))
    assert set(starts) == {1005, 1010}
    assert set(later) == {1010}


def test_long_spans_have_the_lengths_and_ends_that_are_set():
    layout, draw = blanks(shortest_document_span=0.25), np.random.default_rng(0)
    found = [spans(layout.samples([piece(100)], DOCUMENT, ROOM, draw)[0]) for _ in range(3000)]
    assert all(len(one) == 1 for one in found)
    lengths = np.array([len(tokens) for ((_, tokens, _),) in found])
    assert (lengths.min(), lengths.max()) == (25, 99)
    assert lengths.mean() == pytest.approx(62, abs=1.5)
    open_ends = np.mean([targets[-1] == IGNORE for ((_, _, targets),) in found])
    assert open_ends == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(("kind", "size", "mark"), [(TOKEN, 6, GMASK), (TOKEN, 7, MASK), (SENTENCE, 9, GMASK),
                                                    (SENTENCE, 10, GMASK), (SENTENCE, 11, SMASK), (DOCUMENT, 2, GMASK)])
def test_pieces_too_short_for_their_kind_are_document_level(kind, size, mark):
    """Of seven tokens 15 % is one; ten tokens are one sentence, which would leave nothing beside it."""
    for seed in range(20):
        (sample,) = blanks().samples([piece(size)], kind, ROOM, np.random.default_rng(seed))
        assert {token for token in sample.tokens.tolist() if token in MARKS} == {mark}
        assert (sample.targets != IGNORE).any()


@pytest.mark.parametrize("kind", [TOKEN, SENTENCE, DOCUMENT])
def test_one_token_and_what_finds_no_room_are_context_without_loss(kind):
    for size, room in ((1, ROOM), (50, 1), (50, 0)):
        (sample,) = blanks().samples([piece(size)], kind, room, np.random.default_rng(0))
        assert sample.tokens.tolist() == list(range(1000, 1000 + size))
        assert (sample.targets == IGNORE).all()
        assert (sample.last == size - 1).all()


@given(st.lists(st.integers(1, 200) | st.just(57 * 4), min_size=1, max_size=5), st.integers(0, 2),
       st.integers(0, 60) | st.just(ROOM), st.sampled_from([0, 64]), st.integers(0, 9))
def test_marks_never_take_more_than_the_room(sizes, kind, room, window, seed):
    pieces = [piece(size) for size in sizes]
    samples = blanks(window=window).samples(pieces, kind, room, np.random.default_rng(seed))
    tokens = sum(len(sample.tokens) for sample in samples)
    assert sum(sizes) <= tokens <= sum(sizes) + room
    if window and kind == TOKEN:
        assert max(len(sample.tokens) for sample in samples) <= window


@given(st.integers(7, 40), st.integers(0, 999))
def test_spans_find_room_in_the_shortest_texts(size, seed):
    """At the largest share, and with spans as long as their limit: each still has a token beside it."""
    layout = blanks(masked_share=0.25, span_lambda=8)
    (sample,) = layout.samples([piece(size)], TOKEN, ROOM, np.random.default_rng(seed))
    context = sample.tokens[: sample.last[0] + 1]
    assert not ((context[1:] == MASK) & (context[:-1] == MASK)).any()
    assert sum(len(tokens) for _, tokens, _ in spans(sample)) >= int(0.25 * size)


@pytest.mark.parametrize(("kind", "wanted"), [(TOKEN, {4, 5}), (DOCUMENT, {1})])
def test_windows_cut_rows_of_short_spans_alone(kind, wanted):
    """GLM-130B's rows of 2,048 tokens: four windows of 512 and what is left of a fifth, or one long text."""
    layout = blanks(token_share=0.3, sentence_share=0, document_share=0.7, window=512)
    samples = layout.samples([piece(1840)], kind, 208, np.random.default_rng(0))
    assert len(samples) in wanted
    assert max(len(sample.tokens) for sample in samples) <= (512 if kind == TOKEN else 2048)


def test_settings_without_sense_are_refused():
    with pytest.raises(SettingsError, match=r"sum to 0\.8, not to 1"):
        GlmSettings.parse({"token_share": 0.3})
    with pytest.raises(SettingsError, match="window is for rows of short spans"):
        GlmSettings.parse({**only(DOCUMENT), "window": 512})
    with pytest.raises(SettingsError, match="no room for spans"):
        GlmSettings.parse({"window": 8})
    with pytest.raises(SettingsError, match="one position a token, this one has two"):
        blanks(axes=2, positions="blank")
    with pytest.raises(SettingsError, match="where sentences end"):
        BlankInfilling(GlmSettings(), IDS, axes=2)

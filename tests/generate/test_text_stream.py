from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from headwater.generate.text_stream import TextStream

TEXT = st.text(alphabet=st.sampled_from("ab河流😀é\n"), max_size=20)
BYTES = st.one_of(TEXT.map(str.encode), st.binary(max_size=20))


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:stop] for start, stop in pairwise(edges)]


def whole(pieces: list[bytes], stop: list[str]) -> tuple[str, bool]:
    stream = TextStream(stop)
    text = "".join(stream.feed(piece) for piece in pieces)
    return text + stream.finish(), stream.stopped


@given(BYTES, st.lists(st.integers(0, 30)))
def test_any_split_of_the_bytes_gives_the_text(data: bytes, cuts: list[int]) -> None:
    assert whole(split(data, cuts), [])[0] == data.decode("utf-8", "replace")


@given(TEXT, st.lists(st.integers(0, 60)))
def test_a_valid_text_never_shows_a_replacement_character(text: str, cuts: list[int]) -> None:
    stream = TextStream()
    assert not any("\ufffd" in stream.feed(piece) for piece in split(text.encode(), cuts))


@given(TEXT, st.lists(st.integers(0, 60)), st.lists(st.text(alphabet="ab河", min_size=1, max_size=4), max_size=3))
def test_stop_texts_cut_at_the_same_place_however_the_bytes_come(text: str, cuts: list[int], stop: list[str]) -> None:
    got, stopped = whole(split(text.encode(), cuts), stop)
    # By definition: letter by letter, the first prefix that ends with a stop text is where the answer ends.
    for end in range(1, len(text) + 1):
        ending = [s for s in stop if text[:end].endswith(s)]
        if ending:
            assert (got, stopped) == (text[: end - max(map(len, ending))], True)
            return
    assert (got, stopped) == (text, False)


def test_the_beginning_of_a_stop_text_is_held_back_until_decided() -> None:
    stream = TextStream(["<end>"])
    assert [stream.feed(b"one <e"), stream.feed(b"n"), stream.feed(b"x")] == ["one ", "", "<enx"]
    assert [stream.feed(b" two<end"), stream.feed(b"> three")] == [" two", ""]
    assert stream.stopped
    assert stream.finish() == ""


def test_half_a_character_waits_for_its_other_half() -> None:
    stream = TextStream()
    river = "河".encode()
    assert [stream.feed(river[:2]), stream.feed(river[2:])] == ["", "河"]
    assert [stream.feed(river[:1]), stream.finish()] == ["", "\ufffd"]


def test_white_space_before_the_answer_is_dropped_where_asked() -> None:
    stream = TextStream(["<end>"], trim_start=True)
    assert [stream.feed(b"\n"), stream.feed(b" "), stream.feed(b" one "), stream.feed(b" two<end>")] == [
        "", "", "one ", " two"]


@given(st.text(alphabet="ab", max_size=12), st.lists(st.integers(0, 12)), st.sets(st.integers(0, 12)))
def test_stop_texts_that_may_not_stop_are_text(text: str, cuts: list[int], allowed: set[int]) -> None:
    """By definition: of the places where one begins the first that is allowed."""
    got = ""

    def may_stop(after: str) -> bool:
        return len(fed) - len(after) in allowed

    stream, fed = TextStream(("ab", "aba"), may_stop=may_stop), ""
    for piece in split(text.encode(), cuts):
        fed += piece.decode()
        got += stream.feed(piece)
    got += stream.finish()
    ends = [place for place in range(len(text)) if text.startswith("ab", place) and place in allowed]
    assert got == text[: min(ends, default=len(text))]
    assert stream.stopped == bool(ends)

"""What a session says is read as from a stranger; what it prints is kept in bounded memory."""

import base64
import contextlib
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.agent.interpreter.output import Output
from headwater.agent.interpreter.replies import NonsenseError, Reply, longest_reply, parse_reply

PNG = b"\x89PNG\r\n\x1a\nrest"
RIGHT = {"cell": 3, "raised": False, "images": [base64.b64encode(PNG).decode()], "left_out": 2}


def test_an_answer_of_ours_is_read():
    reply = parse_reply(json.dumps(RIGHT).encode() + b"\n", 3, 1, 100)
    assert (reply.raised, reply.left_out, [image.data for image in reply.images]) == (False, 2, [PNG])


WRONG = {
    "cell": {"cell": 4}, "cell_as_text": {"cell": "3"}, "cell_as_truth": {"cell": True}, "raised": {"raised": 0},
    "more": {"extra": 1}, "images": {"images": "x"}, "no_base64": {"images": ["!"]}, "left_out": {"left_out": -1},
    "many_images": {"images": RIGHT["images"] * 2}, "large": {"images": [base64.b64encode(bytes(101)).decode()]},
    "huge_number": {"left_out": 10 ** 4000}, "nested": {"images": [[[]]]}}


@pytest.mark.parametrize("case", WRONG)
def test_another_is_nonsense(case):
    with pytest.raises(NonsenseError):
        parse_reply(json.dumps(RIGHT | WRONG[case]).encode(), 3, 1, 100)


MANY = {
    "empty_pictures": b'{"cell": 3, "raised": false, "images": [' + b'"",' * 300_000 + b'""], "left_out": 0}',
    "numbers": b'{"cell": 3, "raised": false, "images": [' + b"0," * 300_000 + b'0], "left_out": 0}',
    "names": b"{" + b'"a":0,' * 300_000 + b'"cell": 3}',
    "one_picture_more": json.dumps(RIGHT | {"images": RIGHT["images"] * 2}).encode(),
    "one_large_picture": json.dumps(RIGHT | {"images": [base64.b64encode(bytes(1 << 20)).decode()]}).encode()}


@pytest.mark.parametrize("case", MANY)
def test_what_an_answer_has_too_much_of_is_not_decoded_first(monkeypatch, case):
    monkeypatch.setattr(base64, "b64decode", None)
    tracemalloc.start()
    try:
        with pytest.raises(NonsenseError):
            parse_reply(MANY[case], 3, 1, 100)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 2 * len(MANY[case]) + (64 << 10)


def test_as_many_pictures_as_may_be_are_read():
    said = json.dumps(RIGHT | {"images": RIGHT["images"] * 6}).encode()
    assert len(parse_reply(said, 3, 6, len(PNG)).images) == 6


@pytest.mark.parametrize("line", [b"", b"\n", b"null", b"[" * 100_000, b"\xff", b"{}", b'{"cell": NaN}', b"1e999"],
                         ids=["empty", "newline", "null", "deep", "no_text", "object", "nan", "infinite"])
def test_what_is_no_answer_is_nonsense(line):
    with pytest.raises(NonsenseError):
        parse_reply(line, 3, 1, 100)


@given(st.binary() | st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                                  lambda inner: st.lists(inner) | st.dictionaries(
                                      st.sampled_from([*RIGHT, "else"]), inner)).map(lambda v: json.dumps(v).encode()))
def test_nothing_else_is_raised(line):
    with contextlib.suppress(NonsenseError):
        assert isinstance(parse_reply(line, 3, 1, 100), Reply)


@given(st.lists(st.binary(max_size=50), max_size=3))
def test_the_longest_answer_has_room_for_all_pictures(images):
    said = {**RIGHT, "images": [base64.b64encode(one).decode() for one in images], "left_out": 1_000_000}
    assert len(json.dumps(said)) <= longest_reply(3, 50)


@given(st.lists(st.text(alphabet="ab\n").map(str.encode), max_size=30), st.integers(4, 40))
def test_output_is_whole_or_has_both_its_ends(parts, most):
    output, whole = Output(most), b"".join(parts).decode()
    for part in parts:
        output.add(part)
    if len(whole) <= most:
        assert output.text() == whole
        return
    head, _, tail = output.text().partition("\n[... ")
    said, _, tail = tail.partition(" bytes left out ...]\n")
    assert whole.startswith(head)
    assert whole.endswith(tail)
    assert len(head) + len(tail) == most
    assert int(said.replace(",", "")) == len(whole) - most

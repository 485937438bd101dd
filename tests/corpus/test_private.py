"""Private data: what counts, where it ends beside Han characters, and that masking is complete."""

from __future__ import annotations

import importlib.util
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.privacy.checksums import iban, luhn, old_resident_id, resident_id
from headwater.corpus.privacy.private import Private, PrivateSettings, count_private, find_private, mask_private
from headwater.errors import MissingExtraError, SettingsError


def masked(text: str) -> str:
    return mask_private(text, find_private(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("邮箱zhang.san@163.com，请来信", "邮箱<EMAIL>，请来信"),
        ("write to joe [at] river dot org now", "write to <EMAIL> now"), ("手机13812345678号", "手机<MOBILE>号"),
        ("手机１３８１２３４５６７８。", "手机<MOBILE>。"), ("或+86 138-1234-5678和", "或<MOBILE>和"),
        ("电话：010-62345678转123。", "电话：<PHONE>。"), ("（021）62345678", "<PHONE>"),
        ("Call (212) 555-0147 today", "Call <PHONE> today"), ("at +44 20 7946 0958.", "at <PHONE>."),
        ("身份证11010519491231002X。", "身份证<RESIDENT_ID>。"), ("卡号4111 1111 1111 1111，", "卡号<BANK_CARD>，"),
        ("pay GB82 WEST 1234 5698 7654 32 BY Friday", "pay <IBAN> BY Friday"),
        ("护照号码：E12345678。", "护照号码：<PASSPORT>。"), ("来自52.18.3.200的", "来自<IP>的"),
        ("from 2a02:8108::8a2e:370 we", "from <IP> we"), ("card 3c:52:82:1f:aa:09 is", "card <MAC> is"),
        ("加QQ：123456789聊", "加QQ：<ACCOUNT>聊"), ("车牌京A·12345在", "车牌<PLATE>在"),
        ("住在北京市朝阳区建国路88号3号楼1单元502室。", "住在<ADDRESS>。"),
        ("at 742 Evergreen Terrace, Springfield, IL 62704.", "at <ADDRESS>."),
        ("lives at 2024 Elm Street with", "lives at <ADDRESS> with"),
        ("在北京市海淀区中关村大街1号A座18楼开会", "在<ADDRESS>开会"),
        ("北京市朝阳区建国路88号3栋12单元502室。", "<ADDRESS>。"),
        ("ssh root@93.184.216.34 first", "ssh root@<IP> first"),
        ("dsn postgres://user:pw@host", "dsn postgres://<SECRET>"),
        ("mysql://app:s3cr3t@db.river.com:3306/shop", "mysql://<SECRET>:3306/shop"),
        ("redis://:p@ss9@cache/0", "redis://<SECRET>/0"),
        ("token xoxb-123456789012-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx.", "token <SECRET>."),
    ],
)
def test_each_kind_ends_where_the_item_ends(text, expected):
    assert masked(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "订单号13812345678", "order number 2125550147", "version 1.2.3.4", "section 4.5.6.7", "192.168.1.10",
        "203.0.113.9", "52.18.3.0", "4111 1111 1111 1112", "GB83 WEST 1234 5698 7654 32", "110105194912310021",
        "ISBN 978-7-111-12345-6", "user@yourdomain.com", "git@github.com:a/b", "C = A@B.T", "icon@2x.png",
        "scp me@host.com:/tmp", "2024-01-31 12:30:59", "3.14159265358979", "01 02 03 04 05", "国发〔2006〕19号文件",
        "In 2008 Wall Street fell", "The 2024 Elm Street film", "A 1984 Elm Street remake", "2008 Wall Street crash",
        "https://river.com:80/@joe", "http://$USER:$PASS@host", "https://user:password@host",
        "ftp://joe:pw9@example.com",
        "token xoxb-123456789012-xxxxxxxxxxxx", "from -----BEGIN PRIVATE KEY----- to -----END PRIVATE KEY-----",
        "共13494341518个周期",
    ],
)
def test_numbers_of_other_kinds_stay(text):
    assert find_private(text) == []


KEY_LINES = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n" * 3


@pytest.mark.parametrize(("head", "lines"), [
    ("RSA PRIVATE KEY", KEY_LINES), ("PRIVATE KEY", KEY_LINES), ("EC PRIVATE KEY", "MIIEow...\n"),
    ("OPENSSH PRIVATE KEY", "b3BlbnNzaC1rZXktdjEAAAAA\n"),
    ("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A1B\n\n" + KEY_LINES),
    ("PGP PRIVATE KEY BLOCK", "Version: 2\n\n" + KEY_LINES + "=abcd\n"),
])
def test_a_private_key_is_masked_from_its_first_line_to_its_last(head, lines):
    assert masked(f"key:\n-----BEGIN {head}-----\n{lines}-----END {head}-----\nend") == "key:\n<SECRET>\nend"


def test_a_private_key_cut_off_is_masked_and_the_prose_after_it_stays():
    assert masked(f"-----BEGIN PRIVATE KEY-----\n{KEY_LINES}The rest is lost.") == "<SECRET>\nThe rest is lost."


PIECES = [
    "postgres://u:p9@", "://", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", KEY_LINES,
    "2024 ", "A座18楼",
    "13812345678", "a@b.com", "@", "电话", "tel ", "QQ", "passport ", "护照", "路", "88号", "北京市", "3室",
    "1.2.3.4", "52.18.3.200", " ", "\n", "-", "+86", "(", ")", "11010519491231002X", "4111111111111111", "0",
    "GB82WEST12345698765432", "<PHONE>", "12 Oak Street", ", Apt 3", "A", " at ", " dot com", "010-62345678",
    "E12345678", "京A12345", "１２",
]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_masked_text_holds_nothing_to_mask_and_findings_are_apart(text):
    found = find_private(text)
    assert all(one.start < one.end for one in found)
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))
    once = mask_private(text, found)
    assert masked(once) == once
    rest = re.sub("<[A-Z_]+>", "", once)
    assert len(rest) <= len(text)


@given(st.text(max_size=80))
def test_any_text_is_taken(text):
    assert masked(masked(text)) == masked(text)


@given(st.from_regex(r"[1-9][0-9]{14}", fullmatch=True))
def test_luhn_knows_each_changed_digit(body):
    check = next(str(digit) for digit in range(10) if luhn(body + str(digit)))
    number = body + check
    for place in range(len(number)):
        changed = number[:place] + str((int(number[place]) + 1) % 10) + number[place + 1 :]
        assert not luhn(changed)


def test_checksums_of_the_standards_examples():
    assert iban("DE89370400440532013000")
    assert not iban("DE89370400440532013001")
    assert not iban("DE8937040044053201300")
    assert resident_id("11010519491231002X")
    assert not resident_id("11010519491331002X")  # no thirteenth month
    assert old_resident_id("110105491231002")


@pytest.mark.parametrize(
    "unit", ["1", "@", "1-", "1 ", "a@a", "路1号", "中", "2000:", "1 Aa ", "GB82 ", "400-", "138 1234 5", "(0",
             "a://a:a@", "-----BEGIN PRIVATE KEY-----\nAAAA"]
)
def test_hostile_repetition_is_taken(unit):
    # A pattern that backtracks would not come back from it.
    find_private(unit * (60_000 // len(unit)))


def test_kinds_are_chosen_and_counted():
    text = "a@b.com 13812345678 c@d.org"
    assert find_private(text, PrivateSettings(kinds=("mobile",))) == [Private(8, 19, "mobile")]
    assert count_private(find_private(text)) == {"email": 2, "mobile": 1}


def test_settings_without_effect_are_refused():
    for values, told in (({"kinds": ["person"]}, "need engine=presidio"), ({"spacy_model": "x"}, "presidio's"),
                         ({"kinds": ["location", "ip"], "engine": "presidio"}, "spacy_model")):
        with pytest.raises(SettingsError, match=told):
            PrivateSettings.parse(values)


@pytest.mark.skipif(importlib.util.find_spec("presidio_analyzer") is not None, reason="presidio is installed")
def test_a_missing_presidio_is_named():
    with pytest.raises(MissingExtraError, match="presidio"):
        find_private("a@b.com", PrivateSettings(engine="presidio"))


def test_presidio_finds_beside_the_rules():
    pytest.importorskip("presidio_analyzer")
    found = find_private("mail a@river.com now", PrivateSettings(engine="presidio"))
    assert found == [Private(5, 16, "email")]

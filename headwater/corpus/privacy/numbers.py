"""Numbers that name a person, an account or a machine: where they stand in a text.

Each function takes a text in half-width characters and yields the (start, end) of what it found. Every pattern is
bounded, so that the time is linear in the text. A number whose form alone proves little needs a word before it that
says what it is; a number that a word before it calls an order, a serial or an ISBN is none of these.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from headwater.corpus.privacy.checksums import iban, iban_length, luhn, old_resident_id, resident_id, resident_id_check

Span = tuple[int, int]
# What may not stand beside a number: \b would see no border between a digit and a Han character.
LEFT = r"(?<![A-Za-z0-9_+/%#&=@-])(?<![0-9A-Za-z][.,])"
RIGHT = r"(?![A-Za-z0-9_%])(?![.,-][0-9])"
_CALLED_OTHERWISE = re.compile(
    r"(?:订单|单号|流水|编号|票号|序列号|批号|条码|运单|快递(?!员)|物流|货号|型号|学号|工号|案号|版本|时间戳|金额|"
    r"人民币|"
    r"(?<![A-Za-z<])(?:ISBN|ISSN|DOI|SKU|UPC|EAN|IMEI|ASIN|PMID|arXiv|order|invoice|tracking|serial|ticket|reference|"
    r"ref|case|part|item|model|batch|parcel|shipment|timestamp|build|version|commit|hash|seed|epoch|transaction)\b)"
    r"(?:[ ]?(?:is|was|number|no|id|code|#|号码?|为|是))*[^\d\n<>]{0,3}\Z", re.IGNORECASE)
_WINDOW = 32


def called(words: re.Pattern[str], text: str, start: int) -> bool:
    """Whether what stands just before `start` ends in one of the words."""
    return words.search(text, max(0, start - _WINDOW), start) is not None


def called_otherwise(text: str, start: int) -> bool:
    """Whether the words before `start` say that a number of another kind follows."""
    return called(_CALLED_OTHERWISE, text, start)


_CARD = re.compile(LEFT + r"(?:(?:[2-9]\d|18)\d{10,17}|[2-9]\d{3}(?:([ -])\d{4}\1(?:\d{4}\1\d{4}(?:\1\d{1,3})?|"
                          r"\d{4}\1\d{1,3})|"
                   r"([ -])\d{6}\2\d{4,5})|6\d{5}[ -]\d{13})" + RIGHT)
_CARD_WORD = re.compile(r"(?:card|credit|debit|visa|master ?card|maestro|amex|银行卡|信用卡|储蓄卡|借记卡|卡号|账号|"
                        r"账户|帐号|"
                        r"\bcc\b)[^\d\n<>]{0,20}\Z", re.IGNORECASE)
_ISSUERS = [  # leading digits from, to; lengths (ISO/IEC 7812 assignments as the networks publish them)
    ("4", "4", (13, 16, 19)), ("51", "55", (16,)), ("2221", "2720", (16,)), ("34", "34", (15,)), ("37", "37", (15,)),
    ("6011", "6011", (16, 19)), ("644", "659", (16, 19)), ("300", "305", (14, 16)), ("3095", "3095", (14, 16)),
    ("36", "36", (14, 16)), ("38", "39", (14, 16)), ("3528", "3589", (16, 19)), ("62", "62", (16, 17, 18, 19)),
    ("60", "60", (16,)), ("2200", "2204", (16, 19))]
_RARE_ISSUERS = [("7", "9", (16,)), ("50", "50", tuple(range(12, 20))), ("56", "58", tuple(range(12, 20))),
                 ("60", "69", tuple(range(12, 20))), ("35", "35", (16,)), ("1800", "1800", (15,)),
                 ("2131", "2131", (15,)),
                 ("4", "4", (14, 15, 17, 18))]


def bank_cards(text: str) -> Iterator[Span]:
    """Payment cards: Luhn's check digit, an issuer's leading digits and a length it uses."""
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if luhn(digits) and not called_otherwise(text, match.start()) and (
                _issued(digits, _ISSUERS) or (_issued(digits, _RARE_ISSUERS) and
                                             called(_CARD_WORD, text, match.start()))):
            yield match.span()


def _issued(digits: str, issuers: list[tuple[str, str, tuple[int, ...]]]) -> bool:
    return any(first <= digits[:len(first)] <= last and len(digits) in lengths for first, last, lengths in issuers)


_IBAN = re.compile(r"(?<![A-Za-z0-9_])[A-Z]{2}\d\d(?=[ -]?[A-Z0-9]{4})[A-Z0-9 -]{11,42}")


def ibans(text: str) -> Iterator[Span]:
    """International bank account numbers, in groups or in one piece."""
    for match in _IBAN.finditer(text):
        length, places = iban_length(match[0][:2]), [i for i, letter in enumerate(match[0]) if letter not in " -"]
        if length is None or len(places) < length:
            continue
        end = places[length - 1] + 1
        after = text[match.start() + end:match.start() + end + 1]
        if not (after.isascii() and after.isalnum()) and iban("".join(match[0][i] for i in places[:length])):
            yield match.start(), match.start() + end


_RESIDENT = re.compile(LEFT + r"([1-9]\d{5})([ -]?)((?:18|19|20)\d{6})\2(\d{3}[\dXx])" + RIGHT)
_OLD_RESIDENT = re.compile(LEFT + r"[1-8]\d{14}" + RIGHT)
_RESIDENT_WORD = re.compile(r"(?:身份证|公民身份|证件号)(?:号码?)?[^\d\n<>]{0,16}\Z")


def resident_ids(text: str) -> Iterator[Span]:
    """Chinese identity numbers: 18 characters by their checksum, 15 digits behind a word that says so."""
    for match in _RESIDENT.finditer(text):
        number = match[1] + match[3] + match[4]
        called_so = called(_RESIDENT_WORD, text, match.start())
        if resident_id(number) or (called_so and resident_id_check(number[:17]) == number[17].upper()):
            yield match.span()
    if "身份" in text or "证件" in text:
        for match in _OLD_RESIDENT.finditer(text):
            if old_resident_id(match[0]) and called(_RESIDENT_WORD, text, match.start()):
                yield match.span()


_SSN = re.compile(LEFT + r"(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}" + RIGHT)


def ssns(text: str) -> Iterator[Span]:
    """US social security numbers as they are written, 3-2-4; numbers that are never issued are left out."""
    for match in _SSN.finditer(text):
        if not called_otherwise(text, match.start()):
            yield match.span()


_PASSPORT = re.compile(LEFT + r"(?:[A-Z]{1,2}[ ]?\d{7,8}|[A-Z]\d[A-Z]?\d{6}|\d{9})" + RIGHT)
_PASSPORT_WORD = re.compile(r"(?:护照|護照|通行证|(?<![A-Za-z<])passport)[^\d\n<>。，；]{0,24}\Z", re.IGNORECASE)
_PASSPORT_AFTER = re.compile(r"[（(][ ]?(?:护照|護照|passport)|的(?:护照|護照)", re.IGNORECASE)


def passports(text: str) -> Iterator[Span]:
    """Passport numbers (one or two letters and 7 or 8 digits, or 9 digits) beside the word passport."""
    for match in _PASSPORT.finditer(text):
        if called(_PASSPORT_WORD, text, match.start()) or _PASSPORT_AFTER.match(text, match.end()):
            yield match.span()


_IPV4 = re.compile(r"\d(?<![A-Za-z0-9_.-].)(?<![A-Za-z)]/.)\d{0,2}\.(?:\d{1,3}\.){2}\d{1,3}(?![A-Za-z0-9_]|"
                   r"\.[A-Za-z0-9]|-[A-Za-z0-9]|/\d)")
_IPV6 = re.compile(r"[23](?<![A-Za-z0-9_.:].)[0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{0,4}){2,7}(?![A-Za-z0-9_:])")
_VERSION_WORD = re.compile(r"(?:(?<![A-Za-z])v|ver|version|release|rev|build|section|chapter|clause|figure|table|§|"
                           r"版本?号?|"
                           r"章|节|第|升级到|升级至|OID|firmware|driver)[ .:：]{0,2}\Z", re.IGNORECASE)
_ADDRESS_WORD = re.compile(r"(?:\bIP(?:v4)?|address|host|server|地址|主机|服务器)[^\d\n<>]{0,12}\Z", re.IGNORECASE)
_SMALL = 32
_PUBLIC_RESOLVERS = frozenset([
    "8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9",
    "114.114.114.114", "114.114.115.115", "223.5.5.5", "223.6.6.6",
    "208.67.222.222", "208.67.220.220", "119.29.29.29", "2001:4860:4860::8888",
    "2001:4860:4860::8844", "2606:4700:4700::1111", "2606:4700:4700::1001"])


def ip_addresses(text: str) -> Iterator[Span]:
    """Internet addresses of single machines.

    Left out, as they lead to nobody: private, reserved and documentation ranges, networks (the last number is 0, or a
    /length follows), public resolvers, and four small numbers, or a word such as version before them, which are
    versions and sections.
    """
    for match in _IPV4.finditer(text):
        numbers = [int(part) for part in match[0].split(".")]
        small = max(numbers) < _SMALL and not called(_ADDRESS_WORD, text, match.start())
        if numbers[3] and not small and _leads_somewhere(match[0]) and not called(_VERSION_WORD, text, match.start()):
            yield match.span()
    for match in _IPV6.finditer(text):
        if _leads_somewhere(match[0]) and not match[0].endswith("::"):
            yield match.span()


def _leads_somewhere(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return parsed.is_global and not parsed.is_multicast and str(parsed) not in _PUBLIC_RESOLVERS


_THREE_BYTES = re.compile(r"[:-](?:[0-9A-Fa-f]{2}[:-]){3}")
_MAC = re.compile(r"(?<![A-Za-z0-9_:-])[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![A-Za-z0-9_]|"
                  r"[:-][0-9A-Fa-f])")


def mac_addresses(text: str) -> Iterator[Span]:
    """Hardware addresses of single network cards; groups, broadcast and documentation (00-00-5E) are left out."""
    if not _THREE_BYTES.search(text):
        return
    for match in _MAC.finditer(text):
        digits = match[0].replace(match[1], "").lower()
        group = int(digits[1], 16) & 1
        if not group and not digits.startswith("00005e") and len(set(digits)) > 3 and digits not in (
                "001122334455", "0123456789ab", "123456789abc"):
            yield match.span()

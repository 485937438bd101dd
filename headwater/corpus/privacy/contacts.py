"""How a person is reached: mail, telephones, messenger accounts, postal addresses; and what opens their doors.

Each function takes a text in half-width characters and yields the (start, end) of what it found. Every pattern is
bounded, so that the time is linear in the text.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from headwater.corpus.privacy.numbers import LEFT, RIGHT, Span, called, called_otherwise

_GENERIC = ("com|net|org|edu|gov|mil|int|info|biz|name|pro|mobi|app|dev|site|online|tech|store|xyz|top|club|vip|shop|"
            "cloud|email|work|blog|wang|ltd|group|live|life|world|today|space|website|agency|digital|network|systems|"
            "solutions|company|academy|school|science|asia|test|museum|coop|aero|jobs|tel|travel|cat")
_DOMAIN = rf"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{{0,61}}[A-Za-z0-9])?\.){{1,6}}(?:{_GENERIC}|[A-Za-z]{{2}})(?![A-Za-z0-9_])"
_AT = re.compile(rf"(?<=[A-Za-z0-9_+-])(?P<at>[ ]?@[ ]?)(?P<host>{_DOMAIN})(?!\.[A-Za-z]|-[A-Za-z]|[/:][A-Za-z~]|"
                 rf":/)", re.IGNORECASE)
_LOCAL = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9_][A-Za-z0-9._%+-]{0,63}\Z")
_OPEN, _CLOSE = r"[ ]?[\[({（【]", r"[\])}）】][ ]?"
_HIDDEN = re.compile(
    rf"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{{0,63}}+(?:{_OPEN}[ ]?(?:at|@|AT)[ ]?{_CLOSE}|[ ](?:at|"
    rf"AT)[ ])"
    rf"[A-Za-z0-9][A-Za-z0-9.-]{{0,40}}+(?:(?:{_OPEN}[ ]?(?:dot|DOT|\.)[ ]?{_CLOSE}|[ ](?:dot|"
    rf"DOT)[ ])[A-Za-z0-9-]{{1,40}}+){{1,4}}"
    r"(?![A-Za-z0-9_])")
_BRACKETED = re.compile(
    rf"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{{0,63}}+{_OPEN}[ ]?(?:at|@|"
    rf"AT)[ ]?{_CLOSE}{_DOMAIN}", re.IGNORECASE)
_TOP = re.compile(rf"(?:{_GENERIC}|[A-Za-z]{{2}})\Z", re.IGNORECASE)
_BRACKETED_AT = re.compile(r"[\[({（【] ?(?:at|@) ?[\])}）】]")
_NOBODY = re.compile(r"(?:^|\.)(?:(?:your|my)?(?:domain|company|site)\.com|example\.(?:com|net|org)|test)$",
                     re.IGNORECASE)


def emails(text: str) -> Iterator[Span]:
    """Mail addresses, also with spaces around the @ and as `name [at] host dot com`.

    Left out: domains that stand for any (`yourdomain.com`, `example.org`: RFC 2606) and `git@host:path`.
    """
    if "@" in text:
        for match in _AT.finditer(text):
            local = _LOCAL.search(text, max(0, match.start() - 65), match.start())
            if local and _is_mail(text, local[0], match):
                yield local.start(), match.end()
    lower = text.lower()
    if " dot " in lower or ("at" in lower and _BRACKETED_AT.search(lower)):
        for pattern in (_HIDDEN, _BRACKETED):
            for match in pattern.finditer(text):
                if _TOP.search(match[0]):
                    yield match.span()


def _is_mail(text: str, local: str, match: re.Match[str]) -> bool:
    spaced = len(match["at"]) > 1
    if _NOBODY.search(match["host"]) or ".." in local or (local == "git" and text[match.end():match.end() + 1] == ":"):
        return False
    return not spaced or (len(match["at"]) == 3 and match["host"].rpartition(".")[2].lower() in _GENERIC.split("|"))


_PHONE_WORD = re.compile(
    r"(?:(?<![A-Za-z<])(?:(?:tele)?phones?|tel|fax|mobile|mobil|cell(?:phone)?|call(?:ing|ed)?|dial|whatsapp|sms|"
    r"text|ring|"
    r"hotline|helpline|contact|reach(?:ed)?|desk|office|home|answering)(?![A-Za-z])|电话|手机|传真|热线|座机|"
    r"联系方式|致电|拨打|来电|電話|傳真|手機|联系人|联系|总机|办公室|值班室|客服)"
    r"(?:[^\d\n<>.。!?！？;；]|\.(?![ ]?[A-Z])){0,18}\n?[ ]?\Z|[打拨]\Z", re.IGNORECASE)
_PHONE_AFTER = re.compile(r"[ -]?[(]?(?:office|fax|mobile|cell|home|work|tel)\b", re.IGNORECASE)
_EXTENSION = r"(?:[ ]?(?:x|ext\.?|extension|转|分机)[ :]?\d{1,6})?"
_PLAIN = re.compile(
    rf"{LEFT}(?:"
    r"(?:1[-. ])?(?:\([2-9]\d\d\)[ ]?[2-9]\d\d[-. ]|[2-9]\d\d([-.])[2-9]\d\d\1)\d{4}"  # North America
    r"|1([-. ])\(?[2-9]\d\d\)?\2[2-9]\d\d\2\d{4}"
    r"|001[- .]\d{3}[- .]\d{3}[- .]\d{4}"
    r"|\(?0(?:20\)?[ -][378]\d{3}[ -]?\d{4}|1\d1\)?[ -]\d{3}[ -]\d{4}|11\d\)?[ -]\d{3}[ -]\d{4}|1\d{3}\)?[ -]\d{5,6}"
    r"|1\d{3}\)?[ -]\d{3}[ -]\d{3}|7\d{3}[ -]\d{6}|7\d{3}[ -]\d{3}[ -]\d{3}|"
    r"[38]\d\d[ -]\d{3}[ -]\d{4})"  # United Kingdom
    r"|(?<![0-9][ .-])0[1-9](?:([ .-])\d\d)(?:\3\d\d){3}(?!\3\d)"  # France
    r"|\(0\d{1,4}\)[ ]?\d{5,8}|0\d{2,4}[ /-]\d{6,8}|0\d{2,4}[ ]/[ ]\d{4,8}"  # Germany and others with an area code
    r"|(?:86-0?|\(?0)(?:10|2\d|[3-9]\d\d)(?:\)[ ]?|[ -])[2-8]\d{2,3}[ -]?\d{4}(?:-\d{1,5})?"  # China
    r"|[48]00-?(?:(?<=-)\d{3}-?\d{4}|(?<=-)\d{4}-?\d{3}|(?<=-)\d{5}-\d{2}|\d{3}-\d{4}|\d{4}-\d{3})"
    rf"){_EXTENSION}{RIGHT}", re.IGNORECASE)
_ABROAD = re.compile(
    r"(?<![A-Za-z0-9_+\])}=/-])(?:\(\+(?P<a>[1-9]\d{0,2})\)|\+[ ]?(?P<b>[1-9])|"
    r"00(?=[1-9]\d{0,2}[ .-]\(?\d)(?P<c>[1-9]))"
    rf"(?:[ .\-/]?\(?\d(?:\)(?=[ .-]?\d))?){{6,14}}+{_EXTENSION}{RIGHT}", re.IGNORECASE)
_NAMED = re.compile(rf"{LEFT}\(?\d(?:[ ./()-]{{0,2}}\d){{6,13}}+{_EXTENSION}{RIGHT}", re.IGNORECASE)
_NO_PHONE = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}\Z|\d+\.\d{1,2}\Z|(?:19|20)\d\d[-./ ]?(?:0?[1-9]|"
                       r"1[0-2])[-./ ]?(?:[0-2]?\d|3[01])(?!\d)")
_COUNTRY = re.compile("1|7|2(?:0|7|[1-6]\\d|9[0-9])|3(?:[0-4]|6|9|5\\d|7\\d|8[0-9])|4(?:[013-9]|2[0-9])|5(?:[1-8]|"
                      "0\\d|9\\d)|"
                      "6(?:[0-6]|7\\d|8\\d|9\\d)|8(?:[1246]|5\\d|0[08]|7\\d|8\\d)|9(?:[0-58]|6\\d|7\\d|9\\d)")


def phones(text: str) -> Iterator[Span]:
    """Telephone numbers other than Chinese mobiles: international ones with + or 00, and the national writings of North
    America, the United Kingdom, France, Germany and China; any other form behind a word such as phone or 电话."""
    for match in _ABROAD.finditer(text):
        digits = re.sub(r"\D", "", match[0].lower().partition("x")[0]).removeprefix("00")
        if 8 <= len(digits) <= 17 and _COUNTRY.match(digits) and not called_otherwise(text, match.start()):
            yield match.span()
    for match in _PLAIN.finditer(text):
        if not called_otherwise(text, match.start()) and not _counts_up(match[0]):
            yield match.span()
    for match in _NAMED.finditer(text):
        if not _NO_PHONE.match(match[0]) and not called_otherwise(text, match.start()) and (
                called(_PHONE_WORD, text, match.start()) or _PHONE_AFTER.match(text, match.end())):
            yield match.span()


def _counts_up(number: str) -> bool:
    """01 02 03 04 05 is a list."""
    groups = [int(group) for group in re.findall(r"\d+", number)]
    return len(groups) > 3 and len({after - before for before, after in itertools.pairwise(groups)}) == 1


_MOBILE = re.compile(
    r"(?:(?<![A-Za-z0-9_+/%#&@.,-])|(?<=[^0-9][.,]))(?:(?:\+|00)86[ -]?|\(\+?86\)[ -]?|86-)?"
    r"1(?:3\d|4[014-9]|5\d|6[2567]|7[0-8]|8\d|9[0-35-9])"
    r"(?:\d{8}|([ -])\d{4}\1\d{4}|([ -])\d{3}\2\d{5})" + RIGHT + "(?![ ]?(?:个|元|万|亿|次|吨|字节|公里|美元))")


_PERHAPS_MOBILE = re.compile(r"1[3-9]\d(?:\d{8}|[ -]\d{3})")


def mobiles(text: str) -> Iterator[Span]:
    """Chinese mobile numbers: a prefix in use and 8 digits, with or without +86, in one piece or in groups."""
    if not _PERHAPS_MOBILE.search(text):
        return
    for match in _MOBILE.finditer(text):
        start = match.start()
        in_query = text[start - 1:start] == "=" and not called(_PHONE_WORD, text, start)
        if not in_query and not called_otherwise(text, start):
            yield match.span()


_MESSENGERS = ("qq", "扣扣", "企鹅", "微信", "weixin", "wechat", "vx", "v信", "威信")
_ACCOUNT = re.compile(
    r"(?<![A-Za-z0-9_])(?:(?:QQ|qq|Qq|扣扣|企鹅)(?:群|号码?|群号|交流群|[ ]?number)?[ ]?(?:[:：是为]|"
    r"is)?[ ]?(?P<qq>[1-9]\d{4,10})"
    r"|(?:微信|weixin|wechat|WeChat|Wechat|vx|VX|V信|威信)(?:号|ID|[ ]?id)?[ ]?(?:[:：是为]|"
    r"is)[ ]?(?P<wx>[A-Za-z][A-Za-z0-9_-]{5,19}))"
    r"(?![A-Za-z0-9_])")


def accounts(text: str) -> Iterator[Span]:
    """QQ and WeChat accounts behind the messenger's name; the name stays."""
    lower = text.lower()
    if not any(name in lower for name in _MESSENGERS):
        return
    for match in _ACCOUNT.finditer(text):
        yield match.span("qq" if match["qq"] else "wx")


_PLATE = re.compile(r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼]"
                    r"(?<![A-Za-z0-9].)[A-HJ-NP-Y][·•. ]?"
                    r"(?=[A-Z0-9]{0,4}\d)(?=[A-Z]*\d[A-Z]*\d)[A-HJ-NP-Z0-9]{5,6}(?![A-Za-z0-9])")


def plates(text: str) -> Iterator[Span]:
    """Number plates of the Chinese mainland (GA 36)."""
    for match in _PLATE.finditer(text):
        yield match.span()


_PREFIXES = ("AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "hf_", "sk-", "AIza",
             "xox",
             "k_live_", "npm_", "LTAI", "AKID", "eyJ")
_SECRET = re.compile(
    r"(?<![A-Za-z0-9_-])(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}|"
    r"glpat-[A-Za-z0-9_-]{20,64}|hf_[A-Za-z]{34}|sk-(?:proj-|ant-)?[A-Za-z0-9_-]{20,200}|AIza[0-9A-Za-z_-]{35}|"
    r"xox[abcdeprs]-[A-Za-z0-9-]{10,250}|[sr]k_live_[0-9A-Za-z]{24,99}|npm_[A-Za-z0-9]{36}|LTAI[0-9A-Za-z]{12,20}|"
    r"AKID[0-9A-Za-z]{32}|"
    r"eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,1000})(?![A-Za-z0-9_])")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{2,9} ){0,2}PRIVATE KEY(?: BLOCK)?-----(?P<body>(?:[^-]|-(?!----)){0,16000})"
    r"(?P<end>-----END (?:[A-Z0-9]{2,9} ){0,2}PRIVATE KEY(?: BLOCK)?-----)?")
_KEY_LINES = re.compile(r"(?:\s*(?:[A-Za-z-]{3,12}: [^\n]{1,80}\n|[A-Za-z0-9+/=]{40,76}(?![A-Za-z0-9+/])))+"
                        r"(?:\s[A-Za-z0-9+/]{1,76}={1,2})?")
_KEY_LIKE = re.compile(r"[A-Za-z0-9+/]{24}|MII[A-Za-z0-9+/]|b3BlbnNz")
_IN_URL = re.compile(r"(?<=[A-Za-z0-9]://)[A-Za-z0-9._%+~-]{0,64}:(?P<password>[!#$%&'*+,.0-9:;=?@A-Z^_a-z~|-]{1,128})@"
                     r"(?P<host>[A-Za-z0-9._-]{1,100}|\[[0-9A-Fa-f:.]{2,45}\])")
_NO_PASSWORD = re.compile(r"(?:pass(?:word|wd)?|your.*|my[-_]?pass(?:word)?|x{3,}|[*.]+|\$.*|%[a-z_]+%)\Z",
                          re.IGNORECASE)
_SAMPLE = re.compile(r"EXAMPLE|XXXX|xxxx|\*\*\*\*|0000000|1234567", re.IGNORECASE)


def secrets(text: str) -> Iterator[Span]:
    """Access keys and tokens by the prefixes that their issuers gave them, private keys (also without their last line),
    and user, password and host of a URL that holds a password (RFC 3986, 3.2.1); samples are left out."""
    if "PRIVATE KEY" in text:
        yield from _private_keys(text)
    if "://" in text and "@" in text:
        for match in _IN_URL.finditer(text):
            if not _NO_PASSWORD.match(match["password"]) and not _NOBODY.search(match["host"]):
                yield match.span()
    if not any(prefix in text for prefix in _PREFIXES):
        return
    for match in _SECRET.finditer(text):
        # A token of Slack begins with the numbers of a workspace and a user, which may well count up.
        own = match[0].rpartition("-")[2] if match[0].startswith("xox") else match[0]
        if not _SAMPLE.search(own) and (match[0].isupper() or re.search(r"\d", match[0])):
            yield match.span()


def _private_keys(text: str) -> Iterator[Span]:
    for match in _PRIVATE_KEY.finditer(text):
        if match["end"]:
            if _KEY_LIKE.search(match["body"]):
                yield match.span()
        elif lines := _KEY_LINES.match(text, match.start("body")):
            yield match.start(), lines.end()

"""Postal addresses with a house number, Chinese and English: where they stand in a text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from headwater.corpus.judging.length import HAN
from headwater.corpus.privacy.numbers import Span

_NUMBER = r"(?:\d{1,5}|[一二三四五六七八九十百]{1,5})"
_DOOR = re.compile(
    rf"(?:路|街|道|巷|弄|胡同|里|村|段|径|坊|园|苑|小区|花园|新村|社区|广场|屯|条|组|"
    rf"线)(?:[东西南北中]?[一二三四五六七八九十]?[段路街条])?"
    rf"[ ]?(?:{_NUMBER}弄)?{_NUMBER}(?:[-之]\d{{1,4}})?(?:号|弄|幢|栋|號|座)")
_INSIDE = re.compile(
    rf"(?:[ ,，-]{{0,2}}(?:[{HAN}A-Za-z]{{0,12}}?[A-Za-z\d一二三四五六七八九十-]{{1,6}}(?:号楼|号院|单元|室|栋|幢|"
    rf"层|楼|座|户|房|号|门)(?:(?<=[栋幢楼座元])\d{{2,4}}(?![\d室号层楼单户房栋幢座门]))?)){{0,6}}")
_PROVINCES = ("北京|天津|上海|重庆|河北|山西|内蒙古|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|"
              "广东|广西|海南|"
              "四川|贵州|云南|西藏|陕西|甘肃|青海|宁夏|新疆|台湾|香港|澳门|臺灣")
_NAME = "[^\\W\\d_A-Za-z在于住到至往从是为址寄和与及了的该]"
_REGION = re.compile(
    rf"(?:(?:{_PROVINCES})[省市]?(?:(?:壮族|回族|维吾尔)?自治区|特别行政区)?[ ]?(?={_NAME}{{2}})|"
    rf"{_NAME}{{2,6}}?[市州盟]|{_NAME}{{1,6}}?[区县旗镇乡])"
    rf"[{HAN}\d ,，（）()]{{0,40}}\Z")
_SAID = re.compile(r"(?:地址|住址|住所|住在|家住|家在|寄到|寄往|邮寄|送到|位于|收货|通讯处|居住|搬到|户籍)[^\d\n。"
                   r"；]{0,24}\Z")
_LOOK_BACK = 48

_TYPES = ("Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq|Terrace|Ter|Way|"
          "Parkway|Pkwy|Highway|Hwy|Circle|Cir|Close|Crescent|Row|Mews|Trail|Trl|Gardens|Grove|Hill|Quay|Plaza|"
          "Alley|Walk")
_STATES = ("A[LKZR]|C[AOT]|D[EC]|FL|GA|HI|I[DLNA]|K[SY]|LA|M[EDAINSOT]|N[EVHJMYCD]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|"
           "V[TA]|W[AVIY]|"
           "AB|BC|MB|N[BLSTU]|ON|PE|QC|SK|YT")
_WORD = r"[A-Z][A-Za-z'’-]{0,20}+"
_UNIT = r"(?:,?[ \n]{1,2}(?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Fl|Room|Rm|#)\.?[ ]?#?[A-Za-z0-9-]{1,6})"
_REST = (rf"(?P<rest>{_UNIT}{{0,2}}(?:,?[ \n]{{1,2}}{_WORD}(?:[ ]{_WORD}){{0,2}})?"
         rf"(?:,?[ \n]{{1,2}}(?:(?:{_STATES})[ ]+(?:\d{{5}}(?:-\d{{4}})?"
         r"|[A-Z]\d[A-Z][ ]?\d[A-Z]\d)|[A-Z]{1,2}\d[A-Z\d]?[ ]\d[A-Z]{2}))|" + _UNIT + "{1,2})?(?![A-Za-z0-9])")
_ENGLISH = re.compile(
    r"(?P<number>\d(?<![A-Za-z0-9_.,:/$£€#-].)(?<![0-9][ ].)\d{0,4}(?:[A-Za-z]|"
    r"-\d{1,4})?),?[ ](?P<name>(?:[NSEW]\.?[ ])?"
    rf"(?:(?:{_WORD}|\d{{1,3}}(?:st|[nr]d|"
    rf"th))\.?[ ]){{1,4}}?(?:{_TYPES})(?![A-Za-z])\.?(?![ ](?:{_TYPES})(?![A-Za-z]))"
    rf"(?:[ ][NSEW]{{1,2}}(?![A-Za-z]))?)" + _REST)
_BOX = re.compile(r"P(?<![A-Za-z].)\.?[ ]?O\.?[ ]?Box[ ]\d{1,6}(?![0-9])" + _REST)


_YEAR = re.compile(r"(?:\b(?:in|of|since|the|by|until|from|after|before|and|year|early|late|an?|this|that|his|her|its|"
                   r"our|their|my|your|new|old|original|first|last|during)|['’]s)[ ](?:1[5-9]|20)\d\d\Z", re.IGNORECASE)
_EVENT = re.compile(r"[ ](?:films?|movies?|remake|reboot|sequel|crash|panic|protests?|riots?|bombing|shooting|fire|"
                    r"fair|parade|festival|marathon|election|season|edition|renovation|redesign)\b")
_A_YEAR = re.compile(r"(?:19|20)\d\d\Z")
_PROSE = re.compile(r"\b(?:The|A|An|Down|Up|Of|In|On|To|And|Miles|Years|Days|Hours|Minutes|People|Men|This|That|"
                    r"By)\b")


def addresses(text: str) -> Iterator[Span]:
    """Postal addresses that lead to a door: a Chinese one by its region, road and number (or a road and number behind a
    word such as 地址), an English one by its number, street and kind of street; and post-office boxes."""
    if "号" in text or "弄" in text or "號" in text or "栋" in text:
        yield from _chinese(text)
    for match in _ENGLISH.finditer(text):
        year = _YEAR.search(text, max(0, match.start() - 12), match.start() + 4) or (
            _A_YEAR.match(match["number"]) and _EVENT.match(text, match.end()))
        if (match["rest"] or not year) and not _PROSE.search(match["name"]):
            yield match.span()
    for match in _BOX.finditer(text):
        yield match.span()


def _chinese(text: str) -> Iterator[Span]:
    last = 0
    for door in _DOOR.finditer(text):
        line = text.rfind("\n", last, door.start()) + 1
        if door.start() < last:
            continue
        begin = max(last, line, door.start() - _LOOK_BACK)
        region = _REGION.search(text, begin, door.start())
        inside = _INSIDE.match(text, door.end())
        end = inside.end() if inside else door.end()
        if region:
            start = region.start()
        elif end > door.end() or _SAID.search(text, begin, door.start()):
            start = _road_start(text, begin, door.start())
        else:
            continue
        yield start, end
        last = end


_ROAD = re.compile(rf"{_NAME}{{1,8}}\Z")


def _road_start(text: str, begin: int, end: int) -> int:
    road = _ROAD.search(text, begin, end)
    return road.start() if road else end

"""Invented private data in the forms that the standards give (ITU-T E.164, ISO/IEC 7812, ISO 13616, GB 11643, RFC
5322, RFC 4291), written from those and not from the rules that are measured."""

from __future__ import annotations

import random

from headwater.corpus.privacy.checksums import resident_id_check

Draw = random.Random


def digits(draw: Draw, count: int) -> str:
    """So many decimal digits."""
    return "".join(draw.choices("0123456789", k=count))


def _form(draw: Draw, *forms: str) -> str:
    """One of the forms: N a digit from 2 to 9, # any digit."""
    return "".join(
        draw.choice("23456789") if c == "N" else draw.choice("0123456789") if c == "#" else c
        for c in draw.choice(forms)
    )


def _luhn(draw: Draw, prefix: str, length: int) -> str:
    body = prefix + digits(draw, length - 1 - len(prefix))
    total = sum(int(d) if i % 2 else sum(divmod(2 * int(d), 10)) for i, d in enumerate(reversed(body)))
    return body + str(-total % 10)


def card(draw: Draw) -> str:
    """A payment card of one of seven networks, in one piece or in groups."""
    prefix, length = draw.choice(
        [
            ("4", 16), ("4", 16),
            ("5" + draw.choice("12345"), 16),
            ("2" + draw.choice("3456"), 16),
            ("37", 15), ("6011", 16), ("3566", 16), ("36", 14),
        ]
    )
    return _grouped(draw, _luhn(draw, prefix, length))


def union_pay(draw: Draw) -> str:
    """A Chinese bank card: 62 and 16 or 19 digits."""
    prefix = draw.choice(["622202", "621700", "622848", "621661", "622588", "621226", "623058", "625912"])
    return _grouped(draw, _luhn(draw, prefix, draw.choice([16, 19, 19])))


def _grouped(draw: Draw, number: str) -> str:
    separator = draw.choice(["", "", " ", "-"])
    cuts = [4, 10] if len(number) in (14, 15) else range(4, len(number), 4)
    return separator.join(number[a:b] for a, b in zip([0, *cuts], [*cuts, len(number)]))


def iban(draw: Draw) -> str:
    """An IBAN of one of ten countries."""
    country, form = draw.choice(
        [
            ("DE", "#" * 18), ("GB", "AAAA" + "#" * 14), ("FR", "#" * 10 + "AA#########" + "##"),
            ("NL", "AAAA" + "#" * 10), ("ES", "#" * 20), ("IT", "A" + "#" * 22), ("CH", "#" * 17), ("BE", "#" * 12),
            ("PL", "#" * 24), ("SE", "#" * 20),
        ]
    )
    body = "".join(draw.choice("ABCDEFGHKLMNPRSTUVWXYZ") if c == "A" else draw.choice("0123456789") for c in form)
    check = 98 - int("".join(str(int(c, 36)) for c in body + country + "00")) % 97
    whole = f"{country}{check:02}{body}"
    return whole if draw.random() < 0.5 else " ".join(whole[i : i + 4] for i in range(0, len(whole), 4))


def resident(draw: Draw) -> str:
    """An identity number of a person born between 1940 and 2015."""
    area = draw.choice(
        ["110105", "310115", "440305", "510107", "320602", "330106", "420111", "610113", "230103", "650102"]
    )
    body = f"{area}{draw.randint(1940, 2015)}{draw.randint(1, 12):02}{draw.randint(1, 28):02}{digits(draw, 3)}"
    last = resident_id_check(body)
    return body + (last.lower() if draw.random() < 0.3 else last)


def mobile(draw: Draw) -> str:
    """A Chinese mobile number in one of the usual writings."""
    number = draw.choice(
        [
            "130", "133", "135", "136", "138", "139", "147", "150", "151", "155", "157", "158", "159", "166", "170",
            "173", "176", "177", "178", "180", "182", "185", "186", "187", "188", "189", "191", "193", "195", "198",
            "199",
        ]
    ) + digits(draw, 8)
    a, b, c = number[:3], number[3:7], number[7:]
    wide = "".join(chr(ord(d) + 0xFEE0) for d in number)
    return draw.choice(
        [
            number, number, number, f"{a}-{b}-{c}", f"{a} {b} {c}", f"+86{number}", f"+86 {a} {b} {c}",
            f"+86-{number}", f"0086{number}", f"(+86){number}", f"86-{number}", wide,
        ]
    )


def chinese_phone(draw: Draw) -> str:
    """A landline with its area code, or a service number."""
    code, rest = draw.choice(
        [
            ("010", 8), ("021", 8), ("020", 8), ("0755", 8), ("0571", 8), ("0512", 8), ("0379", 8), ("0931", 7),
            ("0471", 7), ("0898", 8), ("0797", 7),
        ]
    )
    local = draw.choice("2345678") + digits(draw, rest - 1)
    split = f"{local[:-4]} {local[-4:]}"
    extension = draw.choice(["", "", "", f"转{digits(draw, 3)}", f"-{draw.randint(100, 8999)}"])
    service = draw.choice(["400", "800"])
    return draw.choice(
        [
            f"{code}-{local}{extension}", f"{code}-{local}", f"({code}){local}", f"（{code}）{local}",
            f"{code} {local}", f"{code}-{split}", f"+86-{code[1:]}-{local}", f"+86 {code[1:]} {split}",
            f"86-{code[1:]}-{local}", f"{service}-{digits(draw, 3)}-{digits(draw, 4)}", f"{service}{digits(draw, 7)}",
        ]
    )


def english_phone(draw: Draw) -> str:
    """A North American, British, French, German or other European number, national or international."""
    return _form(
        draw, "(N0N) N##-####", "N1N-N##-####", "N0N.N##.####", "+1 N0N N## ####", "+1-N1N-N##-####",
        "1-N0N-N##-####", "+1 (N1N) N##-####", "N1N-N##-#### ext. ###", "(N0N) N##-#### x####", "+1N0NN######",
        "N0N N## ####", "020 7### ####", "07### ######", "+44 20 7### ####", "+44 (0)1### ######", "+447#########",
        "0161 ### ####", "(01223) ######", "07### ### ###", "+33 1 ## ## ## ##", "06 ## ## ## ##", "01.##.##.##.##",
        "+49 30 #######", "030 N#######", "0711/N#####", "089-N#######", "+49 (0)151 ########", "+34 6## ### ###",
        "+39 06 ########", "+31 6 ########", "+46 8 ### ### ##", "+41 44 ### ## ##", "+353 1 ### ####",
        "+65 9### ####", "+852 N### ####", "+81 3-####-####", "+61 4## ### ###", "+91 9#### #####",
        "0044 20 7### ####",
    )


def email(draw: Draw) -> str:
    """A mail address, one in seven written to be read by people only."""
    first = draw.choice(
        [
            "anna", "wei.zhang", "j_smith", "li-na", "tom99", "m.o.brien", "support", "zhou2008", "kate+news",
            "x.wang", "Peter.Novak", "HR", "xiaoming_88", "d.kim-lee", "10086371", "contact",
        ]
    )
    host = draw.choice(
        [
            "gmail", "qq", "163", "outlook", "uni-bonn", "pku", "river-tech", "mail.orange-labs", "cs.ox", "hotmail",
            "126", "blueocean", "4dsystems",
        ]
    )
    top = draw.choice(
        ["com", "com", "com", "net", "org", "cn", "edu.cn", "de", "co.uk", "ac.uk", "fr", "io", "info", "edu"]
    )
    hidden = draw.choice(
        [
            f"{first} [at] {host}.{top}", f"{first}(at){host}.{top}", f"{first} (at) {host} (dot) com",
            f"{first} [at] {host} [dot] org", f"{first} at {host} dot com", f"{first} @ {host}.com",
        ]
    )
    return hidden if draw.random() < 0.15 else f"{first}@{host}.{top}"


def chinese_passport(draw: Draw) -> str:
    """An ordinary, diplomatic or service passport of China."""
    return draw.choice(
        [draw.choice("EG") + digits(draw, 8), draw.choice(["EA", "EB", "EJ", "PE", "DE", "SE"]) + digits(draw, 7)]
    )


def english_passport(draw: Draw) -> str:
    """A US (9 digits, or a letter and 8) or British (9 digits) passport."""
    return draw.choice([digits(draw, 9), draw.choice("ACX") + digits(draw, 8)])


def ipv4(draw: Draw) -> str:
    """A machine's address in a range that is routed to providers."""
    first = draw.choice(
        [5, 24, 37, 46, 58, 61, 66, 77, 81, 93, 101, 112, 121, 139, 151, 178, 183, 188, 202, 211, 218, 222]
    )
    return f"{first}.{draw.randint(1, 250)}.{draw.randint(0, 255)}.{draw.randint(1, 254)}"


def ipv6(draw: Draw) -> str:
    """A global unicast address, written in full or shortened."""
    head = draw.choice(["2a02:8108", "2408:8207", "2600:1700", "240e:3a1", "2a01:4f8"])
    rest = [f"{draw.randint(1, 65535):x}" for _ in range(6)]
    return head + ":" + (":".join(rest) if draw.random() < 0.6 else f"{rest[0]}::{rest[1]}")


def address(draw: Draw) -> str:
    """A place any machine's number may come from."""
    return ipv4(draw) if draw.random() < 0.75 else ipv6(draw)


def mac(draw: Draw) -> str:
    """A network card's number, given by its maker."""
    parts = [draw.choice(["3c", "a4", "f0", "00", "8c", "d8"]), *(f"{draw.randint(16, 255):02x}" for _ in range(5))]
    text = draw.choice(":-").join(parts)
    return text.upper() if draw.random() < 0.5 else text


def ssn(draw: Draw) -> str:
    """A social security number in its official writing."""
    return f"{draw.randint(1, 665):03}-{draw.randint(1, 99):02}-{draw.randint(1, 9999):04}"


def chinese_address(draw: Draw) -> str:
    """Region, road, number, often the room."""
    region = draw.choice(
        [
            "北京市海淀区", "上海市浦东新区", "广东省深圳市南山区", "浙江省杭州市余杭区", "江苏省南京市鼓楼区",
            "四川省成都市武侯区", "湖北武汉市洪山区", "重庆市渝北区", "陕西省西安市雁塔区", "福建省厦门市思明区",
            "苏州市姑苏区", "河北省石家庄市正定县", "山东省青岛市崂山区", "云南省大理市下关镇",
        ]
    )
    road = draw.choice(
        [
            "中关村大街", "张江路", "科技南十二路", "文一西路", "中山北路", "人民南路四段", "珞喻路", "龙山大道",
            "长安南路", "环岛东路", "观前街", "常山东路", "香港东路", "建设路", "学府巷", "解放胡同",
        ]
    )
    inside = draw.choice(
        [
            "", "", f"{draw.randint(1, 30)}号楼{draw.randint(1, 6)}单元{draw.randint(101, 2502)}室",
            f"{draw.randint(2, 40)}层", f"{draw.randint(1, 20)}栋{draw.randint(101, 1902)}",
            f"创新大厦{draw.choice('ABC')}座{draw.randint(101, 2502)}室",
        ]
    )
    return f"{region}{road}{draw.randint(1, 1999)}号{inside}"


def english_address(draw: Draw) -> str:
    """House number and street; usually town and code."""
    street = draw.choice(
        [
            "Maple", "Oak Hill", "Kings", "Washington", "St. Mary's", "Old Mill", "Riverside", "Market",
            "N. Highland", "Park", "Church", "Sunset", "5th", "Martin Luther King", "Lower Marsh", "Elm",
        ]
    )
    kind = draw.choice(
        ["Street", "St", "Avenue", "Ave", "Road", "Rd", "Lane", "Drive", "Blvd", "Court", "Way", "Terrace", "Place"]
    )
    start = f"{draw.randint(2, 9800)} {street} {kind}"
    unit = draw.choice(
        [
            "", "", "", f", Apt {draw.randint(1, 40)}", f" Suite {draw.randint(100, 900)}",
            f", Flat {draw.randint(1, 9)}", f" #{draw.randint(1, 60)}",
        ]
    )
    return (
        start
        + unit
        + draw.choice(
            [
                "",
                f", {draw.choice(['Austin', 'Salt Lake City', 'Portland', 'Ann Arbor'])}, "
                f"{draw.choice(['TX', 'UT', 'OR', 'MI'])} {digits(draw, 5)}",
                f", {draw.choice(['Boston', 'Springfield'])}, {draw.choice(['MA', 'IL'])} "
                f"{digits(draw, 5)}-{digits(draw, 4)}",
                f", {draw.choice(['Leeds', 'London', 'Oxford'])} "
                f"{draw.choice(['LS1 4DY', 'SW1A 2AA', 'OX1 2JD', 'E8 3PN'])}",
            ]
        )
    )


def qq(draw: Draw) -> str:
    """A QQ number."""
    return draw.choice("123456789") + digits(draw, draw.randint(6, 9))


def plate(draw: Draw) -> str:
    """A mainland number plate, for an engine or for a battery."""
    tail = (
        digits(draw, 5)
        if draw.random() < 0.4
        else draw.choice("ABCDEFGHJKLMN") + digits(draw, 4)
        if draw.random() < 0.5
        else draw.choice("DF") + digits(draw, 5)
    )
    return draw.choice("京沪粤苏浙川鲁鄂湘") + draw.choice("ABCDEFGH") + draw.choice(["", "·"]) + tail


def secret(draw: Draw) -> str:
    """An access key with its issuer's prefix."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    both = letters + letters.lower() + "0189"
    return draw.choice(
        [
            "AKIA" + "".join(draw.choices(letters, k=16)),
            "ghp_" + "".join(draw.choices(both, k=36)),
            "sk-" + "".join(draw.choices(both, k=48)),
            "AIza" + "".join(draw.choices(both + "-_", k=35)),
        ]
    )

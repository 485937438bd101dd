"""Check digits of numbers that name a person or an account: cards, IBANs, Chinese resident identity numbers."""

from __future__ import annotations

from datetime import date

# Length by country, from the IBAN registry (ISO 13616).
_IBAN_LENGTHS = {
    code: int(length)
    for length, codes in (
        entry.split(":")
        for entry in [
            "15:NO", "16:BE",
            "18:DK,FK,FI,FO,GL,NL,SD",  # codespell:ignore
            "19:MK,SI", "20:AT,BA,EE,KZ,LT,LU,MN,XK", "21:CH,HR,LI,LV", "22:BG,BH,CR,DE,GB,GE,IE,ME,RS,VA",
            "23:AE,GI,IL,IQ,OM,SO,TL", "24:AD,CZ,ES,MD,PK,RO,SA,SE,SK,TN,VG", "25:LY,PT,ST", "26:IS,TR",
            "27:BI,DJ,FR,GR,IT,MC,MR,SM", "28:AL,AZ,BY,CY,DO,GT,HN,HU,LB,NI,PL,SV", "29:BR,EG,PS,QA,UA",
            "30:JO,KW,MU,YE", "31:MT,SC", "32:LC", "33:RU",
        ]
    )
    for code in codes.split(",")
}
_PROVINCES = frozenset(
    [
        "11", "12", "13", "14", "15", "21", "22", "23", "31", "32", "33", "34", "35", "36", "37", "41", "42", "43",
        "44", "45", "46", "50", "51", "52", "53", "54", "61", "62", "63", "64", "65", "71", "81", "82", "83",
    ]
)
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


def iban_length(country: str) -> int | None:
    """Characters of that country's IBANs without spaces; None for a country that has none."""
    return _IBAN_LENGTHS.get(country)


def iban(number: str) -> bool:
    """Whether `number` (upper case, no spaces) has its country's length and check digits (ISO 7064 mod 97-10)."""
    if iban_length(number[:2]) != len(number):
        return False
    return int("".join(str(int(letter, 36)) for letter in number[4:] + number[:4])) % 97 == 1


def resident_id(number: str) -> bool:
    """Whether 18 characters are a Chinese identity number: province, a birth date from 1880 to 2049, and the check
    character (GB 11643-1999, ISO 7064 mod 11-2; the last may be an x)."""
    if number[:2] not in _PROVINCES or not _birth(number[6:14], date(2049, 12, 31)):
        return False
    return resident_id_check(number[:17]) == number[17].upper()


def resident_id_check(digits: str) -> str:
    """The check character of the first 17 digits."""
    return "10X98765432"[sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, digits)) % 11]


def old_resident_id(number: str) -> bool:
    """Whether 15 digits can be an identity number of before 1999, which had neither century nor check digit."""
    return number[:2] in _PROVINCES and _birth("19" + number[6:12], date(1999, 12, 31))


def _birth(digits: str, latest: date) -> bool:
    try:
        born = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return False
    return date(1880, 1, 1) <= born <= latest

"""Whether a string is a card number, an IBAN or a national id: by its own check digits."""

import re
from typing import Final

_IBAN_LENGTHS: Final = {
    country: length
    for length, countries in (
        (15, "NO"),
        (16, "BE"),
        (18, "DK FI FK FO GL NL SD"),
        (19, "MK SI"),
        (20, "AT BA EE KZ LT LU MN XK"),
        (21, "CH CR HR LI LV"),
        (22, "BG BH DE GB GE IE ME RS VA"),
        (23, "AE GI IL IQ OM SO TL"),
        (24, "AD CZ ES MD PK RO SA SE SK TN VG"),
        (25, "LY PT ST"),
        (26, "IS TR"),
        (27, "BI DJ FR GR IT MC MR SM"),
        (28, "AL AZ BY CY DO GT HN HU LB NI PL SV"),
        (29, "BR EG PS QA UA YE"),
        (30, "JO KW MU"),
        (31, "MT SC"),
        (32, "LC"),
        (33, "RU"),
    )
    for country in countries.split()
}
"""Characters of an IBAN by country, after the SWIFT IBAN registry."""

_DNI_LETTERS: Final = "TRWAGMYFPDXBNJZSQVHLCKE"
_ODD: Final = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21)
_ODD_VALUES: Final = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (*_ODD, *_ODD, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)


def passes_luhn(digits: str) -> bool:
    """Return whether the last digit is the Luhn check digit of the others."""
    values = [int(digit) for digit in reversed(digits)]
    doubled = sum(sum(divmod(2 * value, 10)) for value in values[1::2])
    return (sum(values[::2]) + doubled) % 10 == 0


def iban_length(country: str) -> int:
    """Return how long the IBANs of a country are, 0 if it has none."""
    return _IBAN_LENGTHS.get(country.upper(), 0)


def is_iban(text: str) -> bool:
    """Return whether letters and digits without gaps are an IBAN (ISO 13616, modulo 97)."""
    if not text.isascii() or not text.isalnum() or len(text) != iban_length(text[:2]):
        return False
    return int("".join(str(int(char, 36)) for char in text[4:] + text[:4])) % 97 == 1


def is_spanish_id(text: str) -> bool:
    """Return whether it is a DNI or NIE: the letter at the end is the number modulo 23."""
    plain = _compact(text)
    number = plain[:-1].translate(str.maketrans("XYZ", "012"))
    return number.isdecimal() and plain[-1] == _DNI_LETTERS[int(number) % 23]


def is_brazilian_id(text: str) -> bool:
    """Return whether it is a CPF: two check digits modulo 11."""
    digits = [int(char) for char in _compact(text)]
    if len(digits) != 11 or len(set(digits)) == 1:
        return False
    return all(
        digits[size] == sum(d * (size + 1 - i) for i, d in enumerate(digits[:size])) * 10 % 11 % 10
        for size in (9, 10)
    )


def is_french_id(text: str) -> bool:
    """Return whether it is a NIR: its key is 97 less the number modulo 97."""
    plain = _compact(text).replace("2A", "19").replace("2B", "18")
    return plain.isdecimal() and int(plain[13:]) == 97 - int(plain[:13]) % 97


def is_italian_id(text: str) -> bool:
    """Return whether it is a codice fiscale: the last letter checks the fifteen before it."""
    plain = _compact(text)
    total = sum(_ODD_VALUES[char] for char in plain[:15:2])
    total += sum(int(char) if char.isdecimal() else ord(char) - 65 for char in plain[1:15:2])
    return plain[15] == chr(65 + total % 26)


def is_canadian_id(text: str) -> bool:
    """Return whether it is a SIN: the Luhn check digit."""
    return passes_luhn(_compact(text))


def _compact(text: str) -> str:
    return re.sub(r"[\W_]", "", text).upper()

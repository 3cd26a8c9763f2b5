"""Personal data in texts, found by pattern and check digit and replaced by placeholders.

What is found: cards (Luhn), IBANs (modulo 97), e-mail addresses, telephone numbers, IP
addresses, national ids (US, UK, Canada, Spain, France, Italy, Brazil), and what in a URL can be a
secret. Where check digits exist they decide; telephone numbers are told by their form or by a word
such as "call" before them, so a long number that begins with 0 counts as one. Names, addresses and
birthdays are not found here; for names see `training.names`. Nor are numbers in words, or a number
of which one turn has the beginning and the next one the end.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from training.identifiers import (
    iban_length,
    is_brazilian_id,
    is_canadian_id,
    is_french_id,
    is_iban,
    is_italian_id,
    is_spanish_id,
    passes_luhn,
)

Span = tuple[int, int]
Finder = tuple[str, Callable[[str], Iterable[Span]]]
"""A kind of personal data, and what yields where it stands; the placeholder is ``[kind]``."""

_LOCAL: Final = r"[\w.!#$%&'*+/=?^`{|}~-]"
_DOMAIN: Final = r"(?:[\w-]++[.．。])+[\w-]+"
_EMAIL: Final = re.compile(
    rf"(?<!{_LOCAL}){_LOCAL}++[@＠]{_DOMAIN}|(?<![\w.+%-])[\w.+-]+%40{_DOMAIN}", re.IGNORECASE
)
_URL: Final = re.compile(
    r"(?:(?:https?|ftp|wss?)://(?:\[[\da-f:.]+\])?|\bwww\.)[^\s<>\"\[\]]*", re.IGNORECASE
)
_SECRET: Final = re.compile(
    r"(?<=://)[^/?#]*@"  # user and password
    r"|(?<=[?#]).+"  # query and fragment
    r"|(?<=/)[^/?#]*(?:@|%40)[^/?#]*"  # an address in the path
    r"|(?<=/)(?=[^/?#]*\d)(?=[^/?#]*[a-z])[\w.~=+-]{20,}",  # a long code in the path
    re.IGNORECASE,
)
_GAP: Final = r"[\s._/\-‐-―\u200b-\u200d\u2060\ufeff]"
"""What stands between groups of a number; some of it cannot be seen."""
_DIGIT_GROUPS: Final = re.compile(rf"\d+(?:(?:{_GAP}{{1,5}}|,)\d+)*")
_IBAN: Final = re.compile(rf"(?=([A-Za-z]{{2}}[0-9]{{2}}(?:{_GAP}{{0,2}}[A-Za-z0-9]){{11,30}}))")
_IPV4: Final = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)")
_IPV6: Final = re.compile(
    r"(?<![\w:])(?=[:.]*[\da-f])(?:[\da-f]{0,4}:){2,7}(?:\d+(?:\.\d+){3}|[\da-f]{0,4})(?![\w:])",
    re.IGNORECASE,
)
_PHONE: Final = re.compile(
    r"\+\d(?:[\s().\-/]{0,2}\d){7,14}(?!\d)"  # international
    r"|(?<!\d)00\d(?:[\s().\-/]{0,2}\d){8,13}(?!\d)"
    r"|(?<!\d)(?:1[ .-]?)?\(?[2-9]\d{2}\)?[ .-]{1,2}\d{3}[ .-]\d{4}(?!\d)"  # North America
    r"|(?<![\d.,])(?!\d{1,2}[./-]\d{1,2}[./-]\d{2})\(?0\d(?:[ ()./-]{0,2}\d){7,9}(?!\d)"
)
_CALLED: Final = re.compile(
    r"\b(?:phone|mobile|cell|tel|call|ring|text|whatsapp|reach)\b[^\d\n]{0,30}"
    r"(\d(?:[ .-]?\d){6,14})(?!\d)",
    re.IGNORECASE,
)
_NATIONAL: Final = tuple(
    (re.compile(rf"(?<![^\W_]){pattern}(?![^\W_])", re.IGNORECASE), check)
    for pattern, check in (
        # US SSN: no check digit, but areas and groups that are never given
        (r"(?!000|666|9)[0-9]{3}([- .])(?!00)[0-9]{2}\1(?!0000)[0-9]{4}", None),
        # UK National Insurance number: letters that are never used
        (
            r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]"
            r"(?:[ -]?[0-9]{2}){3}[ -]?[A-D]",
            None,
        ),
        # or any nine digits that the text calls so
        (r"(?<=\bssn )[0-9]{9}|(?<=\bssn is )[0-9]{9}|(?<=security number is )[0-9]{9}", None),
        (r"[0-9]{3}([- ])[0-9]{3}\1[0-9]{3}", is_canadian_id),
        (r"(?:[XYZ][ -]?[0-9]{7}|[0-9]{8})[ -]?[A-Z]", is_spanish_id),
        (r"[0-9]{3}\.?[0-9]{3}\.?[0-9]{3}-?[0-9]{2}", is_brazilian_id),
        (
            r"[12] ?[0-9]{2} ?[0-9]{2} ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}",
            is_french_id,
        ),
        (
            r"[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]",
            is_italian_id,
        ),
    )
)


def mask(text: str, extra: Sequence[Finder] = ()) -> tuple[str, Counter[str]]:
    """Replace personal data by placeholders such as ``[card]``; all else stays as it is.

    Args:
        text: Any text.
        extra: More kinds to look for, after those of this module.

    Returns:
        A text in which nothing more is found, and how often each kind was.
    """
    counts: Counter[str] = Counter()
    # Again until nothing is found: what stood beside a hit may only now stand alone.
    while spans := _find((*FINDERS, *extra), text):
        for start, end, kind in reversed(spans):
            text = f"{text[:start]}[{kind}]{text[end:]}"
            counts[kind] += 1
    return text, counts


class Masker:
    """Masks many texts and counts what it finds.

    Attributes:
        counts: Hits so far, by kind.
    """

    def __init__(self, extra: Sequence[Finder] = ()) -> None:
        """Take kinds to look for besides those of this module."""
        self.counts: Counter[str] = Counter()
        self._extra = extra

    def __call__(self, text: str) -> str:
        """Return the text with placeholders."""
        masked, counts = mask(text, self._extra)
        self.counts += counts
        return masked


def _find(finders: Iterable[Finder], text: str) -> list[tuple[int, int, str]]:
    """Return what to replace, in order; of hits that overlap, the one found by an earlier rule."""
    taken = bytearray(len(text))
    spans = []
    for kind, finder in finders:
        for start, end in finder(text):
            if not any(taken[start:end]):
                taken[start:end] = b"\x01" * (end - start)
                spans.append((start, end, kind))
    return sorted(spans)


def _find_secrets(text: str) -> Iterator[Span]:
    """Yield the rest of each URL from the first thing on that can be a secret."""
    for match in _URL.finditer(text):
        if secret := _SECRET.search(match[0].rstrip(".,;:!?)'")):
            yield match.start() + secret.start(), match.start() + len(secret.string)


def _find_emails(text: str) -> Iterator[Span]:
    return (match.span() for match in _EMAIL.finditer(text))


def _find_ibans(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        end = 0
        places = [place for place, char in enumerate(match[1]) if char.isalnum()]
        length = iban_length(match[1][:2])
        if 0 < length <= len(places):
            end = places[length - 1] + 1
        if is_iban("".join(char for char in match[1][:end] if char.isalnum())):
            yield match.start(), match.start() + end


def _find_cards(text: str) -> Iterator[Span]:
    """Yield runs of whole groups of digits, 13 to 19 of them, with a Luhn check digit."""
    for run in _DIGIT_GROUPS.finditer(text):
        groups = [match.span() for match in re.finditer(r"\d+", run[0])]
        first = 0
        while first < len(groups):
            last = _card_end(run[0], groups, first)
            if last is not None:
                yield run.start() + groups[first][0], run.start() + groups[last][1]
                first = last
            first += 1


def _card_end(run: str, groups: Sequence[Span], first: int) -> int | None:
    """Return the last group of the longest card that begins with a group, or None."""
    digits, found = "", None
    for last in range(first, len(groups)):
        digits += run[slice(*groups[last])]
        if len(digits) > 19:
            break
        if len(digits) >= 13 and passes_luhn(digits):
            found = last
    return found


def _find_national_ids(text: str) -> Iterator[Span]:
    for pattern, check in _NATIONAL:
        yield from (
            match.span() for match in pattern.finditer(text) if check is None or check(match[0])
        )


def _find_ips(text: str) -> Iterator[Span]:
    for match in _IPV4.finditer(text):
        if all(int(part) <= 255 for part in match[0].split(".")):
            yield match.span()
    for match in _IPV6.finditer(text):
        try:
            ipaddress.ip_address(match[0])
        except ValueError:
            continue
        yield match.span()


def _find_phones(text: str) -> Iterator[Span]:
    yield from (match.span() for match in _PHONE.finditer(text))
    yield from (match.span(1) for match in _CALLED.finditer(text))


FINDERS: Final[tuple[Finder, ...]] = (
    ("token", _find_secrets),
    ("email", _find_emails),
    ("iban", _find_ibans),
    ("card", _find_cards),
    ("national id", _find_national_ids),
    ("ip", _find_ips),
    ("phone", _find_phones),
)

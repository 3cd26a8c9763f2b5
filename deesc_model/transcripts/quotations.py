"""Cut from an e-mail what it quotes, and its signature: only what is new was said now."""

import re
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import Final

_WROTE: Final = re.compile(
    r"^(On .{4,200} wrote|Am .{4,200} schrieb(?: .{1,120})?|Le .{4,200} a écrit"
    r"|El .{4,200} escribió|Il .{4,200} ha scritto|Op .{4,200} schreef(?: .{1,120})?"
    r"|Den .{4,200} skrev(?: .{1,120})?|Em .{4,200} escreveu)\s?:$"
)
_WROTE_LINES: Final = 3
_BY_MACHINE: Final = re.compile(r"\d:\d\d|@")
"""What an attribution has that a mail program wrote, and hardly one that the customer did."""
_ORIGINAL: Final = re.compile(
    r"^(-{2,} ?((original|forwarded) message|ursprüngliche nachricht|weitergeleitete nachricht"
    r"|message d'origine|message transféré|mensaje original|messaggio originale|mensagem original"
    r"|oorspronkelijk bericht|ursprungligt meddelande) ?-{2,}|begin forwarded message:)$",
    re.IGNORECASE,
)
_RULE: Final = re.compile(r"^_{20,}$")
_QUOTED: Final = re.compile(r">+(\s|$|[^\W\d_])")
"""Not ">:(" and not ">3 weeks"."""

_FROM: Final = {"from", "von", "de", "da", "van", "från", "fra", "od"}
_SENT: Final = {
    "sent", "date", "gesendet", "datum", "envoyé", "enviado", "enviado el", "fecha", "inviato",
    "data", "verzonden", "skickat", "sendt", "wysłano",
}  # fmt: skip
_SUBJECT: Final = {
    "subject", "betreff", "objet", "asunto", "oggetto", "assunto", "onderwerp", "ämne", "emne",
    "temat",
}  # fmt: skip
_HEADER_LINES: Final = 12
_SHORT, _FEW = 30, 4
"""Characters and lines of what may follow a signature's mark that lacks its blank."""
_SIGNATURE: Final = re.compile(
    r"^(sent from my (i?phone|ipad|mobile|android|samsung|galaxy|pixel|huawei|blackberry).{0,40}"
    r"|(sent from|get) (outlook|mail|yahoo mail|aol) (for|on) .{2,40})$",
    re.IGNORECASE,
)


def cut_quotations(lines: list[str]) -> str:
    """Return the text without quoted lines, without what follows them, without signature.

    An answer between quoted lines is kept. From a line such as "Original Message", a block of
    From, Sent and Subject, or a signature on, nothing is.
    """
    kept: list[str] = []
    index = 0
    while index < len(lines):
        line = lines[index].strip()
        if taken := _attribution(lines[index : index + _WROTE_LINES]):
            below = index + taken
            if next(_from(lines, below), ">").startswith(">"):
                index = below
                continue
            if _BY_MACHINE.search(" ".join(lines[index:below])):  # quoted without a mark
                break  # nothing new
        header = lines[index : index + _HEADER_LINES]
        if _ORIGINAL.match(line) or _ends(lines, index) or _header_block(header):
            break
        if not _QUOTED.match(line):
            kept.append(lines[index].rstrip())
        index += 1
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def _attribution(lines: list[str]) -> int:
    """Return how many lines "On … wrote:" takes here, 0 if it does not stand here."""
    for count in range(1, _WROTE_LINES + 1):
        if _WROTE.match(" ".join(line.strip() for line in lines[:count])):
            return count
    return 0


def _from(lines: list[str], index: int) -> Iterator[str]:
    """Yield the lines from one on, without blank ones; a long mail is not copied for each line."""
    return filter(None, (lines[number].strip() for number in range(index, len(lines))))


def _ends(lines: list[str], index: int) -> bool:
    """Return whether a signature begins here, or a rule above the header of an older message."""
    line = lines[index].strip()
    if line == "--":
        after = list(islice(_from(lines, index + 1), _FEW + 1))
        marked = lines[index].rstrip("\r\n") == "-- "
        return marked or (len(after) <= _FEW and all(len(other) <= _SHORT for other in after))
    if _RULE.match(line):
        return _heading(next(_from(lines, index + 1), "")) in _FROM
    return _SIGNATURE.match(line) is not None


def _heading(line: str) -> str:
    return line.strip().strip("*").partition(":")[0].strip("*\u00a0 ").lower()


def _header_block(lines: list[str]) -> bool:
    """Return whether the header of an older message stands here, as Outlook writes it."""
    if ":" not in lines[0] or _heading(lines[0]) not in _FROM:
        return False
    heads = set(takewhile(bool, map(_heading, lines[1:])))
    return bool(heads & _SENT) and bool(heads & _SUBJECT)

"""Cut from an e-mail what it quotes, and its signature: only what is new was said now."""

import re
from typing import Final

_WROTE: Final = re.compile(r"^On .{4,200} wrote:$")
_BY_MACHINE: Final = re.compile(r"\d:\d\d|@")
"""What an attribution has that a mail program wrote, and hardly one that the customer did."""
_ORIGINAL: Final = re.compile(
    r"^(-{2,} ?(original|forwarded) message ?-{2,}|_{20,}|begin forwarded message:)$", re.IGNORECASE
)
_SIGNATURE: Final = re.compile(
    r"^(-- ?"
    r"|sent from my (i?phone|ipad|mobile|android|samsung|galaxy|pixel|huawei|blackberry).{0,40}"
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
        rest = lines[index:]
        if taken := _attribution(rest):
            after = next((other.strip() for other in rest[taken:] if other.strip()), ">")
            quoted = after.startswith(">")
            if quoted:
                index += taken
                continue
            if _BY_MACHINE.search(" ".join(rest[:taken])):  # quoted without a mark: nothing new
                break
        if _ORIGINAL.match(line) or _SIGNATURE.match(line) or _header_block(rest):
            break
        if not line.startswith(">"):
            kept.append(lines[index].rstrip())
        index += 1
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def _attribution(lines: list[str]) -> int:
    """Return how many lines "On … wrote:" takes here, 0 if it does not stand here."""
    for count in (1, 2, 3):
        if _WROTE.match(" ".join(line.strip() for line in lines[:count])):
            return count
    return 0


def _header_block(lines: list[str]) -> bool:
    """Return whether the header of an older message stands here, as Outlook writes it."""
    heads = [line.strip().strip("*").partition(":")[0].strip("* ").lower() for line in lines[:5]]
    return heads[0] == "from" and bool({"sent", "date"} & set(heads[1:])) and "subject" in heads

"""E-mail: one message (.eml), or a thread of them (.mbox), without what each one quotes."""

import codecs
import contextlib
import re
from codecs import BOM_UTF8
from email import message_from_bytes
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message as Mail
from email.utils import mktime_tz, parseaddr, parsedate_tz

from deesc_model.errors import InvalidInputError
from deesc_model.transcripts.conversation import Message, Transcript, TranscriptFormat
from deesc_model.transcripts.document import UTF16_MARKS, Document
from deesc_model.transcripts.markup import html_to_text
from deesc_model.transcripts.quotations import cut_quotations

_MEANT = {
    "ascii": ("utf-8", "cp1252"),
    "iso8859-1": ("cp1252", "iso8859-1"),
    "gb2312": ("gb18030",),
}
"""What programs write that say so, as browsers read it: https://encoding.spec.whatwg.org.

The names are those of Python's codecs.
"""

_STUB = re.compile(r"\b(html|browser|viewer|view (this|the) (e-?mail|message))\b", re.IGNORECASE)
_LONGEST_STUB = 200
"""Of a plain part that says only that the other one is to be read."""

_HEADER = re.compile(r"^[A-Za-z][A-Za-z0-9-]*:")
_ESCAPED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
_SEPARATOR = re.compile(rb"(?:\A|\r?\n\r?\n)From [^\r\n]*\d:\d\d[^\r\n]*\r?\n")
"""Has a time, unlike a paragraph that begins with From."""


def fits(document: Document) -> bool:
    """Look for a header with From and one of Subject, Date, Message-ID."""
    lines = document.lines()[:200]
    if lines[0].startswith("From "):
        lines = lines[1:]
    if not lines or not _HEADER.match(lines[0]):
        return False
    head = lines[: lines.index("")] if "" in lines else lines
    names = {line.partition(":")[0].lower() for line in head if _HEADER.match(line)}
    return "from" in names and bool(names & {"subject", "date", "message-id"})


def read(document: Document) -> list[Transcript]:
    """Read the messages as one conversation, by date if every message has one."""
    try:
        return [_transcript(document)]
    except RecursionError:
        raise InvalidInputError("the parts of a message are nested too deeply") from None


def _transcript(document: Document) -> Transcript:
    raw = document.raw
    marked = raw.startswith((BOM_UTF8, *UTF16_MARKS))
    if marked:
        raw = document.text.encode("utf-8", "surrogateescape")
    mails = [message_from_bytes(part) for part in _split(raw)]
    if marked:
        for mail in mails:
            _say_utf8(mail)
    dates = [_seconds(mail) for mail in mails]
    order = range(len(mails))
    if None not in dates:
        order = sorted(order, key=lambda index: dates[index] or 0)  # type: ignore[assignment]
    messages: list[Message] = []
    empty = 0
    for index in order:
        message = _message(mails[index], f"message {index + 1}")
        if message.text:
            messages.append(message)
        else:
            empty += 1
    subject = _header(mails[order[0]], "Subject") if mails else ""
    return Transcript(
        "",
        messages,
        {"messages that only quote": empty} if empty else {},
        {"channel": "email", **({"subject": subject} if subject else {})},
    )


def _split(raw: bytes) -> list[bytes]:
    """Return the messages of a file; one that begins with "From " is a box of them."""
    if not raw.startswith(b"From "):
        return [raw]
    parts = _SEPARATOR.split(raw)
    return [_ESCAPED_FROM.sub(rb"\1", part) for part in parts if part.strip()]


def _say_utf8(mail: Mail) -> None:
    """Let plain parts say what the mark of their file says, which was converted as a whole."""
    for part in mail.walk():
        encoding = str(part.get("Content-Transfer-Encoding", "8bit")).strip().lower()
        if part.get_content_maintype() == "text" and encoding in ("7bit", "8bit", "binary"):
            kind = part.get_content_type()
            del part["Content-Type"]
            part["Content-Type"] = f"{kind}; charset=utf-8"


def _message(mail: Mail, place: str) -> Message:
    name, address = parseaddr(str(mail.get("From", "")))  # first: a decoded name may hold a comma
    name = _plain(name)
    metadata = {"time": _header(mail, "Date"), "display_name": name}
    return Message(
        name=address.lower() or name or "unnamed",
        text=cut_quotations(re.split(r"\r\n|\r|\n", _body(mail, place))),
        place=place,
        metadata={key: value for key, value in metadata.items() if value},
    )


def _body(part: Mail, place: str) -> str:
    """Return what a part says: of alternatives the plain one, of others all, one after another.

    Attachments and messages that are passed on are not what the sender says now.
    """
    kind = part.get_content_type()
    attached = part.get_content_disposition() == "attachment" or part.get_filename()
    if attached or part.get_content_maintype() == "message":
        return ""
    if kind == "text/plain":
        return _decoded(part, place)
    if kind == "text/html":
        return html_to_text(_decoded(part, place), quoted=">")
    if not part.is_multipart():
        return ""
    members = [member for member in part.get_payload() if isinstance(member, Mail)]
    if kind == "multipart/alternative":
        members.sort(key=lambda member: member.get_content_type() != "text/plain")
    said = (text for member in members if (text := _body(member, place)).strip())
    if kind == "multipart/alternative":  # those after it need not even be text
        first = next(said, "")
        is_stub = len(first) <= _LONGEST_STUB and _STUB.search(first)
        return (next(said, first) if is_stub else first) or first
    return "\n".join(said)


def _decoded(part: Mail, place: str) -> str:
    payload = part.get_payload(decode=True)
    raw = payload if isinstance(payload, bytes) else b""
    charset = part.get_content_charset("ascii")
    try:
        *tries, last = _MEANT.get(codecs.lookup(charset).name, (charset,))
        for likely in tries:
            with contextlib.suppress(ValueError):
                return raw.decode(likely)
        return raw.decode(last)
    except LookupError:
        raise InvalidInputError(f"{place}: its charset {charset!r} is unknown") from None
    except ValueError as error:
        raise InvalidInputError(f"{place}: its text is not {charset}: {error}") from None


def _header(mail: Mail, name: str) -> str:
    """Return a header in plain words, or an empty string."""
    return _plain(str(mail.get(name, "")))


def _plain(value: str) -> str:
    """Return a header's value in plain words; one that cannot be decoded stays as it is."""
    with contextlib.suppress(MessageError, LookupError, ValueError):
        value = str(make_header(decode_header(value)))
    return " ".join(value.split())


def _seconds(mail: Mail) -> float | None:
    """Return the date as seconds since 1970, or None."""
    parsed = parsedate_tz(str(mail.get("Date", "")))
    try:
        return None if parsed is None else mktime_tz(parsed)
    except (ValueError, OverflowError):  # a day or a year that no calendar has
        return None


FORMAT = TranscriptFormat(
    "email",
    "e-mail (.eml, .mbox): header lines with From: and Subject:, Date: or Message-ID:",
    fits,
    read,
)

"""Captions with speakers: WebVTT (https://www.w3.org/TR/webvtt1/) and SubRip (.srt)."""

import html
import re
from dataclasses import dataclass
from typing import Final

from deesc_model.errors import InvalidInputError
from deesc_model.transcripts.conversation import Message, Transcript, TranscriptFormat
from deesc_model.transcripts.dialogue import Line, is_system, names_that_speak, speaker_and_text
from deesc_model.transcripts.document import Document
from deesc_model.transcripts.speakers import role_of_name

_TIME: Final = r"(?:\d{1,4}:)?\d{2}:\d{2}[.,]\d{3}"
_TIMING: Final = re.compile(rf"^\s*({_TIME})\s+-->\s+({_TIME})")
_VOICE: Final = re.compile(r"<v(?:\.[^\s<>]{0,100})?\s([^<>]{1,200})>")
_TAG: Final = re.compile(
    r"</?(?:[bicuv]|ruby|rt|lang|font|\d[\d:.]{0,20})(?:[.\s][^<>]{0,200})?>", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one speaker says in one cue; without a name the one before goes on.

    A tagged name is a speaker's; one before a colon may be part of what is said.
    """

    line: int
    begin_ms: int
    end_ms: int
    name: str
    text: str
    tagged: bool


def fits(document: Document) -> bool:
    """Look for the word WEBVTT, or for a number and a line of times."""
    lines = [line for line in document.lines()[:20] if line.strip()]
    return _is_vtt(lines) or any(_TIMING.match(line) for line in lines[:2])


def _is_vtt(lines: list[str]) -> bool:
    first = next((line for line in lines if line.strip()), "")
    return re.match(r"WEBVTT(\s|$)", first) is not None


def read(document: Document) -> list[Transcript]:
    """Read one conversation; cues of one speaker that follow each other are one turn."""
    found = [piece for cue in _cues(document.lines()) for piece in _pieces(*cue)]
    pieces = [piece for piece in found if not is_system(Line(piece.name, piece.text))]
    speakers = names_that_speak(Line(p.name, p.text) for p in pieces if p.name and not p.tagged)
    speakers |= {piece.name for piece in pieces if piece.tagged}
    turns: list[list[_Piece]] = []
    for piece in pieces:
        if piece.name in speakers and not (turns and turns[-1][0].name == piece.name):
            turns.append([piece])
        elif turns:
            turns[-1].append(piece)
        else:
            raise InvalidInputError(
                f"line {piece.line}: no speaker is named before {piece.text[:40]!r};"
                " write <v NAME> or NAME: in front of it"
            )
    messages = [
        Message(
            name=turn[0].name,
            text=" ".join(filter(None, (_said(piece, speakers) for piece in turn))),
            place=f"line {turn[0].line}",
            role=role_of_name(turn[0].name),
            metadata={"begin_ms": turn[0].begin_ms, "end_ms": turn[-1].end_ms},
        )
        for turn in turns
        if any(piece.text for piece in turn)
    ]
    left_out = {"system messages": len(found) - len(pieces)}
    return [Transcript("", messages, left_out if len(found) > len(pieces) else {})]


def _said(piece: _Piece, speakers: frozenset[str]) -> str:
    """Return the words of a piece; a name before a colon that is no speaker is one of them."""
    if not piece.name or piece.name in speakers:
        return piece.text
    return f"{piece.name}: {piece.text}".strip()


def _cues(lines: list[str]) -> list[tuple[int, int, int, list[str]]]:
    """Return line number, begin, end and text of each cue; notes and styles are passed over."""
    cues = []
    index = 0
    is_vtt = _is_vtt(lines)
    while index < len(lines):
        timing = _TIMING.match(lines[index])
        if not timing:
            if "-->" in lines[index]:
                raise InvalidInputError(f"line {index + 1}: not two times: {lines[index][:60]!r}")
            index += 1
            continue
        start = index + 1
        index = _empty(lines, start) if is_vtt else _end_in_subrip(lines, start)
        cues.append((start + 1, _ms(timing[1]), _ms(timing[2]), lines[start:index]))
    return cues


def _empty(lines: list[str], start: int) -> int:
    return next((k for k in range(start, len(lines)) if not lines[k].strip()), len(lines))


def _end_in_subrip(lines: list[str], start: int) -> int:
    """Return where a cue ends; one of SubRip goes on after an empty line unless times follow."""
    end = _empty(lines, start)
    while True:
        more = next((k for k in range(end, len(lines)) if lines[k].strip()), len(lines))
        if more == len(lines) or any("-->" in line for line in lines[more : more + 2]):
            return end
        end = _empty(lines, more)


def _pieces(line: int, begin_ms: int, end_ms: int, text: list[str]) -> list[_Piece]:
    """Return what each speaker says in a cue, by voice tags or by a name and a colon."""
    before, *voices = _VOICE.split("\n".join(text))
    pieces: list[_Piece] = []
    for part in before.split("\n"):
        words = _words(part)
        name, said, _ = speaker_and_text(words) or Line("", words)
        pieces.append(_Piece(line, begin_ms, end_ms, name, said, tagged=False))
    for name, said in zip(voices[::2], voices[1::2], strict=True):
        pieces.append(_Piece(line, begin_ms, end_ms, _words(name), _words(said), tagged=True))
    return [piece for piece in pieces if piece.text or piece.name]  # the words may follow a name


def _words(markup: str) -> str:
    return " ".join(html.unescape(_TAG.sub("", markup)).split())


def _ms(time: str) -> int:
    *hours, minutes, rest = time.replace(",", ".").split(":")
    seconds, fraction = rest.split(".")
    whole = int(hours[0] if hours else 0) * 3600 + int(minutes) * 60 + int(seconds)
    return whole * 1000 + int(fraction)


FORMAT = TranscriptFormat(
    "captions",
    "captions (.vtt, .srt): WEBVTT, or lines such as 00:01.000 --> 00:04.000",
    fits,
    read,
)

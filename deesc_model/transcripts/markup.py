"""The text of an HTML message, as a reader sees it, without what it quotes."""

import re
from html.parser import HTMLParser
from typing import Final

_BLOCK: Final = re.compile(
    r"p|div|br|hr|li|ul|ol|dl|dt|dd|tr|t[dh]|table|h[1-6]|pre|section|article|header|footer"
)
_SILENT: Final = frozenset(("script", "style", "head", "title", "blockquote"))


class _Reader(HTMLParser):
    def __init__(self, quoted: str) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._quoted = quoted
        self._silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "body":  # it ends a head that nobody closed, also that of a quoted message
            self._silent = [there for there in self._silent if there == "blockquote"]
        elif tag in _SILENT:
            if tag == "blockquote" and not self._silent:
                self.parts.append(f"\n{self._quoted}\n")
            self._silent.append(tag)
        elif _BLOCK.fullmatch(tag):
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._silent and tag in ("blockquote", self._silent[-1]):
            while self._silent.pop() != tag:
                pass  # what nobody closed in the quotation
        elif _BLOCK.fullmatch(tag):
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(re.sub(r"\s+", " ", data))

    def parse_marked_section(self, i: int, report: int = 1) -> int:
        """Pass over ``<![…>`` as browsers do; `HTMLParser` raises where it knows no such word."""
        end = self.rawdata.find(">", i)
        return end + 1 if end >= 0 else -1


def html_to_text(markup: str, quoted: str = "") -> str:
    """Return the text of an HTML fragment, one line a block; quotations are left out.

    Args:
        markup: The fragment.
        quoted: The line that stands in place of a quotation.
    """
    reader = _Reader(quoted)
    reader.feed(markup)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.parts).split("\n"))
    return "\n".join(line for line in lines if line)

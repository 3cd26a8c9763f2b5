"""The frame of a page that stands alone in one file and asks nobody for anything."""

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from deesc_model.report.markup import escaped

STYLE: Final = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
"""How every page looks, in light, in dark and on paper."""


def html_document(
    title: str,
    intro: str,
    body: Iterable[str],
    *,
    skip: str,
    style: str = STYLE,
    script: str = "",
    more_policy: str = "",
) -> str:
    """Return a whole HTML page; its policy forbids whatever is not in it.

    Args:
        title: Heading of the page, as text.
        intro: A paragraph below it, as HTML.
        body: The parts of the page, as HTML.
        skip: What the link to the main part says, for those who use the keyboard.
        style: The style sheet.
        script: The only script that may run; empty for none.
        more_policy: Directives beside those for style and script.
    """
    allowed = ["default-src 'none'", f"style-src {_hash(style)}"]
    allowed += [f"script-src {_hash(script)}"] if script else []
    allowed += [more_policy] if more_policy else []
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escaped("; ".join(allowed))}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escaped(title)} – deesc</title>",
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            f'<a class="skip" href="#main">{escaped(skip)}</a>',
            f"<header><h1>{escaped(title)}</h1>",
            f'<p class="quiet">{intro}</p></header>',
            '<main id="main">',
            *body,
            "</main>",
            *([f"<script>{script}</script>"] if script else []),
            "</body>",
            "</html>",
            "",
        ]
    )


def _hash(source: str) -> str:
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return f"'sha256-{digest}'"

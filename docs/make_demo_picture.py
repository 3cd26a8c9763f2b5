"""Draw docs/demo.svg: what `deesc show` prints on a terminal. Run it from the checkout."""

import re
from pathlib import Path

from rich.console import Console

from deesc_model import EscalationClassifier
from deesc_model.records import Record, read_records
from deesc_model.terminal import prediction_table

FILE = Path("examples/late_parcel.jsonl")

with FILE.open(encoding="utf-8", newline="") as stream:
    records = read_records(stream, "jsonl", context_turns=0)
    turns = [record.turn for record in records if isinstance(record, Record)]
predictions = EscalationClassifier.from_pretrained().predict_conversation(turns)
console = Console(record=True, width=124, force_terminal=True, color_system="truecolor")
console.print(prediction_table(turns, predictions))
picture = console.export_svg(title=f"deesc show {FILE}")
# The font would come from somebody else's server; any monospace font will do.
picture = re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)
Path("docs/demo.svg").write_text(picture, encoding="utf-8")

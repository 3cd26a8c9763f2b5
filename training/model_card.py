"""The model card of a bundle: what it is for, how good it is, where it fails."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from deesc_model.labels import SIGNALS, TRIGGERS, Level
from training.corpus import CORPUS, Utterance
from training.dataset import count_sources
from training.report_tables import format_report

OURS = (
    "The conversations were invented and labelled by language-model authors for this project; no"
    " real customer's words are among them."
)
THEIRS = (
    "The conversations are of whoever trained this model, who knows where they are from, who"
    " labelled them, and whether customers' words are among them."
)

LICENCE = "license: apache-2.0\n"
"""Of our data; of others, who trains knows."""
FEW_AUTHORS = "Written by few authors, so style and range are narrower than life; sarcasm"


def model_card(
    report: Mapping[str, Any],
    origin: Mapping[str, str],
    weights: str,
    splits: Mapping[str, Sequence[Utterance]],
    how: str,
    *,
    invented: bool = False,
    learned_before: bool = False,
) -> str:
    """Return the card as Markdown.

    Args:
        report: What `training.evaluation.evaluate` returned for the test split.
        origin: The manifest's name, base_model, training_run, git_commit, data_fingerprint.
        weights: Precision of the exported weights.
        splits: The utterances of each split.
        how: How it learned, in a sentence.
        invented: Whether the corpus is this project's, with no real customer's words and under
            its licence.
        learned_before: Whether it began as, or was taught by, what had learned before this run.
    """
    corpus = {name: [r for r in rows if r.source == CORPUS] for name, rows in splits.items()}
    sizes = "\n".join(
        f"| {split} | {len({row.conversation_id for row in rows}):,} | {len(rows):,}"
        f" | {len(splits[split]) - len(rows):,} |"
        for split, rows in corpus.items()
    )
    domains = ", ".join(sorted({row.domain for row in corpus["train"]}))
    public = count_sources(row for rows in splits.values() for row in rows if row.source != CORPUS)
    return f"""---
language: en
{LICENCE if invented else ""}base_model: {origin["base_model"]}
pipeline_tag: text-classification
---
# {origin["name"]}

Labels each utterance of a customer-service conversation, in the light of the turns before it:

- **frustration level**: {", ".join(f"{int(level)} {level.label}" for level in Level)}
- **triggers**: {", ".join(TRIGGERS)}
- **escalation signals**: {", ".join(SIGNALS)}

```python
from deesc_model import EscalationClassifier

classifier = EscalationClassifier.from_pretrained("PATH/OF/THIS/FOLDER")
print(classifier.predict("Third call today!"))
```

## Intended use
Helping people who serve customers notice early that somebody is getting upset, know why, and
know when to hand over: a hint beside a live conversation, a filter over an archive, a measure
of what sets customers off.

**Not for** judging, ranking or disciplining employees: labels on agent turns are about the
wording's risk, not about the person. Not for deciding on its own whether somebody gets
service, and no substitute for a human who reads a threat of harm.

## Data
| split | conversations of the corpus | their turns | public texts |
| --- | ---: | ---: | ---: |
{sizes}

English; domains: {domains}. {OURS if invented else THEIRS} {_public_texts(public, learned_before)}
`data/README.md` in the repository is the data card{"" if invented else " of the project's own"}.

## Figures
Test split of the corpus, by the exported model ({weights} weights). They say how well it
reads conversations of this style; on other people's customers expect less.

{format_report(report)}

## Limits
- English only. {FEW_AUTHORS if invented else "Sarcasm"},
  dialect and private references will be missed.
- Threats and abuse are rare and varied: use a signal as a prompt to look, never the lack of
  one as proof of safety.
- Scores are calibrated on this data. Recalibrate (`training.recalibrate`) before
  reading them as probabilities elsewhere.
- Groups of speakers were not compared; wording that is common in one dialect may be read as
  heat. Check on your own customers.

## Origin
{how}

Base model {origin["base_model"]}; MLflow run {origin["training_run"]}; commit
{origin["git_commit"]}; data sha256 {origin["data_fingerprint"]}. The manifest holds the sha256
of every file.
"""


def how_it_learned(card: str) -> str:
    """Return what a card says of how its model learned; empty of a card that is none of ours."""
    _, _, rest = card.partition("\n## Origin\n")
    told, found, _ = rest.partition("\n\nBase model ")
    return told.strip() if found else ""


def _public_texts(counts: Counter[str], learned_before: bool) -> str:
    if not counts and learned_before:
        return (
            "No public texts in this run; what it began as, or was taught by, learned from those of"
            " its own card."
        )
    if not counts:
        return "No public texts were used."
    listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return (
        f"Public texts, written by real customers and users and labelled in the same way: {listed};"
        " `data/sources.toml` says where they are published and under what licence."
    )

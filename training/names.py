"""Names of people in texts, by Presidio (the extra ``pii``) on a spaCy model, without any download.

Presidio fetches a model that is missing; here that is an error, so nothing ever leaves the machine.
Presidio and spaCy are MIT-licensed; a model has a licence of its own.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from deesc_model.errors import MissingExtraError
from training.corpus import DataError
from training.masking import Finder, Span

_NAME = r"[A-Z][\w'’-]+(?:\s+[A-Z][\w'’-]+){0,2}"
_ANNOUNCED = (
    r"(?<=\b[Mm]y name is )" + _NAME,
    r"(?<=\b[Mm]y name's )" + _NAME,
    r"(?<=\b[Dd]ear )(?!Sir|Madam|Customer|Team|Support|Mr|Ms|Dr)" + _NAME,
    r"(?<=\b(?:Mr|Ms|Dr) )" + _NAME,
    r"(?<=\b(?:Mr|Ms|Dr)\. )" + _NAME,
    r"(?<=\bMrs )" + _NAME,
    r"(?<=\bMrs\. )" + _NAME,
    r"(?<=\b[Tt]his is )" + _NAME + r"(?= (?:speaking|here|calling|from)\b)",
)
"""Where a text says that a name follows, which models overlook if the name is rare."""

_SURE = 0.5
"""Presidio's score 0–1 from which on a name counts."""


def name_finder(model: str) -> Finder:
    """Return what finds names.

    Args:
        model: Name or folder of an installed spaCy model that finds entities.

    Raises:
        MissingExtraError: Presidio is not installed.
        DataError: There is no such model.
    """
    if find_spec("presidio_analyzer") is None:
        raise MissingExtraError("presidio-analyzer", "pii")
    import spacy  # noqa: PLC0415
    from presidio_analyzer import AnalyzerEngine, Pattern, PatternRecognizer, RecognizerRegistry  # noqa: PLC0415
    from presidio_analyzer.nlp_engine import SpacyNlpEngine  # noqa: PLC0415
    from presidio_analyzer.predefined_recognizers import SpacyRecognizer  # noqa: PLC0415

    engine = SpacyNlpEngine([{"lang_code": "en", "model_name": model}])
    try:
        if not (spacy.util.is_package(model) or Path(model).is_dir()):
            raise OSError("install its package, or name a folder")
        engine.load()
    except OSError as error:
        raise DataError(f"no spaCy model {model!r}: {error}") from None
    patterns = [Pattern(f"announced {n}", text, 0.9) for n, text in enumerate(_ANNOUNCED)]
    recognisers = [
        PatternRecognizer("PERSON", patterns=patterns, global_regex_flags=0),
        SpacyRecognizer(supported_entities=["PERSON"]),
    ]
    analyser = AnalyzerEngine(
        registry=RecognizerRegistry(recognisers), nlp_engine=engine, supported_languages=["en"]
    )

    def find(text: str) -> Iterator[Span]:
        for hit in analyser.analyze(
            text, language="en", entities=["PERSON"], score_threshold=_SURE
        ):
            if "[" not in text[max(hit.start - 1, 0) : hit.end]:  # a placeholder is no name
                yield hit.start, hit.end

    return "name", find

"""Finds personal data with Microsoft's presidio-analyzer, where it is installed.

Presidio checks e-mail domains through a library that asks the network for the list of public
suffixes; here that library uses the list it comes with, so that nothing is ever fetched.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Sequence
from typing import Any

from plumbline.core.errors import FailedPreconditionError
from plumbline.curation.pii.names.config import PresidioConfig
from plumbline.curation.pii.spans import Span

_RECOGNIZER = "presidio"
_NEED_A_MODEL = frozenset({"PERSON", "LOCATION", "NRP", "ORGANIZATION", "DATE_TIME"})
_log = logging.getLogger(__name__)


class PresidioRecognizer:
    """Presidio's recognizers with an installed spaCy pipeline, or with a blank one.

    Raises:
        FailedPreconditionError: presidio-analyzer is not installed, or the pipeline is not and
            `blank_without_model` is off.
    """

    def __init__(self, config: PresidioConfig) -> None:
        if importlib.util.find_spec("presidio_analyzer") is None:
            raise FailedPreconditionError(
                "presidio-analyzer is not installed; `pip install plumbline[presidio]` installs it",
                reason="MISSING_EXTRA",
                metadata={"extra": "presidio"},
            )
        self._config = config
        self._labels = dict(config.labels)
        self.has_model = importlib.util.find_spec(config.model) is not None
        if not self.has_model and not config.blank_without_model:
            raise FailedPreconditionError(
                f"the spaCy pipeline {config.model!r} is not installed; an installed one, or "
                "blank_without_model, is accepted",
                reason="MISSING_MODEL",
            )
        self._analyzer = _analyzer(config, self.has_model)
        supported = set(self._analyzer.get_supported_entities(config.language))
        if not self.has_model:
            supported -= _NEED_A_MODEL
        self._entities = sorted(supported.intersection(self._labels))
        self.types = frozenset(self._labels[label] for label in self._entities)
        if not self.has_model:
            _log.warning(
                "spaCy pipeline %s is not installed: Presidio finds no names", config.model
            )

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Proposals in each text, in the text's own offsets."""
        return [self._find(text) for text in texts]

    def _find(self, text: str) -> list[Span]:
        if not text.strip() or not self._entities:
            return []
        results = self._analyzer.analyze(
            text,
            language=self._config.language,
            entities=self._entities,
            score_threshold=self._config.min_score,
        )
        return [
            Span(
                result.start,
                result.end,
                self._labels[result.entity_type],
                min(1.0, max(0.0, float(result.score))),
                _RECOGNIZER,
            )
            for result in sorted(results, key=lambda r: (r.start, r.end, r.entity_type))
        ]


def _analyzer(config: PresidioConfig, has_model: bool) -> Any:
    """An AnalyzerEngine that fetches nothing."""
    spacy = importlib.import_module("spacy")
    tldextract: Any = importlib.import_module("tldextract")
    presidio = importlib.import_module("presidio_analyzer")
    engines = importlib.import_module("presidio_analyzer.nlp_engine")

    # Its e-mail recognizer calls this module's function, which otherwise fetches a list.
    # A plain assignment, since the module offers no other way.
    tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    engine = engines.SpacyNlpEngine(
        models=[{"lang_code": config.language, "model_name": config.model}]
    )
    # Loaded here: the engine's own way downloads a pipeline that is missing.
    engine.nlp = {
        config.language: spacy.load(config.model) if has_model else spacy.blank(config.language)
    }
    registry = presidio.RecognizerRegistry(supported_languages=[config.language])
    registry.load_predefined_recognizers(languages=[config.language], nlp_engine=engine)
    return presidio.AnalyzerEngine(
        registry=registry, nlp_engine=engine, supported_languages=[config.language]
    )

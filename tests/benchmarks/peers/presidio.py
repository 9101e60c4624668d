"""presidio-analyzer with its predefined recognizers, over its spaCy pipeline.

English uses `en_core_web_lg`, Presidio's default, where it is installed, else a blank pipeline
(no names or places then); Chinese, for which Presidio has no default, uses spaCy's blank Chinese
pipeline with Presidio's pattern recognizers, and Chinese numbers added to its telephone regions.
Presidio validates e-mail domains by tldextract, which would fetch its list from the network; it is
given the list that comes in its own wheel.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import spacy
import tldextract
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import SpacyNlpEngine
from presidio_analyzer.predefined_recognizers import PhoneRecognizer

logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)

DEFAULT_MODEL = "en_core_web_lg"
LANGUAGES = ("en", "zh")
PHONE_REGIONS = (*PhoneRecognizer.DEFAULT_SUPPORTED_REGIONS, "CN")


def english_pipeline() -> tuple[str, Any]:
    """The spaCy pipeline for English and its name."""
    if spacy.util.is_package(DEFAULT_MODEL):
        return DEFAULT_MODEL, spacy.load(DEFAULT_MODEL)
    return "blank", spacy.blank("en")


def stay_offline() -> None:
    """Make every extractor of tldextract read the snapshot in its wheel."""
    offline = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    tldextract.extract.__globals__["TLD_EXTRACTOR"] = offline


def analyzer() -> tuple[str, AnalyzerEngine]:
    """The name of the English pipeline, and the analyzer."""
    stay_offline()
    name, english = english_pipeline()
    engine = SpacyNlpEngine(models=[{"lang_code": code, "model_name": ""} for code in LANGUAGES])
    engine.nlp = {"en": english, "zh": spacy.blank("zh")}
    registry = RecognizerRegistry(supported_languages=list(LANGUAGES))
    registry.load_predefined_recognizers(languages=list(LANGUAGES), nlp_engine=engine)
    registry.remove_recognizer("PhoneRecognizer")
    for language in LANGUAGES:
        registry.add_recognizer(
            PhoneRecognizer(supported_language=language, supported_regions=PHONE_REGIONS)
        )
    made = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=list(LANGUAGES))
    return name, made


def analyze(engine: AnalyzerEngine, texts: Sequence[str], language: str) -> list[list[Any]]:
    """What it finds in each text, with its default threshold."""
    return [engine.analyze(text, language=language) for text in texts]

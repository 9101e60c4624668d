"""Stage `curation.analyze`: a table of every document's figures, a report of the corpus.

Two passes, neither of which holds the corpus: the first measures documents and writes their rows,
the second knows which are exact copies, completes the rows and sums them up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from plumbline.core.errors import InvalidInputError
from plumbline.core.stages import StageContext, StageInputs, StageResult
from plumbline.curation.analysis.duplicates import BandFile, ExactCopies, estimate_near_copies
from plumbline.curation.analysis.figures import DocumentAnalyzer, DocumentFigures, TextScorer
from plumbline.curation.analysis.identity import IdentityMatcher, load_terms
from plumbline.curation.analysis.pronouns import LANGUAGES
from plumbline.curation.analysis.render import render_analysis
from plumbline.curation.analysis.summary import CorpusSummary
from plumbline.curation.config import AnalyzeConfig
from plumbline.curation.engine import EXACT_DUPLICATE
from plumbline.data.readers import open_artifact_dataset
from plumbline.data.records import Document
from plumbline.data.tables import iter_records, write_records

_PROGRESS_DOCUMENTS = 1000


class CorpusAnalysis:
    """The measured shards of one corpus; each adds documents on its own, then they are merged.

    A shard is two files in a directory, so it may be measured by any process.
    """

    def __init__(
        self,
        config: AnalyzeConfig,
        matcher: IdentityMatcher,
        filters: Mapping[str, TextScorer] | None = None,
    ) -> None:
        self._config = config
        self._matcher = matcher
        self._filters = filters
        self._shards: list[Path] = []

    def add(self, documents: Iterable[Document], directory: Path) -> int:
        """Measure a shard's documents as they come.

        Args:
            directory: empty; the shard's files go there.
        Returns:
            how many documents there were.
        """
        analyzer = DocumentAnalyzer(self._config, self._matcher, self._filters)

        def rows(bands: BandFile) -> Iterator[DocumentFigures]:
            for figures, sketch in analyzer.measure(documents):
                bands.add(figures.digest, sketch)
                yield figures

        with BandFile(directory / "bands.bin") as bands:
            count = write_records(directory / "figures.parquet", rows(bands), DocumentFigures)
        self._shards.append(directory)
        return count

    def merge(self, other: CorpusAnalysis) -> None:
        """Take in the shards of another analysis with the same config, after our own."""
        self._shards += other._shards

    def finish(self, table: Path) -> dict[str, Any]:
        """Write the table of all documents, in order, and sum it up.

        Returns:
            the report, JSON-compatible; the order of documents changes nothing in it.
        """
        figures = [shard / "figures.parquet" for shard in self._shards]
        summary = CorpusSummary(self._config, self._matcher.terms)
        write_records(table, _completed(figures, summary, self._config), DocumentFigures)
        return {**summary.finish(), "near_copies": self._near_copies()}

    def _near_copies(self) -> dict[str, Any] | None:
        config = self._config.near_copies
        near = self._config.curation.near_duplicates
        if not (config.enabled and near.enabled):
            return None
        found = estimate_near_copies(
            [shard / "bands.bin" for shard in self._shards],
            near,
            sample_documents=config.sample_documents,
            seed=config.seed,
        )
        share = found.share.to_dict() if found.looked_up else {**_NOTHING, "n": 0}
        return {
            "distinct": found.distinct,
            "looked_up": found.looked_up,
            "sampled": found.looked_up < found.distinct,
            "share": share,
        }


_NOTHING = {"value": 0.0, "low": 0.0, "high": 1.0}


def _completed(
    tables: Sequence[Path], summary: CorpusSummary, config: AnalyzeConfig
) -> Iterator[DocumentFigures]:
    """Rows that know whether they are exact copies, counted as they pass."""
    copies = ExactCopies(tables)
    removes_copies = config.curation.exact_duplicates.enabled
    for path in tables:
        for figures in iter_records(path, DocumentFigures):
            if copies.is_copy(figures.digest, figures.id):
                figures = replace(figures, exact_duplicate=True)
                if removes_copies and not figures.rule:
                    code = EXACT_DUPLICATE.upper()
                    figures = replace(figures, rule=EXACT_DUPLICATE, code=code)
            summary.add(figures)
            yield figures


def run_analyze(config: AnalyzeConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    """Writes documents.parquet (DocumentFigures), report.json and report.html."""
    matcher = load_terms(
        [file for given in inputs.many("descriptors") for file in descriptor_files(given.path)],
        config.identity,
    )
    filters = load_filters([given.path for given in inputs.many("filters")])
    source = open_artifact_dataset(
        inputs.one("corpus").path, Document, on_error=config.curation.on_error
    )
    analysis = CorpusAnalysis(config, matcher, filters)
    shard = context.work_dir / "shard"
    shard.mkdir()
    analysis.add(_reported(source, context), shard)
    report = analysis.finish(context.output_dir / "documents.parquet")
    report["read"] = source.report.to_json()
    html = render_analysis(report, top_terms=config.top_terms)
    (context.output_dir / "report.html").write_text(html, encoding="utf-8")
    text = json.dumps(report, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False)
    (context.output_dir / "report.json").write_text(text + "\n", encoding="utf-8")
    return StageResult(metrics=analysis_metrics(report))


def descriptor_files(directory: Path) -> list[Path]:
    """The JSON files of an artifact.

    Raises:
        InvalidInputError: it holds none.
    """
    found = sorted(
        path for path in directory.rglob("*.json") if path.name not in ("manifest.json", "run.json")
    )
    if not found:
        raise InvalidInputError(
            "the descriptors hold no JSON file; accepted: {axis: {bucket: [term, ...]}}",
            field="inputs.descriptors",
        )
    return found


def load_filters(directories: Sequence[Path]) -> dict[str, TextScorer]:
    """Trained filters by their names.

    Raises:
        InvalidInputError: two of them have the same name.
    """
    from plumbline.curation.filters.classifier import load_filter

    filters: dict[str, TextScorer] = {}
    for directory in directories:
        found = load_filter(directory)
        if found.card.name in filters:
            raise InvalidInputError(
                f"two filters are named {found.card.name!r}; accepted: one of each name",
                field="inputs.filters",
            )
        filters[found.card.name] = found
    return filters


def analysis_metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """Figures that the artifact's manifest keeps.

    documents, characters, tokens; share.LANGUAGE; exact_copies, near_copies, pii_documents and
    lexicon, as shares of documents; pii.TYPE, pieces per 1,000 documents; pronouns.LANGUAGE.GROUP
    and identity.LANGUAGE.AXIS for English and Chinese, as shares of the language's documents;
    toxic.FILTER, the share at or above the threshold; removed.RULE, documents; erasure.flagged and
    erasure.significant, rows.
    """
    metrics: dict[str, float] = {
        "documents": report["documents"],
        "characters": report["characters"],
        "tokens": report["tokens"],
        "exact_copies": report["exact_copies"]["value"],
        "pii_documents": report["pii"]["documents"]["value"],
        "lexicon": report["toxicity"]["lexicon"]["value"],
        "erasure.flagged": report["erasure"]["flagged"],
        "erasure.significant": report["erasure"]["significant"],
    }
    if report["near_copies"] is not None:
        metrics["near_copies"] = report["near_copies"]["share"]["value"]
    for language, found in report["languages"].items():
        metrics[f"share.{language}"] = found["share"]["value"]
    for name, found in report["pii"]["types"].items():
        metrics[f"pii.{name.lower()}"] = found["per_1000_documents"]
    for language, found in report["pronouns"].items():
        for group, share in found["of_all"].items():
            metrics[f"pronouns.{language}.{group}"] = share["value"]
    for language, found in report["identity"].items():
        for axis in found["axes"] if language in LANGUAGES else ():
            metrics[f"identity.{language}.{axis['axis']}"] = axis["share"]["value"]
    for name, found in report["toxicity"]["filters"].items():
        metrics[f"toxic.{name}"] = found["at_least_threshold"]["value"]
    for row in report["rules"]:
        name = f"removed.{row['rule']}"
        metrics[name] = metrics.get(name, 0) + row["removed"]["count"]
    return metrics


def _reported(documents: Iterable[Document], context: StageContext) -> Iterator[Document]:
    """Documents as they pass; the total of a stream is not known beforehand."""
    done = 0
    for done, document in enumerate(documents, start=1):
        yield document
        if done % _PROGRESS_DOCUMENTS == 0:
            context.progress(done, 0, "analysing")
    context.progress(done, done, "analysing")

"""The stage's files, and an HTML report that nothing in a corpus can break out of."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.artifacts import ArtifactStore, open_store
from plumbline.core.errors import InvalidInputError
from plumbline.core.settings import Settings
from plumbline.core.stages import run_stage
from plumbline.curation.analysis import plots
from plumbline.curation.analysis.figures import DocumentFigures
from plumbline.curation.analysis.plots import Bar
from plumbline.curation.analysis.stage import descriptor_files
from plumbline.curation.tasks import STAGES
from plumbline.data.records import Document
from plumbline.data.tables import read_records, write_records

ANALYZE = {stage.name: stage for stage in STAGES}["curation.analyze"]
HOSTILE = '"><script>alert(1)</script>'
DOCUMENTS = [
    Document(f"{number}", text, source)
    for number, (text, source) in enumerate(
        [
            ("She told the Muslim baker that the bread was the best in the street.", HOSTILE),
            ("The river was cold this morning and boats came slowly out of the fog.", "web"),
            ("今天早上天气很好，公园里有很多人在散步，湖边的柳树也发芽了。", "<b>网</b>"),
        ]
    )
]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state")


@pytest.fixture
def store(settings: Settings) -> ArtifactStore:
    return open_store(
        settings.store_url, cache_dir=settings.cache_dir, cache_bytes=settings.cache_bytes
    )


def run(
    tmp_path: Path, store: ArtifactStore, settings: Settings, **inputs: list[str]
) -> tuple[Path, dict[str, float]]:
    """The output directory of the stage over DOCUMENTS, and its metrics."""
    corpus = tmp_path / "corpus"
    corpus.mkdir(exist_ok=True)
    write_records(corpus / "documents.parquet", DOCUMENTS)
    config = {"erasure": {"min_mentions": 1}}
    artifact, _ = run_stage(
        ANALYZE, config, {"corpus": [f"path:{corpus}"], **inputs}, store=store, settings=settings
    )
    return store.materialise(artifact.id), dict(artifact.manifest.metrics)


class Tags(HTMLParser):
    """Collects the names of elements and what they refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.references += [str(value) for name, value in attrs if name in ("src", "href")]


def test_the_stage_writes_a_table_and_two_reports(
    tmp_path: Path, store: ArtifactStore, settings: Settings
) -> None:
    output, metrics = run(tmp_path, store, settings)

    assert len(read_records(output / "documents.parquet", DocumentFigures)) == 3
    report = json.loads((output / "report.json").read_text("utf-8"))
    assert report["read"]["records"] == report["documents"] == metrics["documents"] == 3
    assert metrics["share.en"] == pytest.approx(2 / 3)
    assert metrics["pronouns.en.she"] == metrics["identity.en.religion"] == 0.5
    assert metrics["exact_copies"] == metrics["erasure.flagged"] == 0


def test_text_of_the_corpus_stays_text(
    tmp_path: Path, store: ArtifactStore, settings: Settings
) -> None:
    terms = tmp_path / "terms.json"
    terms.write_text(json.dumps({"<i>axis": {"<u>b": ["Muslim", {"descriptor": "river"}]}}))
    output, _ = run(tmp_path, store, settings, descriptors=[f"path:{terms}"])
    html = (output / "report.html").read_text("utf-8")

    tags = Tags()
    tags.feed(html)
    assert not {"script", "b", "i", "u", "link", "img", "iframe"} & set(tags.names) - {"b"}
    assert tags.references == []
    assert tags.names.count("b") == 6  # the six figures at the top
    assert "&lt;script&gt;" in html and "&lt;i&gt;axis" in html and "网" in html


def test_the_report_is_the_same_bytes_again(tmp_path: Path, settings: Settings) -> None:
    ids = set()
    for name in ("one", "two"):
        own = Settings(state_dir=tmp_path / name)
        store = open_store(own.store_url, cache_dir=own.cache_dir, cache_bytes=own.cache_bytes)
        output, _ = run(tmp_path, store, own)
        ids.add((output / "report.html").read_bytes())
    assert len(ids) == 1


def test_descriptors_need_a_json_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no JSON file"):
        descriptor_files(tmp_path)


def test_bars_are_drawn_to_scale() -> None:
    """A value of 50 on a scale from 0 to 100 spans half of the plot's 330 pixels."""
    svg = plots.bars([Bar("a & b", 50, 40, 100), Bar("c", -0.0, 0, 0)], description="x < y")

    assert 'width="165.0"' in svg
    assert "a &amp; b" in svg and 'aria-label="x &lt; y"' in svg
    assert plots.bars([], description="nothing") == ""


def test_bars_below_zero_hang_to_the_left() -> None:
    """From -10 to 30: zero stands a quarter into the plot, the bar of -10 left of it."""
    svg = plots.bars([Bar("down", -10, -10, 0), Bar("up", 30, 0, 30)], description="")

    assert '<rect x="190.0"' in svg and 'width="82.5"' in svg
    assert '<rect x="272.5"' in svg and 'width="247.5"' in svg


def test_long_labels_keep_their_end() -> None:
    svg = plots.bars([Bar("axis/" + "很长" * 30 + "/词", 1, 1, 1)], description="")

    assert "…" in svg and "/词<" in svg and "axis" not in svg


def test_rare_bins_of_a_histogram_stay_visible() -> None:
    svg = plots.histogram([("0", 1_000_000), ("1", 1), ("2", 0)], x_label="x", description="")

    assert 'height="1.0"' in svg and 'height="0.0"' in svg
    assert "1,000,000" in svg
    assert plots.histogram([("0", 0)], x_label="x", description="") == ""


def test_a_filter_scores_the_corpus(
    tmp_path: Path, store: ArtifactStore, settings: Settings
) -> None:
    directory = tmp_path / "filter"
    _tiny_filter().save(directory)
    output, metrics = run(tmp_path, store, settings, filters=[f"path:{directory}"])

    report: dict[str, Any] = json.loads((output / "report.json").read_text("utf-8"))
    assert sum(report["toxicity"]["filters"]["rudeness"]["histogram"]) == 3
    assert 0 <= metrics["toxic.rudeness"] <= 1
    assert "rudeness" in (output / "report.html").read_text("utf-8")


def _tiny_filter() -> Any:
    import numpy as np

    from plumbline.curation.filters.classifier import FilterCard, TextClassifier

    card = FilterCard(
        name="rudeness", min_order=2, max_order=3, buckets_log2=8, window_characters=400,
        max_windows=4, weight_scale=1.0, bias=0.0, slope=1.0, intercept=0.0, threshold=0.5,
        weights_sha256="",
    )  # fmt: skip
    return TextClassifier.quantized(card, np.random.default_rng(1).normal(size=256))

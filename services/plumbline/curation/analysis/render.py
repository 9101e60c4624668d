"""The HTML report of a corpus analysis: one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import jinja2

from plumbline.curation.analysis import plots
from plumbline.curation.analysis.erasure import ANY_RULE
from plumbline.curation.analysis.plots import Bar
from plumbline.curation.analysis.pronouns import GENDERED, PERSONS

_ERASURE_ROWS = 40
_ERASURE_BARS = 25
_LANGUAGE_BARS = 20
_SOURCES = 20
_AMBIGUOUS_TERMS = 12

PRONOUN_NAMES = {
    "en": {
        "she": "She (she, her, hers, herself)",
        "he": "He (he, him, his, himself)",
        "unspecified": "Unspecified (they, them, their …)",
        "first_person": "1st person (I, me, my, we …)",
        "second_person": "2nd person (you, your …)",
        "third_person": "3rd person (it, she, he, they …)",
    },
    "zh": {
        "she": "She (她, 她们)",
        "he": "He (他)",
        "unspecified": "Unspecified (他们)",
        "first_person": "1st person (我, 我们, 咱, 俺)",
        "second_person": "2nd person (你, 您, 你们)",
        "third_person": "3rd person (她, 他, 它 …)",
    },
}


def render_analysis(report: Mapping[str, Any], *, top_terms: int) -> str:
    """HTML text; the same report gives the same bytes.

    Args:
        report: what `CorpusSummary.finish` and the stage put together.
        top_terms: terms listed for each axis.
    """
    erasure = report["erasure"]["rows"]
    return _template().render(
        report=report,
        sources=_largest(report["sources"] or {}, _SOURCES),
        languages=_language_bars(report["languages"]),
        lengths=[_length_plot(name, report["lengths"][name]) for name in ("characters", "tokens")],
        pronouns=[_pronouns(*item) for item in report["pronouns"].items()],
        identity=[
            _identity(language, found, top_terms)
            for language, found in report["identity"].items()
            if found["any_axis"]["count"] >= report["erasure"]["min_mentions"]
        ],
        toxicity=[_toxicity(*item) for item in report["toxicity"]["filters"].items()],
        pii=_pii_bars(report["pii"]["types"]),
        rules=_rule_bars(report["rules"]),
        erasure_plot=_erasure_bars([row for row in erasure if row["rule"] == ANY_RULE]),
        erasure_rows=[row for row in erasure if row["flagged"]][:_ERASURE_ROWS],
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["percent"] = percent
    environment.filters["points"] = lambda value: f"{100 * value:+.1f}"
    environment.filters["count"] = lambda value: f"{value:,}"
    text = resources.files("plumbline.curation.analysis").joinpath("report.html").read_text("utf-8")
    return environment.from_string(text)


def percent(share: Mapping[str, float]) -> str:
    """`12.3 % [10.1, 14.9]`, or a dash where nothing was measured."""
    if not share["n"]:
        return "–"
    value, low, high = (100 * share[key] for key in ("value", "low", "high"))
    return f"{value:.3g} % [{low:.3g}, {high:.3g}]"


def _share_bar(label: str, share: Mapping[str, float], *, warn: bool = False) -> Bar:
    return Bar(
        label,
        100 * share["value"],
        100 * share["low"],
        100 * share["high"],
        f"{100 * share['value']:.3g} %  ({int(share['count']):,})",
        warn,
    )


def _language_bars(languages: Mapping[str, Any]) -> str:
    shown = list(languages.items())[:_LANGUAGE_BARS]
    return plots.bars(
        [_share_bar(language, found["share"]) for language, found in shown],
        description="Share of documents by language",
    )


def _largest(counts: Mapping[str, int], most: int) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]


def _length_plot(name: str, lengths: Mapping[str, Any]) -> dict[str, Any]:
    columns = [(f"{low:,}", count) for low, count in lengths["octaves"]]
    return {
        "name": name,
        "mean": lengths["mean"],
        "percentiles": lengths["percentiles"],
        "plot": plots.histogram(
            columns, x_label=f"{name}, from", description=f"Documents by {name}"
        ),
    }


def _pronouns(language: str, shares: Mapping[str, Any]) -> dict[str, Any]:
    names = PRONOUN_NAMES[language]
    return {
        "language": language,
        "shares": shares,
        "rows": [
            {
                "name": names[group],
                "of_all": shares["of_all"][group],
                "of_those_with_any": shares["of_those_with_any"][group],
            }
            for group in (*GENDERED, *PERSONS)
        ],
        "plot": plots.bars(
            [
                _share_bar(names[group].partition(" (")[0], shares["of_all"][group])
                for group in (*GENDERED, *PERSONS)
            ],
            description=f"Share of documents with pronouns, {language}",
        ),
    }


def _identity(language: str, found: Mapping[str, Any], top_terms: int) -> dict[str, Any]:
    axes = [axis for axis in found["axes"] if axis["share"]["count"]]
    return {
        "language": language,
        "documents": found["documents"],
        "any_axis": found["any_axis"],
        "axes": [{**axis, "terms": axis["terms"][:top_terms]} for axis in axes],
        "unmentioned": [axis["axis"] for axis in found["axes"] if not axis["share"]["count"]],
        "ambiguous": found["ambiguous_terms"][:_AMBIGUOUS_TERMS],
        "plot": plots.bars(
            [_share_bar(axis["axis"].replace("_", " "), axis["share"]) for axis in axes],
            description=f"Share of documents that mention an axis, {language}",
        ),
    }


def _toxicity(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    counts = found["histogram"]
    columns = [(f"{position / len(counts):.2f}", count) for position, count in enumerate(counts)]
    return {
        "name": name,
        "at_least_threshold": found["at_least_threshold"],
        "plot": plots.histogram(
            columns, x_label="score, from", description=f"Documents by score of {name}"
        ),
    }


def _pii_bars(types: Mapping[str, Any]) -> str:
    return plots.bars(
        [_share_bar(name, found["documents"]) for name, found in types.items()],
        description="Share of documents with personal data, by type",
    )


def _rule_bars(rules: Sequence[Mapping[str, Any]]) -> str:
    return plots.bars(
        [_share_bar(_rule_name(row["rule"], row["code"]), row["removed"]) for row in rules],
        description="Share of documents that each rule would drop",
    )


def _rule_name(rule: str, code: str) -> str:
    """The rule, with its reason where that says more."""
    words = code.lower().replace("_", " ")
    return words if words == rule.replace("_", " ") else f"{rule}: {words}"


def _erasure_bars(rows: Sequence[Mapping[str, Any]]) -> str:
    """Whole axes; buckets and terms are in the table where they are flagged."""
    axes = [row for row in rows if "/" not in row["group"]][:_ERASURE_BARS]
    return plots.bars(
        [
            Bar(
                f"{row['group'].replace('_', ' ')} ({row['language']})",
                100 * row["difference"],
                100 * row["low"],
                100 * row["high"],
                f"{100 * row['difference']:+.1f} points  ({row['mentions']:,})",
                row["significant"],
            )
            for row in axes
        ],
        description="Removal rate where an axis is mentioned, less that of all documents",
    )

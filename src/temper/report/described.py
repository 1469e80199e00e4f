"""What the numbers of a report rest on, in sentences."""

from collections.abc import Sequence

from temper.records import RunRecord
from temper.report import ground
from temper.report.across import by_data
from temper.report.figures.strength import strengths_of
from temper.report.frame import evaluations_of


def describe_study(records: Sequence[RunRecord], suite: str) -> list[str]:
    """What the numbers rest on: data, threat, suite, seeds, code, machine."""
    first = records[0]
    evaluations = [r.evaluations[key]["suite"] for r in records for key in evaluations_of(r, suite)]
    threats = sorted({f"{e['norm']} eps {e['threat']['eps']}" for e in evaluations})
    keys = sorted({key for r in records for key in evaluations_of(r, suite)})
    sets = sorted(by_data(records))
    seeds = sorted({record.seed for record in records})
    told = ("python", "torch", "pytorch-lightning", "torchattacks")
    versions = ", ".join(f"{name} {first.versions.get(name, 'unknown')}" for name in told)
    machines = sorted(
        {f"{r.hardware.get('gpu', r.hardware.get('cpu', 'unknown machine'))}, {r.threads} thread(s) a run" for r in records}
    )
    codes = sorted({f"code {r.code}, commit {(r.commit or 'none')[:10]}{' with changes' if r.dirty else ''}" for r in records})
    spread = f"mean ± standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed, which is not a result"
    penalized = {(f"{r.attack} x {r.penalty}", float(r.config.get("strength", 1))) for r in records if r.penalty != "none"}
    # What every row has in common, or tells of itself, needs no line of its own.
    several = len({strength for _, strength in penalized}) > 1 and not strengths_of(records)
    chosen = ", ".join(f"{name} {strength:g}" for name, strength in sorted(penalized))
    return [
        f"{', '.join(sets)}, {', '.join(threats)}, suite {', '.join(keys)}; {spread}.",
        *ground.described(records),
        *([f"Strengths: {chosen}."] if several else []),
        f"Made by {'; '.join(codes)}; {versions}; {'; '.join(machines)}.",
    ]

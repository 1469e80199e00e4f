"""Tables of a study: cells down, metrics across, mean ± standard deviation over seeds."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from temper.report.audit import BADGES, Audited


class Metric(NamedTuple):
    """How a metric is shown: its heading, the factor to its unit, and digits behind the point."""

    label: str
    factor: float = 100.0
    precision: int = 1


# What is not listed is an attack's accuracy: a percentage under its own name.
METRICS = {
    "test/clean": Metric("clean %"),
    "test/worst_case": Metric("worst case %"),
    "test/ece": Metric("ECE %"),
    "test/loss": Metric("loss", 1, 3),
    "test/sensitivity_random": Metric("sensitivity, random", 1, 3),
    "test/sensitivity_adversarial": Metric("sensitivity, adversarial", 1, 3),
    "test/minimal_norm": Metric("median distance", 1, 3),
    "curve/area": Metric("area under the eps curve %"),
    "corruptions/mean": Metric("corruptions %"),
    "val/overfitting_to_fgsm": Metric("FGSM - PGD, most %"),
    "gap/clean": Metric("gap %"),
    "gap/robust": Metric("robust gap %"),
    "gap/robust_overfitting": Metric("robust overfitting %"),
    "val/loss_stability": Metric("loss instability %"),
    "weights/near_zero": Metric("weights near zero %"),
    "weights/norm": Metric("weight norm", 1, 2),
    "weights/lipschitz": Metric("Lipschitz bound", 1, 1),
    "cost/gradient_evaluations": Metric("gradients per example", 1, 0),
    "cost/seconds": Metric("training s", 1, 1),
    "cost/peak_memory": Metric("peak memory MiB", 1, 0),
}
NAMES = {
    "fgsm": "FGSM",
    "pgd": "PGD",
    "apgd_ce": "APGD-CE",
    "apgd_dlr": "APGD-DLR",
    "square": "Square",
    "autoattack": "AutoAttack",
}
MISSING = "–"


def describe(metric: str) -> Metric:
    name = metric.rpartition("/")[2]
    return METRICS.get(metric) or Metric(f"{name} loss" if name.endswith("_loss") else f"{NAMES.get(name, name)} %")


def table(
    data: pd.DataFrame,
    columns: Sequence[str],
    attacks: Sequence[str],
    *,
    checkpoint: str = "last",
    precision: int | None = None,
    badges: Mapping[Audited, str] | None = None,
) -> pd.DataFrame:
    """One row per cell of attack x penalty, text ready to print; a cell without runs is shown as missing.

    Args:
        data: rows as `temper.report.frame.frame` gives them.
        columns: metrics, or checkpoint:metric; "attacks" stands for every attack of the suite.
        attacks: names of the suite's attacks.
        checkpoint: of a column that names none.
        precision: digits behind the point, for all columns; None: what suits each.
        badges: what the audit says of each cell, a sign beside each of its robust accuracies.

    Raises:
        ValueError: no run has such a metric.
    """
    wanted = [
        name for column in columns for name in ([f"test/{attack}" for attack in attacks] if column == "attacks" else [column])
    ]
    # Fewer seeds than the study has is told beside n.
    seeds = data.seed.nunique()
    rows = []
    for attack, penalty, setting, cell in _cells(data):
        n = 0 if cell is None else cell.seed.nunique()
        row = {"attack": attack, "penalty": f"{penalty} ({setting})" if setting else penalty}
        for column in wanted:
            where, _, metric = column.rpartition(":")
            where = where or checkpoint
            known = data[(data.checkpoint == where) & (data.metric == metric)]
            if known.empty and metric not in METRICS:
                raise ValueError(f"table: no run has the metric {metric} for {where!r}; runs.csv lists what there is")
            shown = describe(metric)
            heading = shown.label if where in (checkpoint, "run") else f"{shown.label} ({where})"
            values = None if cell is None else cell[(cell.checkpoint == where) & (cell.metric == metric)].value.dropna()
            row[heading] = spread(values, shown, precision)
            if cell is not None and badges and metric in {"test/worst_case", *(f"test/{name}" for name in attacks)}:
                row[heading] += _badge(cell, where, badges)
        row["n"] = str(n) if n == seeds else f"{n} of {seeds}"
        rows.append(row)
    return pd.DataFrame(rows)


def _badge(cell: pd.DataFrame, checkpoint: str, badges: Mapping[Audited, str]) -> str:
    """The worst of a cell, which may have been evaluated by several suites of one name."""
    cells = cell[["digest", "suite"]].drop_duplicates()
    found = {badges.get(Audited(*key, checkpoint)) for key in zip(cells.digest, cells.suite, strict=True)}
    return next((f" {sign}" for sign in reversed(BADGES.values()) if sign in found), "")


def spread(values: pd.Series | None, metric: Metric, precision: int | None = None) -> str:
    """Mean ± standard deviation over seeds; the mean alone for a single seed, which has no spread to tell."""
    if values is None or values.empty:
        return MISSING
    digits = metric.precision if precision is None else precision
    scaled = values * metric.factor
    mean = f"{scaled.mean():.{digits}f}"
    return mean if len(scaled) == 1 else f"{mean} ± {scaled.std():.{digits}f}"


def percent(shares: Sequence[float]) -> str:
    """Mean ± standard deviation of shares, in %; as `spread` of accuracies."""
    return spread(pd.Series(shares, dtype=float), Metric(""))


def _cells(data: pd.DataFrame) -> list[tuple[str, str, str, pd.DataFrame | None]]:
    """Every attack with every penalty of the study, `none` first; None where there is no run."""
    attacks, penalties = (
        sorted(data[axis].unique(), key=lambda name: (name != "none", name)) for axis in ("attack", "penalty")
    )
    cells: list[tuple[str, str, str, pd.DataFrame | None]] = []
    for attack in attacks:
        for penalty in penalties:
            runs = data[(data.attack == attack) & (data.penalty == penalty)]
            if runs.empty:
                cells.append((attack, penalty, "", None))
            settings = sorted(runs.setting.unique(), key=_in_order)
            cells += [(attack, penalty, setting, runs[runs.setting == setting]) for setting in settings]
    return cells


def _in_order(setting: str) -> list[tuple[float, str]]:
    """strength=3 before strength=10."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", setting)
    return [(float(part), "") if position % 2 else (0.0, part) for position, part in enumerate(parts)]


def to_markdown(shown: pd.DataFrame) -> str:
    return shown.to_markdown(index=False, colalign=["left", "left", *["right"] * (shown.shape[1] - 2)], disable_numparse=True)


def to_latex(shown: pd.DataFrame, caption: str) -> str:
    """A table environment with booktabs rules."""
    escaped = shown.rename(columns=_escape).map(_escape)
    body = escaped.style.hide(axis="index").to_latex(hrules=True, column_format="ll" + "r" * (shown.shape[1] - 2))
    for sign, command in {"±": r"$\pm$", MISSING: "--", "✓": r"$\surd$", "✗": r"$\times$"}.items():
        body = body.replace(sign, command)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escape(caption)}}}",
            r"\small",
            body.strip(),
            r"\end{table}",
            "",
        ]
    )


def _escape(text: str) -> str:
    for character in "&%$#_{}":
        text = text.replace(character, "\\" + character)
    return text

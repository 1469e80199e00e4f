"""The papers of the methods that a study uses, as BibTeX: data of conf/report/references.bib."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from temper.config.composed import CONF
from temper.report.records.baseline import baseline_of
from temper.runs.record import RunRecord

ENTRY = re.compile(r"^@\w+\{(\S+),\n(.*?)^\}\n", re.MULTILINE | re.DOTALL)
METHODS = re.compile(r"^  methods = \{(.*)\},\n", re.MULTILINE)
MEASURES = ("corruptions", "minimal_norm")  # parts of a suite that are no attacks


class Reference(NamedTuple):
    """A paper: its key, whose it is (such as `attack:pgd`, `penalty:l2`, `evaluation:square`), and its entry."""

    key: str
    methods: frozenset[str]
    text: str


def references(path: Path | None = None) -> list[Reference]:
    """Every paper, in the order of the file; None: conf/report/references.bib."""
    text = (path or Path(CONF) / "report" / "references.bib").read_text()
    found = []
    for entry in ENTRY.finditer(text):
        said = METHODS.search(entry[0])
        methods = frozenset(said[1].split()) if said else frozenset()
        printed = METHODS.sub("", entry[0])
        if "  eprint = " in printed:
            printed = printed.replace("  eprint = ", "  archiveprefix = {arXiv},\n  eprint = ")
        found.append(Reference(entry[1], methods, printed))
    return found


def methods_of(records: Iterable[RunRecord], suites: Sequence[str]) -> dict[str, None]:
    """What these runs were trained and evaluated with, in their order.

    Args:
        suites: keys of the evaluations that are reported.
    """
    used: dict[str, None] = {}
    for record in records:
        target = str(record.config.get("attack", {}).get("_target_", "")).rpartition(".")[2]
        used |= dict.fromkeys([f"attack:{record.attack}", f"attack:{target}"])
        used |= dict.fromkeys(f"penalty:{name}" for name in [*record.penalty.split(" + "), *baseline_of([record])])
        for key in suites:
            if key in record.evaluations:
                suite = record.evaluations[key]["suite"]
                used |= dict.fromkeys(
                    f"evaluation:{name}" for name in [*suite["attacks"], *(m for m in MEASURES if suite.get(m))]
                )
    return used


def cited(used: Iterable[str]) -> list[Reference]:
    """The papers of these methods."""
    wanted = set(used)
    return [reference for reference in references() if reference.methods & wanted]


def citations(used: Iterable[str]) -> str:
    r"""For a caption, in LaTeX's words: ` Methods: pgd \cite{madry2018towards}, ….`; empty where none has a paper."""
    papers = references()
    shown: dict[str, list[str]] = {}
    for method in used:
        if keys := [paper.key for paper in papers if method in paper.methods]:
            name = method.partition(":")[2].replace("_", r"\_")
            shown[name] = list(dict.fromkeys([*shown.get(name, []), *keys]))
    return " Methods: " + ", ".join(rf"{name}~\cite{{{','.join(keys)}}}" for name, keys in shown.items()) + "." if shown else ""

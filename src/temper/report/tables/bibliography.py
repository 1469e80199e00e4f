"""BibTeX references of the methods that a study uses, read from conf/report/references.bib."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from temper.config.composed import CONF
from temper.report.records.baseline import baseline_penalties
from temper.runs.record import RunRecord

ENTRY = re.compile(r"^@\w+\{(\S+),\n(.*?)^\}\n", re.MULTILINE | re.DOTALL)
METHODS = re.compile(r"^  methods = \{(.*)\},\n", re.MULTILINE)
MEASURES = ("corruptions", "minimal_norm")  # parts of a suite that are not attacks


class Reference(NamedTuple):
    """A paper.

    Attributes:
        key: BibTeX key.
        methods: methods that the paper introduced, such as `attack:pgd`, `penalty:l2` or `evaluation:square`.
        text: BibTeX entry.
    """

    key: str
    methods: frozenset[str]
    text: str


def references() -> list[Reference]:
    """Return every paper of conf/report/references.bib, in file order."""
    text = (Path(CONF) / "report" / "references.bib").read_text()
    papers = []
    for entry in ENTRY.finditer(text):
        match = METHODS.search(entry[0])
        methods = frozenset(match[1].split()) if match else frozenset()
        bibtex = METHODS.sub("", entry[0])
        if "  eprint = " in bibtex:
            bibtex = bibtex.replace("  eprint = ", "  archiveprefix = {arXiv},\n  eprint = ")
        papers.append(Reference(entry[1], methods, bibtex))
    return papers


def methods_of(records: Iterable[RunRecord], suites: Sequence[str]) -> dict[str, None]:
    """Return the methods that these runs were trained and evaluated with, in order of first use.

    Args:
        records: runs of the study.
        suites: keys of the reported evaluations.

    Returns:
        A dict used as an ordered set.
    """
    used: dict[str, None] = {}
    for record in records:
        target = str(record.config.get("attack", {}).get("_target_", "")).rpartition(".")[2]
        used |= dict.fromkeys([f"attack:{record.attack}", f"attack:{target}"])
        used |= dict.fromkeys(f"penalty:{name}" for name in [*record.penalty.split(" + "), *baseline_penalties([record])])
        for key in suites:
            if key in record.evaluations:
                suite = record.evaluations[key]["suite"]
                used |= dict.fromkeys(
                    f"evaluation:{name}" for name in [*suite["attacks"], *(m for m in MEASURES if suite.get(m))]
                )
    return used


def cited(used: Iterable[str]) -> list[Reference]:
    """Return the papers of these methods."""
    methods = set(used)
    return [reference for reference in references() if reference.methods & methods]


def citations(used: Iterable[str]) -> str:
    r"""Return LaTeX for a caption, e.g. ` Methods: pgd~\cite{madry2018towards}, ….`; empty if no method has a paper."""
    papers = references()
    keys_by_name: dict[str, list[str]] = {}
    for method in used:
        if keys := [paper.key for paper in papers if method in paper.methods]:
            name = method.partition(":")[2].replace("_", r"\_")
            keys_by_name[name] = list(dict.fromkeys([*keys_by_name.get(name, []), *keys]))
    if not keys_by_name:
        return ""
    return " Methods: " + ", ".join(rf"{name}~\cite{{{','.join(keys)}}}" for name, keys in keys_by_name.items()) + "."

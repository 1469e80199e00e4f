"""What exchanging words made of some texts, and what each kind of network takes them for before and after."""

import html
import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

import numpy as np

from temper.cli import explain
from temper.records import outcomes_file, outcomes_path
from temper.report.figures.picks import Pick

SHOWN = 4  # texts
CAPTION = "Examples: texts whose words an attack exchanged"
ABOUT = (
    "The exchanged words are marked. Before, after: the class that a text is taken for without and with the"
    " change, and the true one's probability. `<unk>` is a word that the networks do not know."
)


class Taken(NamedTuple):
    """What a text is taken for: the class, whether that is right, and the probability of the true class."""

    label: int
    right: bool
    probability: float

    def __str__(self) -> str:
        return f"{self.label} {'✓' if self.right else '✗'} {100 * self.probability:.0f} %"


class Reading(NamedTuple):
    """A text as one network sees it.

    Attributes:
        title: of the network.
        words: what its attack made of the text, and of each word whether it was exchanged.
        before, after: what it is taken for.
    """

    title: str
    words: Sequence[tuple[str, bool]]
    before: Taken
    after: Taken

    @property
    def changed(self) -> bool:
        return any(exchanged for _, exchanged in self.words)


class Text(NamedTuple):
    """A test text, its label, and how each network reads it."""

    text: str
    label: int
    readings: Sequence[Reading]

    @property
    def fooled(self) -> int:
        """How many networks are right before, and wrong after."""
        return sum(reading.before.right and not reading.after.right for reading in self.readings)

    @property
    def changed(self) -> int:
        """For how many networks some word was exchanged."""
        return sum(reading.changed for reading in self.readings)


def kept_texts(picks: Sequence[Pick], suites: Sequence[str], checkpoint: str) -> tuple[list[Text], list[str]]:
    """Texts that the evaluations of these runs kept, first those that fooled most of them; none where inputs are no texts. And
    a line for each file that is damaged.

    Args:
        suites: of each run, the key of the evaluation.
    """
    found: dict[int, Text] = {}
    problems = []
    for pick, suite in zip(picks, suites, strict=True):
        try:
            kept = _kept(pick, suite, checkpoint)
        except Exception as error:  # whatever a damaged file raises
            problems.append(f"texts of {pick.title} are left out: {explain(error)}".replace("\n", " "))
            continue
        for row, text in kept.items():
            before = found[row].readings if row in found else []
            found[row] = text._replace(readings=[*before, *text.readings])
    shown = sorted(found.values(), key=lambda text: (-text.fooled, -text.changed))
    return shown[:SHOWN], problems


def _kept(pick: Pick, suite: str, checkpoint: str) -> dict[int, Text]:
    """By row of the test set."""
    if not outcomes_path(pick.folder, suite, checkpoint).is_file():
        return {}
    arrays = outcomes_file(pick.folder, suite, checkpoint)
    found: dict[int, Text] = {}
    for attack in pick.record.attacks(suite):
        if f"texts/{attack}" in arrays:
            title = f"{pick.title} under {attack}".replace("\n", ": ", 1).replace("\n", " ")
            for row, clean, changed in zip(arrays["examples"], arrays["texts/clean"], arrays[f"texts/{attack}"], strict=True):
                before, after = _taken(arrays, "clean", row), _taken(arrays, attack, row)
                reading = Reading(title, _exchanged(str(clean), str(changed)), before, after)
                text = found.setdefault(int(row), Text(str(clean), int(arrays["y"][row]), []))
                found[int(row)] = text._replace(readings=[*text.readings, reading])
    return found


def _taken(arrays: Mapping[str, np.ndarray], name: str, row: int) -> Taken:
    label = int(arrays[f"{name}_prediction"][row])
    # Cross-entropy is minus the logarithm of the true class's probability.
    return Taken(label, label == arrays["y"][row], float(np.exp(-float(arrays[f"{name}_loss"][row]))))


def _exchanged(clean: str, changed: str) -> list[tuple[str, bool]]:
    """The words of a changed text, and which of them are not those of the clean one. A pretrained encoder's may become more or
    fewer when they are spelled out."""
    words = changed.split()
    found = SequenceMatcher(None, clean.split(), words, autojunk=False).get_opcodes()
    return [(word, tag != "equal") for tag, _, _, first, behind in found for word in words[first:behind]]


def texts_to_markdown(shown: Sequence[Text]) -> str:
    """A list for each text."""
    parts = [f"## {CAPTION}", ABOUT]
    for text in shown:
        lines = [f"Label {text.label}: {_plain(text.text)}", ""]
        for reading in text.readings:
            words = " ".join(f"**{_plain(word)}**" if exchanged else _plain(word) for word, exchanged in reading.words)
            made = words if reading.changed else "unchanged"
            lines.append(f"- {reading.title}: {made} (before {reading.before}, after {reading.after})")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _plain(text: str) -> str:
    """So that Markdown takes none of it for a mark."""
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", html.escape(text, quote=False))

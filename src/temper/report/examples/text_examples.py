"""What exchanging words made of some texts, and what each kind of network takes them for before and after."""

from collections.abc import Sequence
from difflib import SequenceMatcher

from temper.report.examples.kept_examples import Arrays, Example, kept_examples
from temper.report.records.representatives import Pick
from temper.report.tables.markdown_latex import plain

CAPTION = "Examples: texts whose words an attack exchanged"
ABOUT = (
    "The exchanged words are marked. Before, after: the class that a text is taken for without and with the"
    " change, and the true one's probability. `<unk>` is a word that the networks do not know."
)


def kept_texts(picks: Sequence[Pick], suites: Sequence[str], checkpoint: str) -> tuple[list[Example[str]], list[str]]:
    """See `temper.report.examples.kept_examples.kept_examples`; none where inputs are no texts."""
    return kept_examples(picks, suites, checkpoint, "texts", _read)


def _read(arrays: Arrays, name: str) -> list[str]:
    return [str(text) for text in arrays[f"texts/{name}"]]


def exchanged(clean: str, changed: str) -> list[tuple[str, bool]]:
    """The words of a changed text, and which of them are not those of the clean one. A pretrained encoder's may become more or
    fewer when they are spelled out."""
    words = changed.split()
    found = SequenceMatcher(None, clean.split(), words, autojunk=False).get_opcodes()
    return [(word, tag != "equal") for tag, _, _, first, behind in found for word in words[first:behind]]


def texts_to_markdown(shown: Sequence[Example[str]]) -> str:
    """A list for each text."""
    parts = [f"## {CAPTION}", ABOUT]
    for text in shown:
        lines = [f"Label {text.label}: {plain(text.original)}", ""]
        for reading in text.readings:
            words = exchanged(text.original, reading.made) if reading.made else []
            made = " ".join(f"**{plain(word)}**" if other else plain(word) for word, other in words) or "unchanged"
            lines.append(f"- {reading.title}: {made} (before {reading.before}, after {reading.after})")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"

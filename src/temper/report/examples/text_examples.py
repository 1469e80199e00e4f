"""Text test examples: the words that an attack replaced, and the predictions of each network."""

from collections.abc import Sequence
from difflib import SequenceMatcher

from temper.report.examples.kept_examples import Arrays, Example, kept_examples
from temper.report.records.representatives import RepresentativeRun
from temper.report.tables.markdown_latex import escape_markdown

CAPTION = "Examples: texts before and after an attack that replaces words"
ABOUT = (
    "Replaced words are highlighted. Before, after: the predicted class without and with the attack, and the probability of"
    " the true class. `<unk>` is a word outside the vocabulary of the networks."
)


def kept_texts(
    runs: Sequence[RepresentativeRun], suites: Sequence[str], checkpoint: str
) -> tuple[list[Example[str]], list[str]]:
    """Return the kept texts; see `temper.report.examples.kept_examples.kept_examples`. None if inputs are not texts."""
    return kept_examples(runs, suites, checkpoint, "texts", _read)


def _read(arrays: Arrays, name: str) -> list[str]:
    return [str(text) for text in arrays[f"texts/{name}"]]


def word_changes(clean: str, perturbed: str) -> list[tuple[str, bool]]:
    """Return the words of a perturbed text, each with True if it differs from the clean text.

    The texts are aligned first: with the tokenizer of a pretrained encoder, their numbers of words may differ.
    """
    words = perturbed.split()
    opcodes = SequenceMatcher(None, clean.split(), words, autojunk=False).get_opcodes()
    return [(word, tag != "equal") for tag, _, _, start, end in opcodes for word in words[start:end]]


def texts_to_markdown(texts: Sequence[Example[str]]) -> str:
    """Return a section with a list for each example."""
    parts = [f"## {CAPTION}", ABOUT]
    for text in texts:
        lines = [f"Label {text.label}: {escape_markdown(text.original)}", ""]
        for prediction in text.predictions:
            changes = word_changes(text.original, prediction.perturbed) if prediction.perturbed else []
            words = [f"**{escape_markdown(word)}**" if changed else escape_markdown(word) for word, changed in changes]
            shown = " ".join(words) or "unchanged"
            lines.append(f"- {prediction.title}: {shown} (before {prediction.before}, after {prediction.after})")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"

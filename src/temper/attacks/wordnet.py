"""Synonyms out of the files of WordNet, as Princeton and Debian's `wordnet-base` have them."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

# By the suffix of its files: the digits that stand for a part of speech in the counts (adjectives have satellites).
PARTS = {"noun": "1", "verb": "2", "adj": "35", "adv": "4"}
HINT = "install it (Debian and Ubuntu: apt-get install wordnet-base; elsewhere the dict folder of wordnet.princeton.edu)"


@lru_cache(maxsize=2)
def synonyms(folder: Path) -> dict[str, list[str]]:
    """Of each single word the other single words of its synsets, in the order of the files and in lower case.

    Of a word that is several parts of speech, the synsets of that which it is most often, by the counts of WordNet (Miller
    1995, https://doi.org/10.1145/219717.219748). Words stand in their base form alone: a plural has no synonyms here.

    Raises:
        ValueError: the files are not there.
    """
    try:
        counts = Counter(dict(_counts(folder / "cntlist.rev")))
        synsets = {part: list(_synsets(folder / f"data.{part}")) for part in PARTS}
    except OSError as error:
        raise ValueError(
            f"wordnet: {folder} does not hold WordNet's files ({error.strerror}: {error.filename}); {HINT}"
        ) from None
    parts: defaultdict[str, dict[str, dict[str, None]]] = defaultdict(dict)
    for part, members in synsets.items():
        for words in members:
            for word in words:
                # The keys of a dict: a set that keeps its order.
                parts[word].setdefault(part, {}).update(dict.fromkeys(other for other in words if other != word))
    return {word: list(of[max(of, key=lambda part: counts[word, part])]) for word, of in parts.items()}


def _counts(path: Path) -> Iterator[tuple[tuple[str, str], int]]:
    """How often a word was met as a part of speech, from lines such as `able%3:00:00:: 1 51`."""
    total: Counter[tuple[str, str]] = Counter()
    named = {digit: part for part, digits in PARTS.items() for digit in digits}
    for line in path.read_text(encoding="latin-1").splitlines():
        key, _, count = line.split(" ")
        word, _, sense = key.partition("%")
        total[word, named[sense[0]]] += int(count)
    return iter(total.items())


def _synsets(path: Path) -> Iterator[list[str]]:
    """The single words of each synset, from lines such as `00001740 29 v 03 breathe 0 respire 0 take_a_breath 0 …`."""
    with path.open(encoding="latin-1") as file:
        for line in file:
            if line.startswith(" "):
                continue  # the licence
            _, _, _, count, rest = line.split(" ", 4)
            words = rest.split(" ", 2 * int(count, 16))[: 2 * int(count, 16) : 2]
            # An adjective may say where it stands: `bound(p)`.
            # A letter is no word to a reader: the "s" of "it 's" is not a second.
            yield [word for word in (word.partition("(")[0].lower() for word in words) if word.isalpha() and len(word) > 1]

"""The names of cells: penalties that are joined by a plus."""

Option = str | tuple[str, ...]


def parts_of(penalty: str) -> set[str]:
    """The penalties that a cell's name joins."""
    return set(penalty.split(" + ")) - {"none"}


def without(penalty: str, names: Option) -> str:
    """The name of a penalty less some of its parts."""
    return " + ".join(part for part in penalty.split(" + ") if part not in names) or "none"

"""A node of the config: the target that an option names by `_target_`, with typed arguments."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from hydra.utils import get_object
from pydantic import TypeAdapter, ValidationError

from temper.config.errors import ConfigError, did_you_mean, explain_arguments, first_line
from temper.config.signature import Signature, classes_in, signature_of
from temper.config.types import InEps

FIELDS = ("key", "target", "arguments", "entries", "partial")
TARGET, PARTIAL = "_target_", "_partial_"
# Plainer words for some of pydantic's messages.
SIMPLER = {
    "int_from_float": "should be a whole number",
    "int_type": "should be a whole number",
    "float_type": "should be a number",
    "string_type": "should be a text",
    "bool_type": "should be true or false",
    "list_type": "should be a list",
    "tuple_type": "should be a list",
    "none_required": "should be null",
    "dict_type": "should be a mapping of names to values",
}


@dataclass(frozen=True, repr=False)
class Node:
    """Specification of one object: its target and its arguments, each in one canonical form.

    Attributes:
        key: where the node is in the config, such as `evaluation.attacks.pgd`.
        target: dotted path of a class or function.
        arguments: values, nodes, and lists or mappings of both, by name.
        entries: further values, which other parts of the config refer to, by name.
        partial: the object is made later, with further arguments.
    """

    key: str
    target: str
    arguments: Mapping[str, Any]
    entries: Mapping[str, Any] = field(default_factory=dict)
    partial: bool = False

    def __getattr__(self, name: str) -> Any:
        """Return an argument or entry by its name, as `run.attack.steps`."""
        if not name.startswith("_") and name not in FIELDS:  # a copy that is being unpickled has no fields yet
            for values in (self.arguments, self.entries):
                if name in values:
                    return values[name]
        raise AttributeError(f"{self.__dict__.get('key', 'a node')} has no entry {name}")

    def get(self, name: str, default: Any = None) -> Any:
        """Return an argument or entry, or the default where the node has none of that name."""
        return self.arguments.get(name, self.entries.get(name, default))

    def __contains__(self, name: object) -> bool:
        return name in self.arguments or name in self.entries

    def with_arguments(self, **arguments: Any) -> "Node":
        """Return a copy with these arguments in place of its own."""
        return Node(self.key, self.target, {**self.arguments, **arguments}, self.entries, self.partial)

    def plain(self) -> dict[str, Any]:
        """Return the node as plain values, as stored in records; `parse_node` reads them back."""
        values = {TARGET: self.target} | ({PARTIAL: True} if self.partial else {})
        return values | {name: plain(value) for name, value in {**self.entries, **self.arguments}.items()}

    def build(self, **further: Any) -> Any:
        """Make the object.

        Args:
            **further: arguments that the config does not hold, or in place of its own.

        Raises:
            ConfigError: the target refuses its arguments; the message names the key.
        """
        target = target_of(self.target, self.key)
        arguments = {name: built(value) for name, value in self.arguments.items()} | further
        if self.partial:
            return partial(target, **arguments)
        try:
            return target(**arguments)
        except ConfigError:
            raise
        except ValidationError as error:
            raise ConfigError("\n".join(explain_arguments(error, self.key))) from error
        except (ValueError, TypeError) as error:
            name, colon, _ = str(error).partition(": ")
            separator = "." if colon and name.isidentifier() else ": "
            raise ConfigError(f"{self.key}{separator}{error}") from error
        except Exception as error:  # whatever a class from outside raises
            raise ConfigError(f"{self.key}: {first_line(error)}") from error


def plain(value: Any) -> Any:
    """Return a parsed value as plain lists, mappings, numbers and texts."""
    if isinstance(value, Node):
        return value.plain()
    if isinstance(value, InEps):
        return str(value)
    if isinstance(value, Mapping):
        return {name: plain(own) for name, own in value.items()}
    if isinstance(value, float) and math.isinf(value):
        return str(value)  # JSON has no infinity
    return [plain(own) for own in value] if isinstance(value, list | tuple) else value


def built(value: Any) -> Any:
    """Return a parsed value with every node in it replaced by its object."""
    if isinstance(value, Node):
        return value.build()
    if isinstance(value, Mapping):
        return {name: built(own) for name, own in value.items()}
    return [built(own) for own in value] if isinstance(value, list | tuple) else value


@cache
def _object(path: str) -> Callable[..., Any]:
    return get_object(path)


def target_of(path: str, key: str) -> Callable[..., Any]:
    """Return the class or function of a `_target_`.

    Raises:
        ConfigError: it cannot be imported, or is neither a class nor a function.
    """
    try:
        found = _object(path)
    except Exception as error:  # whatever the import of a module raises
        reason = first_line(error.__cause__ or error)
        raise ConfigError(f"{key}._target_={path}: cannot be imported ({reason}). Name a class by its module path.") from error
    if not callable(found):
        raise ConfigError(f"{key}._target_={path}: is not a class or function.")
    return found


def parse_node(
    value: Any,
    key: str,
    errors: list[str],
    *,
    base: type | None = None,
    entries: Sequence[str] = (),
    given: Sequence[str] = (),
) -> Node | None:
    """Parse a node and all nodes in it.

    Args:
        value: plain values, as the config has them once its interpolations are resolved.
        key: where they are in the config.
        errors: a line for each wrong key is added here.
        base: the class that the target must be a subclass of.
        entries: names of values that are no arguments.
        given: names of arguments that are given when the object is built.

    Returns:
        The node; None if its target is wrong.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get(TARGET), str):
        shown = "null" if value is None else repr(value)
        errors.append(f"{key}={shown}: should be an object with a _target_, as the options of this group have. Choose one.")
        return None
    path = str(value[TARGET])
    try:
        target = target_of(path, key)
    except ConfigError as error:
        errors.append(str(error))
        return None
    if base is not None and not (isinstance(target, type) and issubclass(target, base)):
        errors.append(f"{key}._target_={path}: is not a subclass of {_public_name(base)}.")
        return None
    signature = signature_of(target)
    arguments: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, own in value.items():
        if name in (TARGET, PARTIAL):
            continue
        if name in entries:
            extra[name] = own
        elif str(name).startswith("_"):
            errors.append(f"{key}.{name}: only _target_ and _partial_ are read here. Remove it.")
        elif name in signature.annotations or signature.open:
            arguments[name] = _argument(own, f"{key}.{name}", signature, str(name), errors)
        else:
            known = [*signature.annotations, *entries]
            errors.append(f"{key}.{name}: {path.rpartition('.')[2]} has no such setting.{did_you_mean(str(name), known)}")
    if not value.get(PARTIAL):
        missing = signature.required - arguments.keys() - set(given)
        errors += [f"{key}.{name}: is missing." for name in sorted(missing)]
    return Node(key, path, arguments, extra, bool(value.get(PARTIAL)))


def _argument(value: Any, key: str, signature: Signature, name: str, errors: list[str]) -> Any:
    parsed = _nested(value, key, errors)
    annotation = signature.annotations.get(name, Any)
    for node, where in _nodes(parsed, key):
        _check_class(node, where, annotation, errors)
    if isinstance(parsed, Node) or any(True for _ in _nodes(parsed, key)):
        return parsed
    classes = classes_in(annotation)
    if isinstance(parsed, str | int | float) and classes and all(_is_ours(cls) for cls in classes) and annotation in classes:
        errors.append(f"{key}={parsed!r}: should be an object with a _target_.")
        return parsed
    return validated(parsed, key, signature.adapter(name), errors)


def _public_name(cls: type) -> str:
    """Return the path that users import a class by: that of the package of its module, where it is exported there."""
    package = cls.__module__.rpartition(".")[0]
    exported = getattr(sys.modules.get(package), cls.__name__, None) is cls
    return f"{package if exported else cls.__module__}.{cls.__name__}"


def validated(value: Any, key: str, adapter: TypeAdapter[Any], errors: list[str]) -> Any:
    """Return a value in the canonical form of its type; what is wrong with it is added to `errors`."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        by_entry: dict[str, list[Any]] = {}
        for problem in error.errors():
            entry = ".".join(str(part) for part in problem["loc"][:1] if isinstance(value, list | tuple | Mapping))
            by_entry.setdefault(f"{key}.{entry}" if entry else key, []).append(problem)
        errors += [explain_problems(problems, entry) for entry, problems in by_entry.items()]
        return value


def explain_problems(problems: Sequence[Any], key: str) -> str:
    """Return one line for a wrong value: its key, the value and the expected value."""
    messages = list(dict.fromkeys(_message(problem) for problem in problems))
    expected = " or ".join([messages[0], *(message.removeprefix("should be ") for message in messages[1:3])])
    return f"{key}={_shown(problems[0]['input'])}: {expected}."


def _message(problem: Any) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ").replace("Input should", "should")
    message = SIMPLER.get(problem["type"], message)
    return message


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _nested(value: Any, key: str, errors: list[str]) -> Any:
    """Parse the nodes in a value; everything else stays."""
    if isinstance(value, Mapping):
        if TARGET in value:
            return parse_node(value, key, errors)
        return {name: _nested(own, f"{key}.{name}", errors) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [_nested(own, f"{key}.{number}", errors) for number, own in enumerate(value)]
    return value


def _nodes(value: Any, key: str) -> Iterator[tuple[Node, str]]:
    if isinstance(value, Node):
        yield value, key
    elif isinstance(value, Mapping):
        for name, own in value.items():
            yield from _nodes(own, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for number, own in enumerate(value):
            yield from _nodes(own, f"{key}.{number}")


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "temper"


def _check_class(node: Node, key: str, annotation: Any, errors: list[str]) -> None:
    wanted = [cls for cls in classes_in(annotation) if _is_ours(cls)]
    target = target_of(node.target, key)
    if wanted and isinstance(target, type) and not issubclass(target, tuple(wanted)):
        names = " or ".join(cls.__name__ for cls in wanted)
        errors.append(f"{key}._target_={node.target}: should be a {names}.")

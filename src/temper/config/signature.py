"""Typed arguments of the classes and functions that a config names by `_target_`."""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BeforeValidator, ConfigDict, StrictBool, StrictStr, TypeAdapter

from temper.config.types import parse_number, parse_whole, refuse_text


class Signature(NamedTuple):
    """Arguments that a `_target_` takes.

    Attributes:
        annotations: the type of each named argument, by name.
        required: arguments without a default, of the outermost signature alone.
        open: the target takes further arguments that no signature names.
    """

    annotations: Mapping[str, Any]
    required: frozenset[str]
    open: bool

    def adapter(self, name: str) -> TypeAdapter[Any]:
        """Return the validator of an argument."""
        return adapter(self.annotations.get(name, Any))


@cache
def signature_of(target: Callable[..., Any]) -> Signature:
    """Return the arguments of a class or function.

    A class that forwards `**kwargs` to its base takes the named arguments of that base too.
    """
    annotations: dict[str, Any] = {}
    required: frozenset[str] | None = None
    for names, needed, forwards, hints in _constructors(target):
        required = needed if required is None else required
        annotations |= {name: hints.get(name, Any) for name in names if name not in annotations}
        if not forwards:
            return Signature(annotations, required, open=False)
    return Signature(annotations, required or frozenset(), open=not isinstance(target, type) or _is_foreign(target))


def _constructors(target: Callable[..., Any]) -> Iterator[tuple[list[str], frozenset[str], bool, dict[str, Any]]]:
    """Yield what arguments pass through, from the class up its bases.

    Yields:
        names: of the arguments.
        required: those without a default.
        forwards: whether it takes `**kwargs`.
        hints: types by name.
    """
    if not isinstance(target, type):
        yield _parameters(target)
        return
    for cls in target.__mro__:
        if cls is object or cls.__module__ in ("typing", "torch.nn.modules.module"):
            return  # their constructors take nothing that a config sets
        if is_dataclass(cls):
            hints = get_type_hints(cls, include_extras=True)
            own = [field for field in fields(cls) if field.init]
            needed = frozenset(field.name for field in own if field.default is MISSING and field.default_factory is MISSING)
            yield [field.name for field in own], needed, False, hints
        elif "__init__" in vars(cls):
            yield _parameters(vars(cls)["__init__"])


def _parameters(function: Callable[..., Any]) -> tuple[list[str], frozenset[str], bool, dict[str, Any]]:
    parameters = list(inspect.signature(function).parameters.values())
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"]
    needed = frozenset(p.name for p in named if p.default is p.empty)
    forwards = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return [p.name for p in named], needed, forwards, _hints(function)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(inspect.unwrap(function), include_extras=True)
    except (NameError, TypeError, AttributeError):  # annotations of another library that do not resolve
        return {}


def _is_foreign(target: type) -> bool:
    return target.__module__.partition(".")[0] != "temper"


@cache
def adapter(annotation: Any) -> TypeAdapter[Any]:
    """Return the strict validator of a type, which gives every value in one canonical form."""
    return TypeAdapter(strict(annotation), config=ConfigDict(arbitrary_types_allowed=True))


def strict(annotation: Any) -> Any:
    """Return a type that distinguishes numbers, truth values and texts.

    A number may be written as text (`"3"`, `8/255`), since environment variables and fractions are texts; `true` is not a
    number, `1` is not a truth value, and a number is not a text. Classes of objects are represented by nodes, see
    `temper.config.node`.
    """
    if annotation is float:
        return Annotated[float, BeforeValidator(parse_number)]
    if annotation is int:
        return Annotated[int, BeforeValidator(parse_whole)]
    if annotation is bool:
        return StrictBool
    if annotation is str:
        return StrictStr
    if annotation is NoneType or annotation is Any or isinstance(annotation, TypeVar | str):
        return annotation if annotation is NoneType else Any
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return annotation
    if origin is Annotated:
        return Annotated[(strict(arguments[0]), *arguments[1:])]
    if origin in (Union, UnionType):
        return _union(arguments)
    if origin in (list, tuple, dict, set, frozenset) or (isinstance(origin, type) and issubclass(origin, Collection)):
        inner = tuple(argument if argument is Ellipsis else strict(argument) for argument in arguments)
        generic = {Collection: list}.get(origin, origin)
        return generic[inner]
    return Any  # objects: `temper.config.node` checks their class


def _union(arguments: tuple[Any, ...]) -> Any:
    kept = [argument for argument in arguments if getattr(argument, "__name__", "") != "Tensor"]  # no config holds one
    if float in kept and int in kept:
        # 1 and 1.0 mean different things: a number of batches and a fraction of them. Text would not say which.
        number = Annotated[int | float, BeforeValidator(refuse_text)]
        others = [strict(argument) for argument in kept if argument not in (int, float)]
        return Union[(number, *others)] if others else number
    converted = [strict(argument) for argument in kept]
    return Union[tuple(converted)] if len(converted) > 1 else converted[0]  # noqa: UP007


def classes_in(annotation: Any) -> list[type]:
    """Return the classes of objects that an annotation names, within unions and containers."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return [] if annotation in (int, float, bool, str, NoneType, object) or annotation is Any else [annotation]
    if get_origin(annotation) is Literal:
        return []
    return [cls for argument in get_args(annotation) for cls in classes_in(argument)]

"""A recipe's plain values by dotted path, such as optimizer.learning_rate: to list, to check and to change."""

import difflib
import inspect
import json
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from . import frameworks
from .errors import UsageError
from .recipe import Optimizer, Recipe

Owner = TypeVar("Owner")

_PLAIN = (bool, float, int, str, types.NoneType)
_SEED = "seed"
# What a recipe says of itself; not settings of a run.
_FACTS = {entry.name for entry in fields(Recipe)} - {_SEED, "held_out", "folds"}
# Other arguments of an optimizer, by Keras's names.
_OPTIONS = "options"
_OPTIMIZER = "optimizer.name"
# A recipe's data, which is checked where it is loaded.
_DATA = "dataset"


@dataclass(frozen=True)
class PlainValue:
    """A plain value of a recipe."""

    kind: Any
    """Its type, with its range."""
    value: Any
    """It; None also where the recipe lacks the part that it belongs to, such as an ensemble."""


def listed(recipe: Recipe) -> dict[str, PlainValue]:
    """Returns all plain values of a recipe by dotted path, without what it says of itself, such as its claims."""
    return dict(_walk(type(recipe), recipe, leaving=_FACTS))


def settings(recipe: Recipe) -> dict[str, Any]:
    """Returns the values of `listed`, without the seed, as a run's folder keeps them."""
    return {path: plain.value for path, plain in listed(recipe).items() if path != _SEED}


def check(recipe: Recipe) -> None:
    """Checks the fields of a user's own recipe, which Python took as they came.

    Raises:
        UsageError: the first that has another type, or is out of range.
    """
    _check_fields(recipe, f"the recipe {recipe.name}: ")


def changed(recipe: Recipe, values: Mapping[str, Any], *, options: Mapping[str, str]) -> Recipe:
    """Returns a recipe with other plain values.

    Args:
        recipe: the recipe.
        values: the values by dotted path, as such or as text.
        options: the option of each path for messages, such as --epochs.

    Raises:
        UsageError: a path that the recipe lacks, with similar ones, or a value of another type or out of range.
    """
    known = listed(recipe)
    is_asked = any(path not in known or path == _OPTIMIZER or known[path].kind is Any for path in values)
    arguments = _arguments(recipe, values) if is_asked else {}
    checked: dict[str, Any] = {}
    for path, value in values.items():
        if path not in known and path not in arguments:
            raise UsageError(
                f"{options[path]}: {recipe.name} has no {path} to choose; {_hint(path, {*known, *arguments})}"
            )
        kind = arguments[path] if path in arguments else known[path].kind
        checked[path] = _checked(value, kind, options[path])
    for path in checked:
        if missing := _missing(recipe, path.partition(".")[0], checked):
            raise UsageError(f"{options[path]}: {recipe.name} has no {missing}, which it needs; choose that as well")
    if _OPTIMIZER in checked and isinstance(optimizer := getattr(recipe, "optimizer", None), Optimizer):
        # The other optimizer lacks some of this one's arguments.
        kept = {name: value for name, value in optimizer.options.items() if f"optimizer.{name}" in arguments}
        recipe = _with(recipe, {"optimizer": replace(optimizer, options=kept)})
    made: Recipe = _with(recipe, checked)
    return made


def is_whole(kind: Any) -> bool:
    """Returns whether the values of a type are integers, or None."""
    if get_origin(kind) is Annotated:
        return is_whole(get_args(kind)[0])
    return kind is int or any(map(is_whole, get_args(kind)))


def _walk(kind: Any, owner: Any, prefix: str = "", leaving: Iterable[str] = ()) -> Iterator[tuple[str, PlainValue]]:
    hints = get_type_hints(kind, include_extras=True)
    for entry in fields(kind):
        if entry.name in leaving:
            continue
        path, hint = f"{prefix}{entry.name}", hints[entry.name]
        value = getattr(owner, entry.name) if owner is not None else None
        if (part := _dataclass_of(hint)) is not None:
            yield from _walk(part, value, f"{path}.")
        elif entry.name == _OPTIONS:
            for name, option in (value or {}).items():
                yield f"{prefix}{name}", PlainValue(Any, option)
        elif _is_plain(hint):
            yield path, PlainValue(hint, value)


def _dataclass_of(hint: Any) -> Any:
    return next((part for part in (hint, *get_args(hint)) if isinstance(part, type) and is_dataclass(part)), None)


def _is_plain(hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Annotated:
        return _is_plain(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return all(_is_plain(part) for part in get_args(hint))
    if origin is tuple:
        return _is_plain(get_args(hint)[0])
    return origin is Literal or hint in _PLAIN


def _check_fields(owner: Any, prefix: str) -> None:
    hints = get_type_hints(type(owner), include_extras=True)
    for entry in fields(owner):
        value, hint = getattr(owner, entry.name), hints[entry.name]
        part = _dataclass_of(hint)
        if part is None:
            # Texts are not read here: a text of digits is no number to Python.
            _validated(value, hint, f"{prefix}{entry.name}={value!r}", strict=True)
        elif entry.name == _DATA:
            continue
        elif isinstance(value, part):
            _check_fields(value, f"{prefix}{entry.name}.")
        elif value is not None or types.NoneType not in get_args(hint):
            raise UsageError(f"{prefix}{entry.name}={value!r}: it should be {part.__name__}(…)")


def _checked(value: Any, kind: Any, option: str) -> Any:
    if isinstance(value, str):
        value = _read(value, kind)
    return _validated(value, kind, f"{option} {value}")


def _validated(value: Any, kind: Any, named: str, *, strict: bool = False) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value, strict=strict)
    except ValidationError as error:
        # Of a union, such as a count or None, the first alternative says what was expected.
        problem = error.errors()[0]["msg"].replace("Input should", "it should").removeprefix("Value error, ")
        raise UsageError(f"{named}: {problem}") from error


def _read(text: str, kind: Any) -> Any:
    """Returns a text as TypeAdapter takes it."""
    if text.lower() == "none" and types.NoneType in get_args(kind):
        return None
    if any(get_origin(part) is tuple for part in (kind, *get_args(kind))):
        return tuple(part for part in text.split(",") if part)
    if kind is not Any:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _with(owner: Any, values: Mapping[str, Any]) -> Any:
    """Returns a dataclass with other values by dotted path, or, of a class, one that has them."""
    names = {entry.name for entry in fields(owner)}
    own: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        head, _, rest = path.partition(".")
        if rest:
            parts.setdefault(head, {})[rest] = value
        elif head in names:
            own[head] = value
        else:
            own[_OPTIONS] = {**own.get(_OPTIONS, getattr(owner, _OPTIONS)), head: value}
    for head, inner in parts.items():
        part = None if isinstance(owner, type) else getattr(owner, head)
        own[head] = _with(part or _dataclass_of(get_type_hints(type(owner))[head]), inner)
    return owner(**own) if isinstance(owner, type) else replace(owner, **own)


def _missing(recipe: Recipe, head: str, values: Mapping[str, Any]) -> str:
    """Returns what has no value yet of a part that the recipe lacks, as a path; empty if it lacks nothing."""
    part = _dataclass_of(get_type_hints(type(recipe))[head])
    if part is None or getattr(recipe, head) is not None:
        return ""
    needed = (entry.name for entry in fields(part) if entry.default is MISSING and entry.default_factory is MISSING)
    return next((path for name in needed if (path := f"{head}.{name}") not in values), "")


def _arguments(recipe: Recipe, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the types of the other arguments that the chosen optimizer of Keras takes, by path.

    They are those of the default values: Keras refuses the momentum 0, which is no float.
    """
    optimizer = getattr(recipe, "optimizer", None)
    if not isinstance(optimizer, Optimizer):
        return {}
    name = values.get(_OPTIMIZER, optimizer.name)
    try:
        kind = type(frameworks.load().keras.optimizers.get(name))
    except ValueError as error:
        raise UsageError(f"--set {_OPTIMIZER} {name}: Keras has no such optimizer") from error
    own = {"learning_rate", "use_ema", "ema_momentum", "name", "self", "kwargs"}
    return {
        f"optimizer.{name}": type(argument.default) if isinstance(argument.default, bool | float) else Any
        for name, argument in inspect.signature(kind.__init__).parameters.items()
        if name not in own
    }


def _hint(path: str, known: set[str]) -> str:
    near = difflib.get_close_matches(path, known, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else f"it has: {', '.join(sorted(known))}"

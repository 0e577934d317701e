"""Options: the name, meaning and limits of each setting, told once beside its field.

A field of a configuration class carries an `Option` in its annotation. From there come the flag of `octavo
serve` and its help (`cli/flags.py`), the keyword of `LLM`, the check with its message, and the row of
docs/reference/cli.md (`cli/reference.py`). The custom resource's field is compared with it by a test.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from octavo.errors import InvalidConfigurationError
from octavo.quantity import parse_bytes

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class Panel(enum.Enum):
    """Headings of `octavo serve --help`, in their order."""

    API = "API"
    MODEL = "Model"
    ENGINE = "Engine"
    OPERATION = "Operation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What one field means and may be.

    Args:
        help: One line of `--help`.
        details: What the reference page says instead, in Markdown; `help` when empty.
        default: What holds when the field is None or computed, in words; for the reference page.
        flag: The flag's name without its dashes; the field's when empty.
        aliases: Flags that mean the same, such as vLLM's.
        least, most: Limits, both of them allowed.
        limit_reason: Why there is the limit, for the message.
        choices: The values that are allowed, where the type does not say it.
        instead: Names of others that users know, each with what to use in its place.
        is_size: The field counts bytes, and text such as `256Mi` is taken for it.
        is_json: The field is a class with a `read`, which takes JSON's text and mappings.
        is_for_gpus: On a CPU it changes nothing.
        needs: The switch of its class without which it changes nothing: another value than the default is
            refused then.
        variable: The environment variable that the flag's default comes from.
        is_hidden: Not in `--help`, which names what works: it is there to say what does instead.
    """

    help: str
    panel: Panel
    details: str = ""
    default: str = ""
    flag: str = ""
    aliases: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    limit_reason: str = ""
    choices: tuple[object, ...] = ()
    instead: tuple[tuple[str, str], ...] = ()
    is_size: bool = False
    is_json: bool = False
    is_for_gpus: bool = False
    needs: str = ""
    variable: str = ""
    is_hidden: bool = False


@dataclass(frozen=True, slots=True)
class OptionField:
    """A field of a configuration class with its option.

    Args:
        kind: Its type without None: int, float, bool, str, Path, an enumeration, or a tuple of str.
        default: Of the field; `dataclasses.MISSING` where it has none.
    """

    name: str
    kind: Any
    is_optional: bool
    default: Any
    option: Option

    @property
    def spelling(self) -> str:
        """The name that flag, keyword and message share."""
        return (self.option.flag or self.name).replace("-", "_")

    @property
    def flags(self) -> tuple[str, ...]:
        """`--name`, then its aliases."""
        names = (self.spelling.replace("_", "-"), *self.option.aliases)
        return tuple(f"--{name}" for name in names)

    @property
    def choices(self) -> tuple[object, ...]:
        """Empty where any value of the type within the limits is allowed."""
        if isinstance(self.kind, enum.EnumMeta):
            members: Iterable[enum.Enum] = self.kind
            return tuple(member.value for member in members)
        return self.option.choices

    def read(self, value: object) -> object:
        """The value as the class holds it: a member of its enumeration, bytes for a size's text, an object
        for JSON's.

        Raises `InvalidConfigurationError`.
        """
        if isinstance(self.kind, enum.EnumMeta) and value is not None:
            try:
                return self.kind(value)
            except ValueError:
                raise self._not_among(value) from None
        if self.option.is_size and isinstance(value, str):
            return parse_bytes(self.spelling, value)
        if self.option.is_json and value is not None:
            return self.kind.read(value)
        return value

    def check(self, value: object) -> None:
        """Raises `InvalidConfigurationError` with name, value and limit."""
        if value is None and self.is_optional:
            return
        if not _is_of_kind(value, self.kind):
            words = _WORDS.get(self.kind) or f"a {getattr(self.kind, '__name__', self.kind)}"
            or_none = ", or None" if self.is_optional else ""
            raise InvalidConfigurationError(
                f"{self.spelling} is {value!r}; it must be {words}{or_none}."
            )
        choices = self.option.choices
        if choices and value not in choices:
            raise self._not_among(value)
        if isinstance(value, (int, float)) and (limit := self._limit_broken_by(value)):
            reason = f", {self.option.limit_reason}" if self.option.limit_reason else ""
            raise InvalidConfigurationError(f"{self.spelling} is {value}; it must {limit}{reason}.")

    def _limit_broken_by(self, value: float) -> str:
        """Empty where the value lies within the limits."""
        least, most = self.option.least, self.option.most
        if (least is None or value >= least) and (most is None or value <= most):
            return ""
        if most is None or (most >= _HUGE and value < most):
            return f"be at least {least}"
        if least is None or most >= _HUGE:
            return f"be at most {most}"
        return f"lie in [{least:g}, {most:g}]"

    def _not_among(self, value: object) -> InvalidConfigurationError:
        for name, advice in self.option.instead:
            if name == value:
                return InvalidConfigurationError(f"{self.spelling} is {value!r}; {advice}.")
        return InvalidConfigurationError(
            f"{self.spelling} is {value!r}; use {_listed(self.choices)}."
        )


_HUGE = 2**31 - 1
"""From here on a limit is the machine's and none of the matter: a message about the other is silent on it."""

_WORDS = {int: "an integer", float: "a number", bool: "True or False", str: "a text"}


def check_options(config: msgspec.Struct | DataclassInstance) -> None:
    """Raises `InvalidConfigurationError` for the first field of `config` that its option does not allow."""
    for field in option_fields(type(config)):
        value, needed = getattr(config, field.name), field.option.needs
        field.check(value)
        if needed and value != field.default and not getattr(config, needed):
            raise InvalidConfigurationError(
                f"{field.spelling} is {value!r} and {needed} is off: it would change nothing. Turn {needed} "
                f"on too, or leave {field.spelling} out."
            )


def turned_off(kind: type, switch: str) -> dict[str, Any]:
    """The switch off, and what needs it at its default: for a copy of a configuration without it."""
    needing = (field for field in option_fields(kind) if field.option.needs == switch)
    return {switch: False, **{field.name: field.default for field in needing}}


def read_options(kind: type, values: Mapping[str, object]) -> dict[str, Any]:
    """Keywords as callers from Python write them, made into the fields of `kind`.

    A keyword may be the field's name or its flag's (`kv_cache_memory="256Mi"`); text stands for a member of
    an enumeration. Unknown keywords are left as they are, for `kind` to refuse.

    Raises `InvalidConfigurationError`.
    """
    known = {spelling: field for field in option_fields(kind) for spelling in _keywords(field)}
    read: dict[str, Any] = {}
    for keyword, value in values.items():
        field = known.get(keyword)
        name = field.name if field else keyword
        if name in read:
            both = " and ".join(sorted(_keywords(field))) if field else keyword
            raise InvalidConfigurationError(f"{both} mean the same; give one of them.")
        read[name] = field.read(value) if field else value
    return read


@functools.cache
def option_fields(kind: type) -> tuple[OptionField, ...]:
    """The fields of a dataclass or msgspec Struct that carry an `Option`, in their order."""
    hints = typing.get_type_hints(kind, include_extras=True)
    found = []
    for name, default in _defaults(kind):
        annotation, *metadata = typing.get_args(hints[name]) or (hints[name],)
        options = [each for each in metadata if isinstance(each, Option)]
        if typing.get_origin(hints[name]) is typing.Annotated and options:
            inner, is_optional = _without_none(annotation)
            found.append(OptionField(name, inner, is_optional, default, options[0]))
    return tuple(found)


def _defaults(kind: type) -> Iterator[tuple[str, Any]]:
    if issubclass(kind, msgspec.Struct):
        for each in msgspec.structs.fields(kind):
            has_default = each.default is not msgspec.NODEFAULT
            yield each.name, each.default if has_default else dataclasses.MISSING
    elif dataclasses.is_dataclass(kind):
        for field in dataclasses.fields(kind):
            yield field.name, field.default


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if typing.get_origin(annotation) not in (types.UnionType, typing.Union):
        return annotation, False
    (inner,) = (each for each in typing.get_args(annotation) if each is not types.NoneType)
    return inner, True


def _is_of_kind(value: object, kind: Any) -> bool:
    """For callers from Python: a text that looks like a number would fail far from here."""
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, typing.get_origin(kind) or kind)


def _keywords(field: OptionField) -> set[str]:
    return {field.name, field.spelling}


def _listed(choices: tuple[object, ...]) -> str:
    """`a, b or c`."""
    *others, last = map(str, choices)
    return f"{', '.join(others)} or {last}" if others else last

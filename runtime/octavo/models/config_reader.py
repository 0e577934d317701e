"""Reader of config.json: typed look-ups whose errors name the field, and a refusal of fields unread.

A field that Octavo does not know may change what the model computes. What was not looked up while a family
read its config is therefore refused by name, unless it is known to be harmless.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.layers.mlp import Activation, PlainActivation
from octavo.models.harmless_fields import is_harmless

_Kind = TypeVar("_Kind", bound=enum.Enum)

_MAX_NAMES_IN_MESSAGE = 8
_WINDOWS = ("sliding_window", "max_window_layers")


class UnreadFieldsError(ModelUnsupportedError):
    """Fields that nobody is known to read: whose code leaves them out cannot tell, either."""


class ConfigReader:
    """Look-ups in one object of a config.json.

    Raises `ModelInvalidError` from every method when a field is missing or of the wrong kind.

    Args:
        path: Of the object, for messages, such as `rope_parameters`; empty for the file itself.
    """

    def __init__(self, raw: Mapping[str, Any], path: str = "") -> None:
        self._raw = raw
        self._path = f"{path}." if path else ""
        self._read: set[str] = set()
        self._names: dict[str, str] = {}  # of the file, for fields that it calls otherwise

    def with_values(self, **values: Any) -> ConfigReader:
        """The same object with these fields in place of its own, for families that call them otherwise. What
        is looked up there counts as looked up here."""
        return self._with(values, {n: own for n, own in self._names.items() if n not in values})

    def renamed(self, names: Mapping[str, str]) -> ConfigReader:
        """The same object for a family that calls these fields otherwise: each stands, where the file has it,
        under the name behind it, which messages show."""
        found = {name: own for name, own in names.items() if self.get(own) is not None}
        values = {name: self.get(own) for name, own in found.items()}
        return self._with(values, {**self._names, **found})

    def _with(self, values: Mapping[str, Any], names: dict[str, str]) -> ConfigReader:
        other = ConfigReader({**self._raw, **values}, self._path.removesuffix("."))
        other._read, other._names = self._read, names
        return other

    def part(self, name: str) -> ConfigReader:
        """An object in this one; empty where it is missing or null."""
        value = self.get(name)
        if value is not None and not isinstance(value, dict):
            raise ModelInvalidError(
                f"config.json: {self._place(name)} is {value!r:.60}; it must be an object."
            )
        return ConfigReader(value or {}, self._place(name))

    def skip(self, *names: str) -> None:
        """Fields that mean nothing for what this family computes, whatever they say."""
        self._read.update(names)

    def _place(self, name: str) -> str:
        """Where the field stands in the file."""
        return f"{self._path}{self._names.get(name, name)}"

    def has(self, name: str) -> bool:
        """Whether the field is there, be it null."""
        self._read.add(name)
        return name in self._raw

    def get(self, name: str, default: Any = None) -> Any:
        """As it stands in the file; `default` where it is missing."""
        self._read.add(name)
        return self._raw.get(name, default)

    def integer(self, name: str, default: int | None = None) -> int:
        """A positive one; `default` where it is missing or null."""
        value = self.get(name)
        if value is None:
            value = default
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelInvalidError(
                f"config.json: {self._place(name)} is {value!r}; it must be a positive integer."
            )
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite one; `default` where it is missing or null."""
        value = self.get(name)
        if value is None:
            value = default
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ModelInvalidError(
                f"config.json: {self._place(name)} is {value!r:.80}; it must be a number."
            )
        if not abs(value) <= sys.float_info.max:  # an integer may be more, and NaN is neither
            raise ModelInvalidError(
                f"config.json: {self._place(name)} is {value!r:.80}; it must be a finite number."
            )
        return float(value)

    def epsilon(self, name: str, default: float) -> float:
        """What a norm adds to a mean square: not below 0, of which there is no root."""
        value = self.number(name, default)
        if value < 0.0:
            raise ModelInvalidError(
                f"config.json: {self._place(name)} is {value:g}; it must be 0 or more."
            )
        return value

    def factor(self, name: str, default: float) -> float:
        """What multiplies or divides: above 0."""
        value = self.number(name, default)
        if value <= 0.0:
            raise ModelInvalidError(
                f"config.json: {self._place(name)} is {value:g}; it must be above 0."
            )
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """`default` where it is missing or null."""
        value = self.get(name)
        if value is None:
            value = default
        if not isinstance(value, bool):
            raise ModelInvalidError(
                f"config.json: {self._place(name)} is {value!r}; it must be true or false."
            )
        return value

    def refuse_true(self, name: str, what: str) -> None:
        """Raises `ModelUnsupportedError` for a flag that changes the computation in a way that is not
        implemented; `what` it does then."""
        if self.flag(name):
            raise ModelUnsupportedError(
                f"config.json: {self._place(name)} is true: {what}, which Octavo does not compute."
            )

    def refuse_others(self, name: str, *allowed: object) -> None:
        """Raises `ModelUnsupportedError` for a value that is none of these, of which the first stands for a
        missing one."""
        value = self.get(name, allowed[0])
        if value not in allowed:
            raise ModelUnsupportedError(
                f"config.json: {self._place(name)} is {value!r:.80}; implemented is "
                f"{' or '.join(map(repr, dict.fromkeys(allowed)))}."
            )

    def softcap(self, name: str, default: float | None) -> float | None:
        """A positive number, or None where the file says null."""
        if not self.has(name):
            return default
        if self.get(name) is None:
            return None
        value = self.number(name)
        if value <= 0.0:
            raise ModelInvalidError(
                f"config.json: {self._place(name)} is {value:g}; it must be above 0, or null."
            )
        return value

    def activation(self, name: str, default: str) -> Activation:
        """Of a gate. Raises `ModelUnsupportedError` for one that is not implemented."""
        value = self.get(name) or default
        return self._named(name, "silu" if value == "swish" else value, Activation)

    def plain_activation(self, name: str, default: str) -> PlainActivation:
        """Without a gate. Raises `ModelUnsupportedError` for one that is not implemented."""
        return self._named(name, self.get(name) or default, PlainActivation)

    def _named(self, name: str, value: object, kind: type[_Kind]) -> _Kind:
        try:
            return kind(value)
        except ValueError as error:
            raise ModelUnsupportedError(
                f"config.json: {self._place(name)} is {value!r}; implemented are "
                f"{', '.join(one.value for one in kind)}."
            ) from error

    def refuse_unread(self) -> None:
        """Raises `UnreadFieldsError` for fields that nobody looked up and that may change a result."""
        # Exports that were other families' before say that their windows are off.
        off = _WINDOWS if self._raw.get("use_sliding_window") is False else ()
        unknown = sorted(
            name
            for name, value in self._raw.items()
            if name not in self._read
            and name not in off
            and value is not None
            and not is_harmless(name, value)
        )
        if not unknown:
            return
        shown = ", ".join(
            f"{self._path}{name} ({self._raw[name]!r:.60})"
            for name in unknown[:_MAX_NAMES_IN_MESSAGE]
        )
        more = len(unknown) - _MAX_NAMES_IN_MESSAGE
        rest = f", and {more} more" if more > 0 else ""
        raise UnreadFieldsError(
            f"config.json: what {shown}{rest} means for this architecture is not known, and it may change "
            "what the model computes. Remove it from config.json if it does not."
        )

"""JSON call: `{"name": …, "arguments": {…}}`, read as it comes. Many formats are this between tags."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.server.openai.parsing.cursor import Cursor, Steps
from octavo.server.openai.parsing.formats.base import CallFormat, Tools, quoted_name
from octavo.server.openai.parsing.pieces import CallEnd
from octavo.server.openai.parsing.schema_types import decoded


@dataclass(frozen=True, slots=True)
class CallKeys:
    """Of the members of an object that is a call, with their quotes; the first of each is the one that a
    model is held to. Other members, such as an id, may stand beside them."""

    name: tuple[str, ...] = ('"name"',)
    arguments: tuple[str, ...] = ('"arguments"', '"parameters"')

    def head(self, name: str, before: str = "") -> str:
        """What stands before the arguments of the function of a name.

        Args:
            before: Other members.
        """
        return f"{{{before}{self.name[0]}: {quoted_name(name)}, {self.arguments[0]}: "


KEYS = CallKeys()
PARAMETERS = CallKeys(arguments=('"parameters"', '"arguments"'))


def json_call(
    form: CallFormat,
    cursor: Cursor,
    tools: Tools | None = None,
    *,
    keys: CallKeys = KEYS,
    is_open: bool = False,
) -> Steps[bool]:
    """Yields the call of an object. It is known to be one where an object of arguments begins behind the
    name; with the arguments before it, or others than an object, once all is read.

    Args:
        tools: It must be one of these, with arguments: for formats without tags of their own.
        is_open: The first bracket was read.

    Returns: whether there was one, and what stands behind its arguments belongs to it.
    """
    yield from cursor.spaces()
    if not is_open and (yield from cursor.literal("{")) is None:
        return False
    name: str | None = None
    given: dict[str, str] = {}
    while (key := (yield from _key(cursor))) is not None:
        is_object = key in keys.arguments and name is not None and not given
        if is_object and (yield from cursor.is_ahead("{")):
            yield form.begin(name or "")
            return (yield from cursor.arguments()) and (yield from _rest(cursor))
        value = yield from cursor.json_value()
        if value is None:
            return False
        if key in keys.arguments:
            given[key] = value
        elif key in keys.name and (name := _name(value, tools)) is None:
            return False
        yield from cursor.spaces()
        mark = yield from cursor.literal(",", "}")
        if mark != ",":
            if mark is None or name is None:
                return False
            text = next((given[one] for one in keys.arguments if one in given), "null")
            return (yield from _at_once(form, name, text.strip(), tools))
    return False


def json_calls(form: CallFormat, cursor: Cursor, *, keys: CallKeys = KEYS) -> Steps[bool]:
    """Yields the calls of a list of such objects, of which the bracket was read."""
    while True:
        if not (yield from json_call(form, cursor, keys=keys)):
            return False
        yield from cursor.spaces()
        if (yield from cursor.literal(",")) is None:
            return (yield from cursor.closing("]"))


def _key(cursor: Cursor) -> Steps[str | None]:
    """That of the next member, and what stands before its value; None where none stands here."""
    yield from cursor.spaces()
    if not (yield from cursor.is_ahead('"')):
        return None
    key = yield from cursor.json_value()
    yield from cursor.spaces()
    if (yield from cursor.literal(":")) is None:
        return None
    yield from cursor.spaces()
    return key


def _rest(cursor: Cursor) -> Steps[bool]:
    """What stands behind the arguments. Models forget the last bracket at times."""
    while True:
        yield from cursor.spaces()
        mark = yield from cursor.literal(",", "}")
        if mark != ",":
            yield CallEnd()
            return True
        if (yield from _key(cursor)) is None or (yield from cursor.json_value()) is None:
            yield CallEnd()
            return cursor.is_ended


def _name(value: str, tools: Tools | None) -> str | None:
    name = decoded(value)
    return name if isinstance(name, str) and (tools is None or name in tools) else None


def _at_once(form: CallFormat, name: str, text: str, tools: Tools | None) -> Steps[bool]:
    if text == "null":
        if tools is not None:
            return False
        text = "{}"
    arguments = decoded(text)
    if arguments is None:
        return False
    yield from form.whole(name, arguments if isinstance(arguments, str) else text)
    return True

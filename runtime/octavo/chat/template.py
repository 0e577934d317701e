"""Chat template. Turns chat messages into the prompt that a model was trained on, by the model's own Jinja
template.

A template comes with a checkpoint and is therefore foreign code: it runs in Jinja's immutable sandbox and
sees plain JSON values alone. The functions it may call are those that Hugging Face's template format
promises (https://huggingface.co/docs/transformers/chat_templating_writing), so that a template renders
here exactly as it does in transformers; importing transformers itself would cost over a second at start.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2
import jinja2.exceptions
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
import jinja2.utils

from octavo.chat.forms import ContentFormat, learn_forms
from octavo.errors import InvalidParameterError, ModelInvalidError

# A message's reasoning has gone by these names; templates read one of them.
_REASONING_NAMES = ("reasoning_content", "thinking", "reasoning", "thought")
_RARE_REASONING_NAMES = ("reasoning", "thought")


class ChatTemplate:
    """One compiled template. Raises `ModelInvalidError` when it does not parse.

    Args:
        source: Jinja source.
        variables: What every rendering sees, such as `bos_token` and `eos_token`.
        origin: Where it was found, for messages.
        content_format: Of messages; by default what the template shows that it reads.

    Attributes:
        variables: What it reads of those that it is given.
    """

    def __init__(
        self,
        source: str,
        variables: Mapping[str, str] | None = None,
        origin: str = "the given template",
        content_format: ContentFormat = ContentFormat.AUTO,
    ) -> None:
        self.source = source
        self.origin = origin
        self._variables = dict(variables or {})
        environment = _environment()
        try:
            self._template = environment.from_string(source)
            tree = environment.parse(source)
            self.variables = frozenset(jinja2.meta.find_undeclared_variables(tree))
        except jinja2.TemplateSyntaxError as error:
            raise ModelInvalidError(
                f"The chat template does not parse ({origin}, line {error.lineno}): {error.message}. "
                "Mend it, or give another with --chat-template."
            ) from error
        # A template that writes whole messages writes each name, so that a rare one is there for those alone
        # that read it.
        self._rare_names = [name for name in _RARE_REASONING_NAMES if name in _names(tree)]
        self._forms = learn_forms(
            lambda messages, tools: self._rendered(messages, {"tools": tools} if tools else {}),
            content_format,
        )

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt for `messages` of `template_messages`, each in the form that this template reads.

        Args:
            add_generation_prompt: None is what `template_kwargs` says, else true.
            template_kwargs: More variables; `tools`, `documents` and `add_generation_prompt` may be there.

        Raises:
            InvalidParameterError: The template refuses them (roles in an order that the model does not
                know) or fails on them, or a value is given twice.
        """
        values = dict(template_kwargs or {})
        given: dict[str, Any] = {"messages": messages, "tools": tools or None}
        if add_generation_prompt is not None:
            given["add_generation_prompt"] = add_generation_prompt
        for name in given.keys() & values.keys():
            if given[name] is not None and given[name] != values[name]:
                raise InvalidParameterError(
                    "chat_template_kwargs",
                    f"chat_template_kwargs holds {name}, and so does the request, with another value; "
                    "leave one out.",
                )
        return self._rendered(
            [self._forms.applied(message) for message in messages],
            values | {name: value for name, value in given.items() if value is not None},
        )

    def _rendered(self, messages: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> str:
        variables: dict[str, Any] = {
            **self._variables,
            "tools": None,
            "documents": None,
            "add_generation_prompt": True,
            **{name: _plain(value, _parameter(name)) for name, value in values.items()},
            "messages": [
                _with_reasoning(_plain(message, "messages"), self._rare_names)
                for message in messages
            ],
        }
        try:
            return self._template.render(variables)
        except jinja2.TemplateError as error:
            raise InvalidParameterError(
                "messages",
                f"The model's chat template ({self.origin}) refuses these messages: {error}",
            ) from error
        except Exception as error:  # whatever a foreign program may raise
            raise InvalidParameterError(
                "messages",
                f"The model's chat template ({self.origin}) fails on these messages: "
                f"{type(error).__name__}: {error}",
            ) from error


class ChatTemplates:
    """The templates of one model by name; nearly all models have one, `default`.

    Args:
        templates: Those of `NAMES` that there are.
        known: All names, for messages.
    """

    NAMES = ("tool_use", "rag", "default")

    def __init__(self, templates: Mapping[str, ChatTemplate], known: Sequence[str] = ()) -> None:
        self._templates = dict(templates)
        self._known = known

    def __iter__(self) -> Iterator[ChatTemplate]:
        """Those that may be chosen."""
        return iter(self._templates.values())

    @property
    def default(self) -> ChatTemplate | None:
        return self._templates.get("default")

    def choose(self, *, has_tools: bool, has_documents: bool = False) -> ChatTemplate:
        """`tool_use` for a request with tools where there is one, `rag` for one with documents, else
        `default`.

        Raises:
            InvalidParameterError: There is no default.
        """
        wanted = {"tool_use": has_tools, "rag": has_documents, "default": True}
        for name in self.NAMES:
            if wanted[name] and name in self._templates:
                return self._templates[name]
        raise InvalidParameterError(
            "messages",
            f"The model has the chat templates {', '.join(self._known)} and no default: choose one with "
            "--chat-template NAME.",
        )


def _names(tree: jinja2.nodes.Template) -> set[str]:
    """What it may look up in an object: `message.name`, `message['name']`, `message.get('name')`."""
    constants = (constant.value for constant in tree.find_all(jinja2.nodes.Const))
    found = {value for value in constants if isinstance(value, str)}
    return found | {look_up.attr for look_up in tree.find_all(jinja2.nodes.Getattr)}


def _with_reasoning(message: dict[str, Any], rare_names: Sequence[str]) -> dict[str, Any]:
    """The keys, and their order, are those of transformers, and of what it does not know the rare ones."""
    for name in _REASONING_NAMES:
        if (said := message.get(name)) is not None:
            rare = {one: said for one in rare_names if one not in message}
            return {"thinking": said, **message, "reasoning_content": said, **rare}
    return message


def _parameter(variable: str) -> str:
    return variable if variable in ("messages", "tools") else "chat_template_kwargs"


def _plain(value: Any, parameter: str) -> Any:
    """JSON values only: an object with methods would widen what the template can reach."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item, parameter) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, parameter) for item in value]
    if isinstance(value, str):
        return str.__str__(value)
    raise InvalidParameterError(
        parameter,
        f"{parameter} holds a value of the type {type(value).__name__}; only JSON's values can be rendered.",
    )


def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_GenerationBlock, "jinja2.ext.loopcontrols"],
    )
    environment.filters["tojson"] = _tojson
    environment.globals.update(
        raise_exception=_raise_exception,
        strftime_now=_strftime_now,
        namespace=_namespace,
        dict=_Dict(),
    )
    return environment


class _GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}` marks what the assistant wrote, for training; here its body is just rendered, and as
    there what is set in it is not seen behind it."""

    tags = {"generation"}  # noqa: RUF012 (declared so by Jinja)

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        next(parser.stream)
        return jinja2.nodes.Scope(
            parser.parse_statements(("name:endgeneration",), drop_needle=True)
        )


class _Namespace(jinja2.utils.Namespace):
    """Jinja's namespace without underscore names, which could otherwise shadow Python's internals."""

    def __setitem__(self, name: str, value: Any) -> None:
        _check_stored(name)
        super().__setitem__(name, value)


def _namespace(*args: Any, **kwargs: Any) -> _Namespace:
    stored: dict[Any, Any] = dict(*args, **kwargs)
    for name in stored:
        _check_stored(name)
    return _Namespace(stored)


def _check_stored(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"{name!r} cannot be set on a namespace.")


class _Dict:
    """`dict(a=1)` and `dict.fromkeys`, without the class that they are a way to."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args, **kwargs)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes HTML, which no model was trained on.
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return dt.datetime.now(tz=dt.UTC).astimezone().strftime(pattern)

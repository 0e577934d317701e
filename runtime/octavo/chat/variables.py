"""Variables of a chat template: what a request gives it beside messages and tools, such as `enable_thinking`.

One that the template does not read would change nothing, and the model would go on as if it had not been
asked: it is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octavo.chat.template import ChatTemplate
from octavo.errors import UnsupportedParameterError

EFFORT = "reasoning_effort"
_THINKING = ("enable_thinking", "thinking")
# These have checks of their own, or mean something without the template.
_ALWAYS = frozenset({"tools", "documents", "messages", "add_generation_prompt"})


def known_variables(template: ChatTemplate, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are given, as the template reads them.

    Where it knows no effort but can be told not to think, an effort of `none` tells it that.

    Raises:
        UnsupportedParameterError: It does not read one.
    """
    found = dict(given)
    if found.get(EFFORT) == "none" and EFFORT not in template.variables:
        for name in _THINKING:
            if name in template.variables:
                del found[EFFORT]
                found.setdefault(name, False)
                break
    for name in found:
        if name not in template.variables and name not in _ALWAYS:
            parameter = EFFORT if name == EFFORT else "chat_template_kwargs"
            raise UnsupportedParameterError(
                parameter,
                f"the model's chat template ({template.origin}) does not read {name[:64]!r}, so it would "
                "change nothing. Leave it out.",
            )
    return found

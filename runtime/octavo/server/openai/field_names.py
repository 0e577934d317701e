"""Field names of an API that is answered as a chat: errors tell them as the client wrote them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence

from octavo.errors import InvalidParameterError
from octavo.server.openai.api_errors import ApiError, from_octavo_error

_WORD = re.compile(r"""(?<!\w)'(?:[^'\\]|\\.)*'|(?<!\w)"(?:[^"\\]|\\.)*"|\w+""")
_MESSAGE = re.compile(r"messages\[(\d+)\]")


class FieldNames:
    """Args:
    places: What each message of the chat was made of.
    names: Of a chat's other fields; the first pattern that fits is taken.
    words: By what fields are called where a message gives advice, what this API calls them.
    """

    def __init__(
        self,
        places: Sequence[str],
        names: Sequence[tuple[re.Pattern[str], str]],
        words: Mapping[str, str] | None = None,
    ) -> None:
        self._places = places
        self._names = names
        self._words = words or {}

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Errors within have the client's names."""
        try:
            yield
        except ApiError as error:
            raise self._renamed(error) from None
        except InvalidParameterError as error:
            raise self._renamed(from_octavo_error(error)) from None

    def _renamed(self, error: ApiError) -> ApiError:
        told, param = error.detail, error.detail.param
        if param is None:
            return error
        message = told.message
        # Messages begin with the field that they tell of; what they quote is the client's own.
        if message.startswith(param):
            message = self._name(param) + self._advice(message[len(param) :])
        else:
            message = self._advice(message)
        return ApiError(
            error.status,
            message,
            error_type=told.type,
            param=self._name(param),
            code=told.code,
            headers=error.headers,
        )

    def _advice(self, text: str) -> str:
        """In this API's words, but for what is quoted."""
        return _WORD.sub(lambda found: self._words.get(found[0], found[0]), text)

    def _name(self, param: str) -> str:
        if found := _MESSAGE.match(param):
            return self._places[int(found[1])] + param[found.end() :]
        for pattern, name in self._names:
            if found := pattern.match(param):
                return found.expand(name) + param[found.end() :]
        return param

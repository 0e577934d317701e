"""Messages between the process that leads a server and its API processes: msgspec structs, tagged by their
type."""

from __future__ import annotations

import msgspec

from octavo.engine.messages import EngineInfo
from octavo.server.http.tls import TlsMaterial
from octavo.server.openai.adapters import ServedAdapter
from octavo.server.process.api_keys import Key
from octavo.server.process.engine_view import EngineView
from octavo.server.process.lifecycle import State


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Tagged by the name of its class."""


class Configure(_Message, frozen=True):
    """The first one. `name` is the process's in the log, `options` are `ServeOptions` in JSON, `folder` has
    the model, and `metrics_folder` takes what this process counts. One process logs what all of them read."""

    name: str
    options: bytes
    folder: str
    metrics_folder: str
    is_logging_texts: bool


class Loaded(_Message, frozen=True):
    """It can begin: what takes time is read. `has_chat`: the model has a chat template."""

    has_chat: bool


class Begin(_Message, frozen=True):
    """Listen, and answer by the engine at `address` under `name`."""

    name: bytes
    address: str
    info: EngineInfo
    adapters: list[ServedAdapter]
    keys: list[Key]
    tls: TlsMaterial | None
    state: State
    is_asleep: bool


class Listening(_Message, frozen=True):
    """It takes connections."""


class Failed(_Message, frozen=True):
    """It cannot start, and ends. `reason` is an error class's constant."""

    reason: str
    message: str
    is_user_error: bool


class Beat(_Message, frozen=True):
    """It lives; the answer to `Report`, too. Requests that wait for tokens, all that are answered, first ones
    of connections so far, and new connections that have sent none yet."""

    num_active: int
    num_in_flight: int
    num_arrivals: int
    num_awaited: int


class Report(_Message, frozen=True):
    """Answered by `Beat`, when all that was sent before it holds."""


class TurnState(_Message, frozen=True):
    """The server is in this state now."""

    state: State


class TakeKeys(_Message, frozen=True):
    """These are the file's keys now."""

    keys: list[Key]


class TakeTls(_Message, frozen=True):
    """New connections are encrypted by this now."""

    material: TlsMaterial


class TakeAdapters(_Message, frozen=True):
    """Requests may have these now; answered by `Done`."""

    adapters: list[ServedAdapter]


class FallAsleep(_Message, frozen=True):
    """End all requests and take none; answered by `Done` when the engine has heard of it."""


class WakeUp(_Message, frozen=True):
    """Requests may come again."""


class CloseIdle(_Message, frozen=True):
    """End kept-alive connections that carry no request."""


class EngineDied(_Message, frozen=True):
    """Whatever runs fails with this, or as the server was told to end."""

    message: str
    was_told: bool = False


class Stop(_Message, frozen=True):
    """Listen no longer, and end when the last answers have left."""


class Enter(_Message, frozen=True):
    """A request of a key with limits of its own; answered by `Entered`."""

    key: Key


class Came(_Message, frozen=True):
    """A request of a key without limits, which is taken in any case, where another of its name is limited in
    what it has under way."""

    key: Key


class Leave(_Message, frozen=True):
    key: Key


class Charge(_Message, frozen=True):
    key: Key
    num_tokens: int


class AskLimits(_Message, frozen=True):
    """Answered by `Limits`."""

    key: Key


class AskView(_Message, frozen=True):
    """Answered by `View`."""


class AskMetrics(_Message, frozen=True):
    """What strangers may see of them; answered by `Metrics`."""


class Done(_Message, frozen=True):
    """What was asked for is done."""


class OverLimit(msgspec.Struct, frozen=True, array_like=True):
    """The key may do no more at present: what its client is told."""

    message: str
    headers: dict[str, str]


class Entered(_Message, frozen=True):
    refusal: OverLimit | None = None


class Limits(_Message, frozen=True):
    headers: dict[str, str]


class View(_Message, frozen=True):
    view: EngineView


class Metrics(_Message, frozen=True):
    text: bytes


Message = (
    Configure
    | Loaded
    | Begin
    | Listening
    | Failed
    | Beat
    | Report
    | TurnState
    | TakeKeys
    | TakeTls
    | TakeAdapters
    | FallAsleep
    | WakeUp
    | CloseIdle
    | EngineDied
    | Stop
    | Enter
    | Came
    | Leave
    | Charge
    | AskLimits
    | AskView
    | AskMetrics
    | Done
    | Entered
    | Limits
    | View
    | Metrics
)


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """On the wire. `number` is 0 of what wants no answer; an answer has that of its question, negative."""

    number: int
    message: Message

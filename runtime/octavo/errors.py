"""Errors. The few errors that Octavo raises, so that every border can translate them once.

Each class carries a `reason`: a constant that travels unchanged into the pod's termination message, the
custom resource's condition and the documentation. The message names the field, the value, the limit and
what to do.
"""

from __future__ import annotations

from typing import ClassVar


class OctavoError(Exception):
    """Base of every error that Octavo raises on purpose."""

    reason: ClassVar[str] = "InternalError"


class UserError(OctavoError):
    """Something that the caller can mend; at start-up the process exits with status 3."""

    reason: ClassVar[str] = "InvalidConfiguration"


class InvalidConfigurationError(UserError):
    """A flag or a field of `EngineConfig` is out of its range."""


class InvalidParameterError(UserError):
    """A field of a request is out of its range.

    `parameter` is the field's name as the client wrote it (OpenAI's error object calls it `param`).
    """

    reason: ClassVar[str] = "InvalidParameter"

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class UnsupportedParameterError(InvalidParameterError):
    """A field, or a value of it, that would change the answer and that Octavo does not implement."""

    def __init__(self, parameter: str, why: str) -> None:
        super().__init__(parameter, f"{parameter} is not supported: {why}")


class ContextLengthExceededError(InvalidParameterError):
    """The prompt, or prompt plus `max_tokens`, does not fit `max_model_len`."""

    reason: ClassVar[str] = "ContextLengthExceeded"


class ModelNotFoundError(UserError):
    """No model under this name, path or revision."""

    reason: ClassVar[str] = "ModelNotFound"


class ModelInvalidError(UserError):
    """The model's files are there but damaged, incomplete or in a format that is refused (pickle)."""

    reason: ClassVar[str] = "ModelInvalid"


class ModelUnsupportedError(UserError):
    """The model's architecture or a feature of it is not implemented."""

    reason: ClassVar[str] = "ModelUnsupported"


class DownloadFailedError(OctavoError):
    """The model exists, but fetching it failed (network, credentials, disk)."""

    reason: ClassVar[str] = "DownloadFailed"


class OutOfMemoryError(UserError):
    """Weights plus the smallest useful KV cache do not fit; the message says what would."""

    reason: ClassVar[str] = "OutOfMemory"


class QueueFullError(OctavoError):
    """The waiting queue is full; `retry_after_seconds` is an honest guess."""

    reason: ClassVar[str] = "QueueFull"

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ModelAsleepError(OctavoError):
    """The model sleeps and runs nothing until somebody wakes it."""

    reason: ClassVar[str] = "ModelAsleep"

    def __init__(self) -> None:
        super().__init__(
            "The model sleeps: its memory is lent. Wake it first (wake_up; POST /wake_up on the ops port)."
        )


class DeviceFaultError(OctavoError):
    """The device is lost (a CUDA error, say) and the KV cache with it: the engine process must end.

    An executor raises it from `submit` or `result`; every other exception of a step fails that step's
    requests alone, until so many steps failed that the engine raises this itself (`StepFailures`).
    """

    reason: ClassVar[str] = "DeviceFault"


class EngineDeadError(OctavoError):
    """The engine process ended; running requests are lost and the API process must end as well."""

    reason: ClassVar[str] = "EngineDead"


class ServerEndsError(EngineDeadError):
    """Nor did it fail: the server was told to end, and what still runs is not waited for any longer."""

    def __init__(self) -> None:
        super().__init__("The server ends, as it was told to.")


START_ERRORS: tuple[type[OctavoError], ...] = (
    InvalidConfigurationError,
    ModelNotFoundError,
    ModelInvalidError,
    ModelUnsupportedError,
    DownloadFailedError,
    OutOfMemoryError,
)
"""What a start fails with; every other failure of one is an `InternalError`."""


def start_error(
    reason: str, message: str, otherwise: type[OctavoError] = OctavoError
) -> OctavoError:
    """What another process's start failed with, by the `reason` that it gave: so an error crosses whole."""
    kinds = {kind.reason: kind for kind in START_ERRORS}
    return kinds.get(reason, otherwise)(message)

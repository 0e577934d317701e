"""Objects as they were sent: templates read the client's own keys, in its order, which models forget."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ModelWrapValidatorHandler, PrivateAttr, model_validator


class AsSent(BaseModel):
    """Keeps the object that was validated."""

    _as_sent: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        kept = handler(value)
        kept._as_sent = value  # noqa: SLF001 (its own)
        return kept

    @property
    def as_sent(self) -> dict[str, Any]:
        return self._as_sent

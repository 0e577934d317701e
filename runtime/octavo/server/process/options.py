"""What `octavo serve` was asked for, beyond the engine's own configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from octavo.config import EngineConfig
from octavo.errors import InvalidConfigurationError
from octavo.generation_config import AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """One server. Raises `InvalidConfigurationError` when built with a value out of range.

    Args:
        model: As the user wrote it: `builtin://demo`, `hf://…`, a folder.
        engine: `engine.model` is filled in when `model` is resolved.
        served_names: What clients may call the model; the first one is the metrics' label.
        api_keys: Empty leaves the API open.
        generation_config: Where sampling defaults come from; see `choose_generation_config`.
        max_body_bytes: None chooses by the model's context.
        shutdown_timeout_seconds: For running requests to finish after the grace.
        shutdown_grace_seconds: After SIGTERM, how long new requests are still answered.
        stall_timeout_seconds: Without a step, while requests run, until `/livez` fails.
    """

    model: str
    engine: EngineConfig
    served_names: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    ops_port: int = 8001
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    chat_template: str | None = None
    generation_config: str = AUTO
    download_dir: Path | None = None
    revision: str | None = None
    max_body_bytes: int | None = None
    shutdown_timeout_seconds: float = 120.0
    shutdown_grace_seconds: float = 5.0
    stall_timeout_seconds: float = 120.0
    log_level: str = "info"

    def __post_init__(self) -> None:
        for name in ("port", "ops_port"):
            if not 0 <= getattr(self, name) <= 65535:
                raise InvalidConfigurationError(
                    f"{name} is {getattr(self, name)}; it must lie in [0, 65535]."
                )
        if self.port == self.ops_port != 0:
            raise InvalidConfigurationError(
                f"port and ops_port are both {self.port}; give two different ports."
            )
        for name, least in (
            ("shutdown_timeout_seconds", 0.0),
            ("shutdown_grace_seconds", 0.0),
            ("stall_timeout_seconds", 1.0),  # an engine is asked for an answer once a second
        ):
            if not least <= getattr(self, name) <= 86400:
                raise InvalidConfigurationError(
                    f"{name} is {getattr(self, name)}; it must lie in [{least:g}, 86400]."
                )
        if any(not name or len(name) > 256 for name in self.served_names):
            raise InvalidConfigurationError(
                "served_model_name holds an empty or overlong name; give 1 to 256 characters."
            )
        if any(not key.strip() for key in self.api_keys):
            # An empty key would look like protection and be none.
            raise InvalidConfigurationError("api_key is empty; give a key or leave it out.")
        if self.max_body_bytes is not None and self.max_body_bytes < 1024:
            raise InvalidConfigurationError(
                f"max_body_size is {self.max_body_bytes}; it must be at least 1024 bytes."
            )

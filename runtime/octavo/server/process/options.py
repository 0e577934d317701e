"""Server options: what `octavo serve` was asked for, beyond the engine's own configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec

from octavo.config import EngineConfig, NodePlace
from octavo.errors import InvalidConfigurationError
from octavo.generation_config import AUTO
from octavo.lora_modules import read_lora_modules
from octavo.options import Option, Panel, check_options
from octavo.server.http.hosts import default_hosts, normalized_host
from octavo.server.http.origin import normalized_origin
from octavo.server.openai.parsing.names import AUTO as AUTO_PARSER
from octavo.server.openai.parsing.names import (
    CALLS_INSTEAD,
    REASONING_INSTEAD,
    REASONING_PARSERS,
    TOOL_CALL_PARSERS,
)
from octavo.server.process.node_options import NodeOptions
from octavo.server.process.tls_options import TlsOptions

API_KEY_VARIABLE = "OCTAVO_API_KEY"
LOG_LEVEL_VARIABLE = "OCTAVO_LOG_LEVEL"
OCTAVO_NAMES = "octavo"
VLLM_NAMES = "vllm"
CONTENT_FORMATS = ("auto", "string", "openai")
"""Those of `octavo.chat.ContentFormat`, which is not loaded for a flag's sake."""
LOG_LEVELS = ("debug", "info", "warning", "error")
LONGEST_DRAIN_SECONDS = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions(NodeOptions):
    """One server. Raises `InvalidConfigurationError` when built with a value out of range.

    Each field's `Option` says what it means. Beside the options:

    Args:
        model: As the user wrote it: `builtin://demo`, `hf://…`, a folder.
        engine: `engine.model` is filled in when `model` is resolved.
        tls: Of the OpenAI port.
    """

    model: str
    engine: EngineConfig
    served_names: Annotated[
        tuple[str, ...],
        Option(
            panel=Panel.API,
            flag="served-model-name",
            default="`MODEL` without scheme and revision",
            help="Name for clients; repeatable. Default: MODEL, no scheme.",
            details="name for clients; repeatable, the first one labels the metrics",
        ),
    ]
    tls: TlsOptions = field(default_factory=TlsOptions)
    lora_modules: Annotated[
        tuple[str, ...],
        Option(
            panel=Panel.MODEL,
            default="none",
            help="Adapter to start with, name=path; repeatable. Needs --enable-lora.",
            details="[LoRA adapter](../how-to/lora.md) to start with: `name=path`, or vLLM's object in JSON "
            "(`name`, `path`, `base_model_name`); several behind one flag, or repeated; with `--enable-lora`",
        ),
    ] = ()
    host: Annotated[
        str,
        Option(
            panel=Panel.API,
            help="Address of both ports.",
            details="address of both ports; `::` is every one, of either version of IP, as in a pod, and "
            "`0.0.0.0` every one of version 4",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Option(
            panel=Panel.API,
            least=0,
            most=65535,
            help="OpenAI API.",
            details="OpenAI API; 0 lets the kernel choose",
        ),
    ] = 8000
    api_server_count: Annotated[
        int,
        Option(
            panel=Panel.API,
            least=1,
            most=64,
            help="Processes that answer the OpenAI port.",
            details="[processes that answer the OpenAI port](http-api.md#several-processes)",
        ),
    ] = 1
    ops_port: Annotated[
        int,
        Option(
            panel=Panel.API,
            least=0,
            most=65535,
            help="/livez, /readyz, /startupz, /metrics.",
            details="probes and metrics",
        ),
    ] = 8001
    api_keys: Annotated[
        tuple[str, ...],
        Option(
            panel=Panel.API,
            flag="api-key",
            variable=API_KEY_VARIABLE,
            default="none",
            help="Key that clients must send; repeatable. Better given by the environment.",
            details=f"key that clients must send; repeatable; better by `{API_KEY_VARIABLE}` (several "
            "separated by spaces)",
        ),
    ] = field(default=(), repr=False)
    api_key_file: Annotated[
        Path | None,
        Option(
            panel=Panel.API,
            default="none",
            help="File of keys, or folder of such files; read anew while it serves.",
            details="file of keys that white space separates, or folder of such files; read anew every "
            "second, so that keys change without a restart. Beside `--api-key`, all are taken",
        ),
    ] = None
    allowed_origins: Annotated[
        tuple[str, ...],
        Option(
            panel=Panel.API,
            default="none",
            help="Origin whose pages may use the API, others get 403; repeatable. Default: none.",
            details="origin (`https://chat.example.org`, `http://localhost:3000`) whose pages may use the "
            "API from a browser, beside those of the server's own host; repeatable, or a list in JSON as "
            "vLLM takes it. [Requests of other pages get 403](http-api.md#browsers). `*` is all of them, "
            "never with credentials",
        ),
    ] = ()
    allowed_hosts: Annotated[
        tuple[str, ...],
        Option(
            panel=Panel.API,
            default="any; on a loopback address without a key, none",
            help="Name under which clients reach the server; repeatable. Others get 403.",
            details="name (`llm.example.org`, `*.example.org`) under which the server is asked, beside "
            "addresses and `localhost`; repeatable. [Requests to other names get 403]"
            "(http-api.md#names-of-the-server), as after DNS rebinding. `*` is all of them",
        ),
    ] = ()
    ui: Annotated[
        bool,
        Option(
            panel=Panel.API,
            help="Serve a page to chat and see the load, at /.",
            details="serve [a page](http-api.md#the-page) at `/`: a chat, and the load",
        ),
    ] = True
    enable_tokenizer_info_endpoint: Annotated[
        bool,
        Option(panel=Panel.API, help="Serve the tokenizer's settings at /tokenizer_info."),
    ] = False
    max_body_bytes: Annotated[
        int | None,
        Option(
            panel=Panel.API,
            flag="max-body-size",
            is_size=True,
            least=1024,
            most=2**31 - 1,
            default="by the context, at least 4Mi",
            help="Largest request body (8Mi). Default: by the context, at least 4Mi.",
            details="largest request body",
        ),
    ] = None
    chat_template: Annotated[
        str | None,
        Option(
            panel=Panel.MODEL,
            default="the model's",
            help="Jinja file, or the name of one of the model's templates, instead of its default.",
            details="Jinja file, or the name of one of the model's templates (`chat_template` as a list, "
            "`additional_chat_templates/`), for all requests",
        ),
    ] = None
    chat_template_content_format: Annotated[
        str,
        Option(
            panel=Panel.MODEL,
            choices=CONTENT_FORMATS,
            help="Content of messages for the chat template: string, openai (parts), auto.",
            details="how the chat template reads the content of messages, as vLLM has it: `string`, `openai` "
            "(a list of parts), or `auto`: in the form that the template shows to read",
        ),
    ] = CONTENT_FORMATS[0]
    tool_call_parser: Annotated[
        str,
        Option(
            panel=Panel.MODEL,
            choices=TOOL_CALL_PARSERS,
            instead=CALLS_INSTEAD,
            help="How the model writes calls of tools. auto: as its chat template does.",
            details="how the model writes calls of tools, by vLLM's names "
            f"({', '.join(f'`{name}`' for name in TOOL_CALL_PARSERS)}); `auto` is the format that reads back "
            "what the model's chat template writes, `none` reads no calls and refuses tools",
        ),
    ] = AUTO_PARSER
    reasoning_parser: Annotated[
        str,
        Option(
            panel=Panel.MODEL,
            choices=REASONING_PARSERS,
            instead=REASONING_INSTEAD,
            help="How the model marks reasoning. auto: by the tags in its chat template.",
            details="how the model marks reasoning, by vLLM's names "
            f"({', '.join(f'`{name}`' for name in REASONING_PARSERS)}); `auto` goes by the tags in the "
            "model's chat template, `none` leaves reasoning in the text",
        ),
    ] = AUTO_PARSER
    generation_config: Annotated[
        str,
        Option(
            panel=Panel.MODEL,
            help="Sampling defaults: auto (the model's own), none, or a folder.",
            details="what a request takes that leaves a sampling parameter out: `auto` (the model's "
            "`generation_config.json`), `none` (OpenAI's defaults; `vllm` means the same), or a folder "
            "whose file is read instead",
        ),
    ] = AUTO
    revision: Annotated[
        str | None,
        Option(panel=Panel.MODEL, default="main", help="Branch, tag or commit on the hub."),
    ] = None
    download_dir: Annotated[
        Path | None,
        Option(panel=Panel.MODEL, default="the hub's cache", help="Where downloads are kept."),
    ] = None
    drain_timeout_seconds: Annotated[
        float,
        Option(
            panel=Panel.OPERATION,
            flag="drain-timeout",
            aliases=("shutdown-timeout",),
            least=0,
            most=LONGEST_DRAIN_SECONDS,
            help="Seconds for running requests to finish after SIGTERM.",
        ),
    ] = 120.0
    drain_grace_seconds: Annotated[
        float,
        Option(
            panel=Panel.OPERATION,
            flag="drain-grace",
            aliases=("shutdown-grace",),
            least=0,
            most=LONGEST_DRAIN_SECONDS,
            help="Seconds after SIGTERM, and after the last new connection's request, in which new ones are "
            "still answered.",
            details="seconds after SIGTERM in which new requests are still answered, and again after each "
            "that comes over a new connection, for at most half of `--drain-timeout` more; 0: none",
        ),
    ] = 5.0
    request_timeout_seconds: Annotated[
        float | None,
        Option(
            panel=Panel.OPERATION,
            flag="request-timeout",
            least=0.001,
            most=86400.0,
            default="none",
            help="Seconds after which a request that is not answered is ended with 408.",
            details="seconds after which a request that is not answered whole is ended "
            "[with 408](http-api.md#deadlines)",
        ),
    ] = None
    stall_timeout_seconds: Annotated[
        float,
        Option(
            panel=Panel.OPERATION,
            flag="stall-timeout",
            least=1,
            most=86400.0,
            limit_reason="as the engine is asked for an answer once a second",
            help="Seconds without a step, while requests run, until /livez fails.",
            details="seconds without a step, while requests run, or without an answer of the engine, until "
            "`/livez` fails; longer than the longest step",
        ),
    ] = 120.0
    metrics_names: Annotated[
        str,
        Option(
            panel=Panel.OPERATION,
            choices=(OCTAVO_NAMES, VLLM_NAMES),
            help="Names of the metrics; vllm adds vLLM's to ours.",
            details="`vllm` adds [vLLM's names](metrics.md#vllms-names) to Octavo's, for dashboards, "
            "autoscalers and gateways that read those",
        ),
    ] = OCTAVO_NAMES
    public_metrics: Annotated[
        bool,
        Option(
            panel=Panel.OPERATION,
            help="Serve /metrics on the OpenAI port too, without a key.",
            details="serve [`/metrics`](metrics.md#on-the-openai-port) on the OpenAI port too, without a key "
            "and without the names of keys: endpoint pickers of gateways look there",
        ),
    ] = False
    log_level: Annotated[
        str,
        Option(
            panel=Panel.OPERATION,
            choices=LOG_LEVELS,
            variable=LOG_LEVEL_VARIABLE,
            help="How much is logged.",
            details=f"{', '.join(f'`{level}`' for level in LOG_LEVELS)}; also `{LOG_LEVEL_VARIABLE}`",
        ),
    ] = "info"

    @property
    def engine_on_node(self) -> EngineConfig:
        """`engine`, with the node's place. Raises `InvalidConfigurationError`."""
        if self.num_nodes == 1:
            return self.engine
        place = NodePlace(
            num_nodes=self.num_nodes,
            node_rank=self.node_rank,
            master_addr=self.master_addr,
            master_port=self.master_port,
        )
        return msgspec.structs.replace(self.engine, place=place)

    @property
    def has_api_key(self) -> bool:
        """Whether requests must bring a key."""
        return bool(self.api_keys) or self.api_key_file is not None

    @property
    def answered_hosts(self) -> tuple[str, ...]:
        """The names that requests may be sent to, beside addresses and `localhost`."""
        return self.allowed_hosts or default_hosts(self.host, has_api_key=self.has_api_key)

    def __post_init__(self) -> None:
        check_options(self)
        self.check_nodes()
        if self.api_server_count > 1 and self.node_rank > 0:
            raise InvalidConfigurationError(
                f"api_server_count is {self.api_server_count} and node_rank is {self.node_rank}; a node that "
                "is headless answers nobody. Give --api-server-count to node 0 alone."
            )
        if self.port == self.ops_port != 0:
            raise InvalidConfigurationError(
                f"--port and --ops-port are both {self.port}; give two different ports."
            )
        if any(not name or len(name) > 256 for name in self.served_names):
            raise InvalidConfigurationError(
                "served_model_name holds an empty or overlong name; give 1 to 256 characters."
            )
        if self.lora_modules and not self.engine.enable_lora:
            raise InvalidConfigurationError(
                "lora_modules is given and enable_lora is not. Give --enable-lora too, or leave it out."
            )
        read_lora_modules(self.lora_modules)
        if any(not key.strip() for key in self.api_keys):
            # An empty key would look like protection and be none.
            raise InvalidConfigurationError("api_key is empty; give a key or leave it out.")
        for option, values, normalized in (
            ("allowed_origins", self.allowed_origins, normalized_origin),
            ("allowed_hosts", self.allowed_hosts, normalized_host),
        ):
            for value in values:
                try:
                    normalized(value)
                except ValueError as error:
                    raise InvalidConfigurationError(f"{option} holds {value!r}; {error}.") from None

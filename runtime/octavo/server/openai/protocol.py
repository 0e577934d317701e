"""Protocol. The requests of OpenAI's API that this server takes, and what it makes of every field.

A field is one of four things: taken (declared here), without effect on the answer (`ignored_fields`),
known but not implemented (refused unless its value changes nothing), or unknown (refused). Nothing that
would change the answer is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
)

from octavo.generation_config import SamplingDefaults
from octavo.json_path import json_path
from octavo.sampling_params import MAX_LOGPROBS, SamplingParams, check_number
from octavo.server.openai.answers import UsageInStream
from octavo.server.openai.api_errors import (
    ApiError,
    from_validation_errors,
    invalid_value,
    quoted,
    unsupported,
)
from octavo.server.openai.as_sent import AsSent
from octavo.server.openai.chat_message import ChatMessage
from octavo.server.openai.functions import Function, FunctionChoice, as_tools
from octavo.server.openai.ignored_fields import IgnoredFields, Prediction, PromptCacheOptions
from octavo.server.openai.output_format import ResponseFormat, StructuredOutputs
from octavo.structured_outputs import StructuredOutputsParams

# Known, not implemented: the values that ask for nothing are let through.
_NOT_IMPLEMENTED: dict[str, tuple[Any, ...]] = {
    "audio": (None,),
    "best_of": (None, 1),
    "chat_template": (None,),
    "documents": (None, []),
    "ec_transfer_params": (None,),
    "echo": (None, False),
    "function_call": (None, "none"),
    "functions": (None, []),
    "guided_choice": (None,),
    "guided_grammar": (None,),
    "guided_json": (None,),
    "guided_regex": (None,),
    "kv_transfer_params": (None,),
    "logits_processors": (None, []),
    "logprob_token_ids": (None, []),
    "media_io_kwargs": (None, {}),
    "mm_payload": (None, "tensors"),
    "mm_processor_kwargs": (None, {}),
    "modalities": (None, ["text"]),
    "moderation": (None,),
    "prediction": (None,),
    "prompt_embeds": (None,),
    "repetition_detection": (None,),
    "return_mm_kwargs": (None, False),
    "return_prompt_text": (None, False),
    "return_token_offsets": (None, False),
    "routed_experts_prompt_start": (None, 0),
    "spaces_between_special_tokens": (None, True),
    "stream_interval": (None, 1),
    "suffix": (None, ""),
    "thinking_token_budget": (None,),
    "truncation_side": (None, "left"),
    "verbosity": (None, "medium"),
    "vllm_xargs": (None, {}),
    "watermarking": (None, False),
    "web_search_options": (None,),
}


TokenId = Annotated[int, Field(ge=0, lt=2**31)]
# JSON's keys are strings.
TokenName = Annotated[int, Field(ge=0, lt=2**31, strict=False)]
M = TypeVar("M", bound=BaseModel)
# No field takes more; sums of longer numbers may be too long to be shown in an error.
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
# Of a prompt; -1: as many as fit.
KeptTokens = Annotated[int, Field(ge=1, lt=2**31)] | Literal[-1]


class StreamOptions(BaseModel):
    """`include_obfuscation` pads chunks on OpenAI's side and changes no token: accepted.
    `continuous_usage_stats` is vLLM's: with `include_usage` every chunk tells the usage so far."""

    model_config = ConfigDict(strict=True, extra="forbid")

    include_usage: bool = False
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None


def validated(kind: type[M], document: object) -> M:
    """Raises `ApiError` (400) that names the field."""
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise from_validation_errors(error.errors(include_url=False), document) from None


class SampledRequest(IgnoredFields):
    """What every route that generates takes. `None` means the default, as OpenAI has it."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: str
    min_tokens: Whole | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: float | None = None
    top_k: Whole | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: Whole | None = None
    stop: str | list[str] | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=1024)] | None = None
    logit_bias: Annotated[dict[TokenName, float], Field(max_length=1024)] | None = None
    allowed_token_ids: list[TokenId] | None = None
    bad_words: list[str] | None = None
    structured_outputs: StructuredOutputs | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    stream: bool | None = None
    # Fields of vLLM's: a lower priority runs first, and prefixes are shared within one salt alone.
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31)] | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=256)] | None = None


class GenerationRequest(SampledRequest):
    """What chat and text completions share."""

    n: Whole | None = None
    max_tokens: Whole | None = None
    response_format: ResponseFormat | None = None
    add_special_tokens: bool | None = None
    # vLLM's: so many of the prompt's last tokens are kept; -1: as many as fit.
    truncate_prompt_tokens: KeptTokens | None = None
    # vLLM's: `n` beams.
    use_beam_search: bool | None = None
    length_penalty: float | None = None
    # vLLM's: more is told of the tokens.
    prompt_logprobs: Whole | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    stream_options: StreamOptions | None = None
    # Without effect, and of more values in responses.
    prompt_cache_options: PromptCacheOptions | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None

    _sampling_fields: ClassVar[tuple[str, ...]] = (
        "n",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "seed",
        "stop",
        "stop_token_ids",
        "min_tokens",
        "logit_bias",
        "allowed_token_ids",
        "bad_words",
        "ignore_eos",
        "skip_special_tokens",
        "include_stop_str_in_output",
    )

    @classmethod
    def parse(cls, document: object) -> Self:
        """Validates a decoded JSON document. Raises `ApiError` (400) that names the field."""
        request = validated(cls, document)
        for name, value in (request.model_extra or {}).items():
            check_extra(name, value, _NOT_IMPLEMENTED)
        if request.stream_options is not None and not request.stream:
            raise invalid_value(
                "stream_options", "stream_options is only allowed together with stream: true."
            )
        options = request.stream_options
        if options and options.continuous_usage_stats and not options.include_usage:
            name = "stream_options.continuous_usage_stats"
            raise invalid_value(name, f"{name} is only allowed together with include_usage: true.")
        return request

    @property
    def usage_in_stream(self) -> UsageInStream:
        """How a streamed answer tells its usage."""
        options = self.stream_options
        if options is None or not options.include_usage:
            return UsageInStream.NEVER
        return UsageInStream.ALWAYS if options.continuous_usage_stats else UsageInStream.AT_END

    def sampling_params(
        self,
        defaults: SamplingDefaults,
        *,
        max_tokens: int,
        logprobs: int | None,
        prompt_logprobs: int | None = None,
        structured_outputs: StructuredOutputsParams | None = None,
    ) -> SamplingParams:
        """Raises `InvalidParameterError` naming the field that is out of range."""
        given: dict[str, Any] = {
            name: value
            for name in self._sampling_fields
            if (value := getattr(self, name)) is not None
        }
        return defaults.params(
            **given,
            max_tokens=max_tokens,
            logprobs=logprobs,
            prompt_logprobs=prompt_logprobs,
            structured_outputs=structured_outputs,
        )


def check_extra(name: str, value: object, not_implemented: Mapping[str, Sequence[Any]]) -> None:
    """Refuses a field that is not known, or not implemented and no value that asks for nothing."""
    if name not in not_implemented:
        raise ApiError(
            400,
            f"Unrecognized request argument supplied: {name[:64]}",
            param=name[:64],
            code="unknown_parameter",
        )
    if not any(_is_same(value, neutral) for neutral in not_implemented[name]):
        raise unsupported(name, f"it is {quoted(value)}. Leave it out.")


def _is_same(value: object, neutral: object) -> bool:
    """In Python True is 1, and in JSON it is not."""
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


class FunctionDefinition(BaseModel):
    """`strict` holds calls to the schema, also where the model decides itself whether to call."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(AsSent):
    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["function"]
    function: FunctionDefinition


class ChatCompletionRequest(GenerationRequest):
    """`POST /v1/chat/completions`."""

    messages: list[ChatMessage]
    max_completion_tokens: Whole | None = None
    logprobs: bool | None = None
    top_logprobs: Whole | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    # The same before there were tools, which they are read as.
    functions: list[Function] | None = None
    function_call: FunctionChoice | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    include_reasoning: bool | None = None
    # vLLM's, as Hugging Face's chat templates know them.
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    documents: list[dict[str, Any]] | None = None
    # Without effect.
    prediction: Prediction | None = None

    @classmethod
    def parse(cls, document: object) -> Self:
        """As of every request; tools of other kinds are told before members that they do not have."""
        tools = document.get("tools") if isinstance(document, dict) else None
        for place, tool in enumerate(tools if isinstance(tools, list) else []):
            if isinstance(tool, dict) and tool.get("type", "function") != "function":
                raise unsupported(
                    json_path("tools", place, "type"),
                    f"it is {quoted(tool['type'])}. Use function.",
                )
        request = super().parse(document)
        functions = (
            document["functions"] if isinstance(document, dict) and request.functions else []
        )
        found = as_tools(
            functions,
            request.function_call,
            request.tools,
            request.tool_choice,
            request.parallel_tool_calls,
        )
        if found:
            found["tools"] = [Tool.model_validate(tool) for tool in found["tools"]]
        return request.model_copy(update=found) if found else request

    @property
    def said(self) -> str | None:
        """Of the last message, where the answer goes on with it."""
        if not self.continue_final_message or not self.messages:
            return None
        content = self.messages[-1].content
        if isinstance(content, list):
            return "".join(part.text or "" for part in content)
        return content or ""

    @property
    def call_ids(self) -> list[str]:
        """Of the calls in the conversation."""
        calls = (call for message in self.messages for call in message.tool_calls or ())
        return [call.id for call in calls if call.id is not None]

    @property
    def template_variables(self) -> dict[str, Any] | None:
        """For the chat template."""
        if self.reasoning_effort is None:
            return self.chat_template_kwargs
        return {"reasoning_effort": self.reasoning_effort, **(self.chat_template_kwargs or {})}

    @property
    def requested_max_tokens(self) -> int | None:
        """None: as many as the context holds. Raises `InvalidParameterError`."""
        # Under the name that the client wrote; and an answer of no token is no message.
        name = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        requested: int | None = getattr(self, name)
        if requested is not None:
            check_number(name, requested, 1, 2**31 - 1, is_whole=True)
        return requested

    @property
    def requested_logprobs(self) -> int | None:
        """How many alternatives per token, or None. Raises `ApiError` for a contradiction."""
        if not self.logprobs:
            if self.top_logprobs:
                raise invalid_value(
                    "top_logprobs",
                    f"top_logprobs is {self.top_logprobs}; it is only allowed with logprobs: true.",
                )
            return None
        count = self.top_logprobs or 0
        if not 0 <= count <= MAX_LOGPROBS:
            raise invalid_value(
                "top_logprobs", f"top_logprobs is {count}; it must lie in [0, {MAX_LOGPROBS}]."
            )
        return count


class CompletionRequest(GenerationRequest):
    """`POST /v1/completions`. `prompt` is checked by hand: it may hold 100,000 token ids."""

    prompt: Any
    logprobs: Whole | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: Whole | None = None

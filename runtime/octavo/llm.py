"""Offline inference: `from octavo import LLM, SamplingParams`.

The same scheduler, KV cache and kernels as the server's, driven in the caller's process without sockets.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from octavo import model_source
from octavo.beam_search import BeamSearch, BeamSearchParams
from octavo.config import EngineConfig
from octavo.draft_source import with_draft_model
from octavo.end_tokens import find_end_tokens
from octavo.engine.debugging import is_debugging
from octavo.engine.grammars.trial import GrammarTrial
from octavo.engine.grammars.tried import TriedGrammars
from octavo.engine.messages import EngineStats
from octavo.engine_keywords import EngineKeywords
from octavo.errors import ModelUnsupportedError, OctavoError
from octavo.generation_config import AUTO, choose_sampling_defaults
from octavo.llm_inputs import Message, Prompt, as_conversations, as_pairs, as_prompts, one_each
from octavo.loading.pooling import check_last_token
from octavo.loading.text_options import read_text_options
from octavo.lora import Adapters, LoadedAdapters, LoRARequest, adapter_of_each
from octavo.no_head import no_head
from octavo.offline_requests import OfflineRequests, TextRequest
from octavo.openmp import brief_spinning
from octavo.options import read_options
from octavo.outputs import (
    EmbeddingOutput,
    RequestOutput,
    ScoringOutput,
    ScoringRequestOutput,
)
from octavo.sampling_params import SamplingParams
from octavo.sleep_level import read_sleep_level
from octavo.tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from octavo.engine.core import EngineCore


class LLM:
    """A model in this process. Not thread-safe: one call at a time.

    Ctrl-C ends a call between two steps of the engine, and the object is as good as before.

    Args:
        model: `builtin://demo`, `hf://org/name[@revision]`, `org/name`, `s3://bucket/prefix` or a folder.
        download_dir: Where downloads are kept; None is the Hugging Face cache.
        revision: Branch, tag or commit of a hub model.
        chat_template: Overrides the model's: a path to a Jinja file, the name of one of the
            model's, or the template itself.
        generation_config: Where sampling defaults come from: `auto` is the model's own
            generation_config.json, `none` is `SamplingParams()`, anything else a folder that holds one.
        options: The fields of `EngineConfig`, with its defaults; `octavo serve --help` tells them too.

    Raises:
        OctavoError: Of the kind that says why the model cannot be run (`ModelNotFoundError`,
            `OutOfMemoryError`, `InvalidConfigurationError`, …).

    Example:
        >>> with LLM("builtin://demo") as llm:
        ...     question = {"role": "user", "content": "What is Octavo?"}
        ...     outputs = llm.chat([question], SamplingParams(max_tokens=64))
        ...     print(outputs[0].outputs[0].text)
    """

    def __init__(
        self,
        model: str,
        *,
        download_dir: Path | str | None = None,
        revision: str | None = None,
        chat_template: str | None = None,
        generation_config: str = AUTO,
        **options: Unpack[EngineKeywords],
    ) -> None:
        engine_options = read_options(EngineConfig, options)
        folder = model_source.resolve(
            model,
            download_dir=None if download_dir is None else Path(download_dir),
            revision=revision,
        )
        self._sampling_defaults = choose_sampling_defaults(folder, generation_config)
        config = with_draft_model(
            EngineConfig(model=str(folder), **engine_options),
            download_dir=None if download_dir is None else Path(download_dir),
        )
        # Imported here, because this is where torch comes in, unless the caller has loaded it.
        with brief_spinning():
            from octavo.engine.core import EngineCore
            from octavo.worker.start.create import create_executor
        self._folder = folder
        self._tokenizer = load_tokenizer(folder, chat_template)
        self._end_token_ids = find_end_tokens(folder, generation_config, self._tokenizer)
        self._core: EngineCore | None = EngineCore(
            config,
            create_executor(config, lambda phase: None),
            is_debugging=is_debugging(os.environ),
        )
        trial = GrammarTrial(folder, self._core.info.vocab_size, num_lanes=1)
        self._requests = OfflineRequests(
            self._tokenizer, self._end_token_ids, TriedGrammars(self._core.grammars, trial)
        )
        self._adapters = LoadedAdapters()

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        priority: int | Sequence[int] = 0,
        lora_request: Adapters = None,
    ) -> list[RequestOutput]:
        """Completes every prompt, batched continuously; outputs come in the order of the prompts.

        Args:
            prompts: One prompt or many, each a text, token ids, or a dictionary that holds one of them as
                `prompt` or `prompt_token_ids`.
            sampling_params: For all prompts, or one each; None is `get_default_sampling_params()`.
            priority: For all prompts, or one each; lower runs first, equal ones in order.
            lora_request: An adapter for all prompts, or one each; None is the model alone.

        Raises:
            InvalidParameterError: An argument is not of its kind, or a prompt is empty or too long;
                nothing was run then.
            OctavoError: A step of the engine failed, or an adapter cannot be had (of the kind that says why).
        """
        tokenized = [self._tokenize(prompt) for prompt in as_prompts(prompts)]
        return self._run(tokenized, sampling_params, priority, lora_request)

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool | None = None,
        continue_final_message: bool = False,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        priority: int | Sequence[int] = 0,
        lora_request: Adapters = None,
    ) -> list[RequestOutput]:
        """Answers one conversation, or each of several, through the model's chat template.

        Args:
            messages: As the server takes them; arguments of tool calls may also be the value itself.
            add_generation_prompt: None is what `chat_template_kwargs` says, else true.
            continue_final_message: The answer goes on with the last message, which is an assistant's.
            chat_template_kwargs: More variables for the template.

        Raises: as `generate`; `InvalidParameterError` also when the model has no chat template, or it
            leaves out a part of the conversation.
        """
        info = self._engine().executor_info
        if not info.can_generate:
            raise no_head("score" if info.gives_scores else "embed")
        prompts: list[tuple[str | None, list[int]]] = []
        for conversation in as_conversations(messages):
            token_ids = self._tokenizer.encode_chat(
                conversation,
                tools=tools,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                template_kwargs=chat_template_kwargs,
            )
            text = self._tokenizer.decode(token_ids, skip_special_tokens=False)
            prompts.append((text, token_ids))
        return self._run(prompts, sampling_params, priority, lora_request)

    def beam_search(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: BeamSearchParams | None = None,
        *,
        lora_request: Adapters = None,
    ) -> list[RequestOutput]:
        """The most probable completions of every prompt that a beam search finds, best first.

        All beams of all prompts run in one batch per token, each a request of its own. It shares the full
        blocks of its prefix in the prefix cache, copies the last, partial one that its parent left there, and
        computes one token. Without prefix caching each token recomputes its beam's whole prefix.

        Raises: as `generate`.
        """
        params = params or BeamSearchParams()
        tokenized = [self._tokenize(prompt) for prompt in as_prompts(prompts)]
        searches = [
            BeamSearch(
                params, self._end_token_ids, room=max(1, self.max_model_len - len(token_ids))
            )
            for _, token_ids in tokenized
        ]
        adapters = adapter_of_each(lora_request, len(tokenized))
        while running := [i for i, search in enumerate(searches) if not search.is_done]:
            self._extend_beams([(tokenized[i][1], searches[i], adapters[i]) for i in running])
        return [
            search.to_output(self._requests.next_id(), text, token_ids, self._tokenizer.decode)
            for (text, token_ids), search in zip(tokenized, searches, strict=True)
        ]

    def embed(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        lora_request: Adapters = None,
        prompt_name: str | None = None,
    ) -> list[EmbeddingOutput]:
        """The embedding of every prompt.

        A decoder's is the last hidden state at its last token, which is what those that were trained to embed
        use (Qwen3-Embedding, E5-Mistral), of length 1 unless a modules.json leaves `Normalize` out. An
        encoder's, and of a decoder without a head another pooling, is what modules.json says. Texts
        that are too long are refused, and never cut.

        Args:
            prompts: As `generate` takes them.
            lora_request: An adapter for all of them, or one each.
            prompt_name: Which of the prompts that the model's folder names (`query`, `document`) stands
                before the texts, as sentence-transformers' `encode` has it; None: the folder's default, if it
                has one. Token ids are taken as they are.

        Raises: as `generate`; `InvalidParameterError` for a name that the folder does not have;
            `ModelUnsupportedError` also when the model's folder asks for another vector, or the model scores.
        """
        info = self._engine().executor_info
        if info.gives_scores:
            raise ModelUnsupportedError(
                "The model scores pairs (ForSequenceClassification) and gives no embedding. Use score, or a "
                "model that was trained to embed."
            )
        if not info.runs_whole_prompts:
            check_last_token(self._folder)
        options = read_text_options(self._folder)
        before = options.prompt(prompt_name)
        given = as_prompts(prompts)
        adapters = self._adapters.ids_of(lora_request, len(given), self._engine())
        requests = [
            self._requests.pooled(
                self._tokenize(
                    options.prepared(prompt, before) if isinstance(prompt, str) else prompt
                )[1],
                adapter_id=adapter_id,
            )
            for prompt, adapter_id in zip(given, adapters, strict=True)
        ]
        return [
            EmbeddingOutput(
                request.request_id, request.prompt_token_ids, row[: options.truncate_dim]
            )
            for request, row in zip(
                requests, self._requests.pool(self._engine(), requests), strict=True
            )
        ]

    def score(
        self, text_1: str | Sequence[str], text_2: str | Sequence[str]
    ) -> list[ScoringRequestOutput]:
        """What a cross-encoder says of every pair: as a reranker takes it, of a query and each document.

        Args:
            text_1: The query: one for all of `text_2`, or one each.
            text_2: The documents.

        Raises: as `generate`; `ModelUnsupportedError` also when the model does not score.
        """
        if not self._engine().executor_info.gives_scores:
            raise ModelUnsupportedError(
                "The model does not score pairs: its architecture is none that ends in "
                "ForSequenceClassification. Use a cross-encoder, or compare what embed gives."
            )
        requests = [
            self._requests.pooled(*self._tokenizer.encode_pair(first, second))
            for first, second in as_pairs(text_1, text_2)
        ]
        return [
            ScoringRequestOutput(request.request_id, request.prompt_token_ids, ScoringOutput(score))
            for request, (score,) in zip(
                requests, self._requests.pool(self._engine(), requests), strict=True
            )
        ]

    def get_default_sampling_params(self) -> SamplingParams:
        """`SamplingParams()` with what the model's publisher recommends in its place."""
        return self._sampling_defaults.params()

    def get_tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @property
    def max_model_len(self) -> int:
        """Longest sequence in tokens, prompt plus output."""
        return self._engine().max_model_len

    @property
    def stats(self) -> EngineStats:
        """Counters of the engine, and what it holds."""
        return self._engine().stats()

    def sleep(self, level: int = 1) -> None:
        """Gives memory back until `wake_up`: of the KV cache, with all prefixes in it, and of the weights.

        Args:
            level: 1 keeps weights in the host's memory, where a CPU has them anyway; 2 drops them, and they
                are read from the model's files again.

        Raises:
            InvalidParameterError: There is no such level.
            InvalidConfigurationError: The object was made without `enable_sleep_mode=True`.
        """
        self._engine().sleep(read_sleep_level(level))

    def wake_up(self) -> None:
        """Undoes `sleep`: answers are what they were. Raises as the constructor."""
        self._engine().wake_up()

    def shutdown(self) -> None:
        """Gives the model's memory back; the object is of no more use. Safe to repeat."""
        self._core = None
        self._requests.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    def _run(
        self,
        prompts: Sequence[tuple[str | None, list[int]]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        priority: int | Sequence[int] = 0,
        lora_request: Adapters = None,
    ) -> list[RequestOutput]:
        core, count = self._engine(), len(prompts)
        params = self.get_default_sampling_params() if sampling_params is None else sampling_params
        adapters = self._adapters.ids_of(lora_request, count, core)
        given = [
            TextRequest(text, token_ids, sampling, rank, adapter_id)
            for (text, token_ids), sampling, rank, adapter_id in zip(
                prompts,
                one_each("sampling_params", params, SamplingParams, count),
                one_each("priority", priority, int, count),
                adapters,
                strict=True,
            )
        ]
        return self._requests.complete(core, given)

    def _extend_beams(
        self, searches: Sequence[tuple[list[int], BeamSearch, LoRARequest | None]]
    ) -> None:
        """One more token for every live beam of these (prompt, search, adapter)."""
        prefixes = [
            (None, [*prompt, *beam.token_ids])
            for prompt, search, _ in searches
            for beam in search.live
        ]
        adapters = [adapter for _, search, adapter in searches for _ in search.live]
        sampling = SamplingParams(
            temperature=0.0, max_tokens=1, logprobs=searches[0][1].num_candidates
        )
        outputs = iter(self._run(prefixes, sampling, lora_request=adapters))
        for _, search, _ in searches:
            found = []
            for _ in search.live:
                (candidates,) = next(outputs).outputs[0].logprobs or [{}]
                found.append({token: entry.logprob for token, entry in candidates.items()})
            search.advance(found)

    def _engine(self) -> EngineCore:
        if self._core is None:
            raise OctavoError("This LLM was shut down; make a new one.")
        return self._core

    def _tokenize(self, prompt: str | list[int]) -> tuple[str | None, list[int]]:
        if isinstance(prompt, str):
            return prompt, self._tokenizer.encode(prompt)
        return None, prompt

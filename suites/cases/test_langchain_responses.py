"""LangChain's standard suite for chat models, through `langchain-openai`, over the responses API."""

from __future__ import annotations

from typing import Any

from suites.cases import test_langchain_chat as chat


class TestResponses(chat.TestChatCompletions):
    """The same cases, whose requests go to `/v1/responses`."""

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**super().chat_model_params, "use_responses_api": True}

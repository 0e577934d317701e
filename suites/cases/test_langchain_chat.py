"""LangChain's standard suite for chat models, through `langchain-openai`, over chat completions."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

from suites.cases.server import API_KEY, MODEL, url


class TestChatCompletions(ChatModelIntegrationTests):
    """What is declared is what the demo model can be asked for: text, tools, structured output."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": MODEL,
            "base_url": url(),
            "api_key": API_KEY,
            "temperature": 0,
            "stream_usage": True,
            "use_responses_api": False,
        }

    @property
    def supports_json_mode(self) -> bool:
        return True

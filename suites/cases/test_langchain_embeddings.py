"""LangChain's standard suite for embeddings, through `langchain-openai`."""

from __future__ import annotations

from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_openai import OpenAIEmbeddings
from langchain_tests.integration_tests import EmbeddingsIntegrationTests

from suites.cases.server import API_KEY, ENCODER, encoder_url


class TestEmbeddings(EmbeddingsIntegrationTests):
    """Texts are sent as texts: the tokens of OpenAI's own models mean nothing to another model."""

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {
            "model": ENCODER,
            "base_url": encoder_url(),
            "api_key": API_KEY,
            "check_embedding_ctx_length": False,
        }

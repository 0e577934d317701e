from __future__ import annotations

import asyncio

import kopf
import pytest
from kubernetes.aio.client import Configuration

from octavo_operator.manifest import POD
from octavo_operator.watches import Watches
from octavo_operator.watching import Logins


def test_a_login_that_was_refused_is_not_tried_for_ever_and_a_fresh_one_is() -> None:
    async def scenario() -> None:
        now, token = 0.0, "first"

        async def load() -> Configuration:
            configuration = Configuration(host="https://127.0.0.1:6443")
            configuration.api_key = {"BearerToken": f"Bearer {token}"}
            return configuration

        logins = Logins(load, Watches([POD], []), lambda: now)

        async def headers() -> str:
            session = (await logins.session()).aiohttp_session
            await session.close()
            return session.headers["Authorization"]

        assert await headers() == "Bearer first"
        with pytest.raises(kopf.PermanentError, match="refuses the login"):
            await logins.session()
        token = "second"
        assert await headers() == "Bearer second"
        now += 61
        assert await headers() == "Bearer second"

    asyncio.run(scenario())

"""Request statistics. What is measured of one HTTP request while it is answered: latencies and ends for the
metrics, the tokens that its key is charged, and the line in the log that tells of it.
"""

from __future__ import annotations

import time

import structlog

from octavo.engine.requests.output_processor import Delta, RequestState
from octavo.errors import InvalidParameterError
from octavo.server.http.key_use import charge, current_use
from octavo.server.openai.answers import Usage
from octavo.server.process.request_metrics import RequestMetrics
from octavo.server.process.timeline import Timeline

log = structlog.get_logger("octavo.server")


class RequestStats:
    """Of the choices of one request; made where it came in, whose key is then the current one.

    Args:
        arrival: When the request was there (`time.time()`), as all times here.
    """

    def __init__(
        self, metrics: RequestMetrics, request_id: str, num_choices: int, arrival: float
    ) -> None:
        self._metrics = metrics
        self._request_id = request_id
        self._num_choices = num_choices
        self._arrival = arrival
        self._key_use = current_use()
        self._timelines: dict[int, Timeline] = {}
        self._finish_reasons: dict[int, str] = {}
        self._queue_seconds: float | None = None
        self._first_token_seconds: float | None = None

    def observe(self, choice: int, delta: Delta, state: RequestState, now: float) -> None:
        """What arrived of a choice of the prompt that is `state`."""
        metrics = self._metrics
        timeline = self._timelines.get(choice)
        if timeline is None:
            timeline = self._timelines[choice] = self._begin_timeline(delta, state)
            self.observe_first_token(now)
            timeline.first_token_at = now
            if len(delta.token_ids) > 1:
                metrics.inter_token_latency.observe(0.0, len(delta.token_ids) - 1)
            if (queue_seconds := timeline.queue_seconds) is not None:
                metrics.queue_time.observe(queue_seconds)
                self._queue_seconds = max(self._queue_seconds or 0.0, queue_seconds)
        elif delta.token_ids and timeline.last_token_at is not None:
            count = len(delta.token_ids)
            metrics.inter_token_latency.observe((now - timeline.last_token_at) / count, count)
        timeline.last_token_at = now
        timeline.num_tokens += len(delta.token_ids)
        if delta.finish_reason is not None:
            self.count_finished(choice, delta.finish_reason.value)
            metrics.observe_sequence(timeline)

    def observe_first_token(self, now: float) -> None:
        """Of a choice, or of all where they come together."""
        seconds = now - self._arrival
        self._metrics.time_to_first_token.observe(seconds)
        self._first_token_seconds = self._first_token_seconds or seconds

    def count_finished(self, choice: int, reason: str) -> None:
        self._finish_reasons[choice] = reason
        self._metrics.count_finished(reason)

    def report(self, usage: Usage, error: BaseException | None, *, is_cancelled: bool) -> None:
        """At the request's end: counts what did not finish, charges its key and writes the log's line.

        Args:
            error: What ended it early.
            is_cancelled: The client hung up, whatever the error.
        """
        seconds = time.time() - self._arrival
        self._metrics.request_duration.observe(seconds)
        unfinished = "abort" if error is None or is_cancelled else "error"
        total = usage.prompt_tokens + usage.completion_tokens
        if isinstance(error, InvalidParameterError):  # the client's mistake, no end of a sequence
            unfinished = "refused"
            total = total if self._timelines else 0
        else:
            for _ in range(self._num_choices - len(self._finish_reasons)):
                self._metrics.count_finished(unfinished)
        key = charge(self._key_use, total, self._metrics)
        reasons = {*self._finish_reasons.values()}
        if len(self._finish_reasons) < self._num_choices:
            reasons.add(unfinished)
        log.info(
            "request",
            request_id=self._request_id,
            **key,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.prompt_tokens_details.cached_tokens,
            completion_tokens=usage.completion_tokens,
            choices=self._num_choices,
            finish_reason=",".join(sorted(reasons)),
            queue_seconds=_rounded(self._queue_seconds),
            first_token_seconds=_rounded(self._first_token_seconds),
            seconds=_rounded(seconds),
        )

    def _begin_timeline(self, delta: Delta, state: RequestState) -> Timeline:
        return Timeline(
            self._arrival,
            len(state.prompt_token_ids),
            n=state.sampling.n,
            max_tokens=state.sampling.max_tokens,
            num_cached_tokens=delta.num_cached_tokens,
            scheduled_at=delta.first_scheduled_time,
        )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)

"""Step failures. Tells an engine that no longer works from one that was sent requests that it cannot run.

A step that fails ends its own requests and nothing else, so that one bad request cannot take the engine
away from the others. But an engine whose device or memory is spoilt fails every step, and would go on
failing whatever it is sent for ever. Counting failures cannot tell the two apart: a client that repeats a
bad request while nobody else asks looks the same. So after a few failures without a success between them
the engine runs a request of its own (`self_test`) before any other: when that succeeds, the requests were
at fault and the count begins anew. When it fails, requests wait and the test is repeated, because nobody
sends requests to an engine that is not ready, until it succeeds or the engine ends and is started afresh.
"""

from __future__ import annotations

from octavo.errors import DeviceFaultError

SUSPECT_AFTER = 3
"""Failed steps without a success after which the engine tests itself and is not ready."""
END_AFTER = 10
"""Failed steps, tests included, without a success after which the engine ends."""


class StepFailures:
    """Counts failed steps since something last succeeded: a completion that ended well, or a self-test.

    A step that succeeds is not enough: an engine that reads prompts and fails at every token after them
    would never be found out.
    """

    def __init__(self) -> None:
        self.count = 0

    @property
    def is_suspect(self) -> bool:
        """The next step should be a self-test."""
        return self.count >= SUSPECT_AFTER

    @property
    def should_pause(self) -> bool:
        """A self-test failed: the next one should wait, for what is wrong may pass (memory, say)."""
        return self.count > SUSPECT_AFTER

    def count_success(self) -> None:
        self.count = 0

    def count_failure(self, error: Exception) -> None:
        """Raises `DeviceFaultError` when it was one too many."""
        self.count += 1
        if self.count >= END_AFTER:
            raise DeviceFaultError(
                f"{self.count} steps failed and none succeeded, nor did the engine's own tests; the last "
                f"failed with {type(error).__name__}: {error}"
            ) from error

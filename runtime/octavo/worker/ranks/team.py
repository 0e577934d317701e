"""Team of rank processes, as the first rank holds it: it spawns them, sends them steps, and says what became
of one that died, hangs or never came.

All end together: a rank that is gone leaves the others in a sum that never comes, and the KV cache is in
parts on all of them. So the first failure ends every process of the team, in a bounded time, also one that is
stopped.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from octavo.errors import DeviceFaultError, InvalidConfigurationError, OctavoError, start_error
from octavo.openmp import spin_variables
from octavo.sleep_level import SleepLevel
from octavo.torch_logs import log_variables
from octavo.worker.ranks.commands import Kind, pack_adapter, pack_command, pack_sleep
from octavo.worker.ranks.frames import LENGTH_BYTES
from octavo.worker.ranks.group import GroupRanks, RankLostError
from octavo.worker.ranks.messages import (
    LOAD_SECONDS,
    Arrived,
    Assignment,
    Failed,
    Loaded,
    MeetingFile,
    Report,
)

LAST_WORDS_SECONDS = 3.0
"""That a rank has to say why it ends."""
_T = TypeVar("_T", bound=Arrived | Loaded)
_R = TypeVar("_R")


class Member:
    """One rank's process.

    Args:
        rank: Its number.
        name: Which of how many, and where.
        meeting: Descriptor that the process has, too, by the same number.
    """

    def __init__(self, rank: int, name: str, meeting: int) -> None:
        self.name = name
        self.rank = rank
        self.process = subprocess.Popen(
            (sys.executable, "-P", "-m", "octavo.worker.ranks.process"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            pass_fds=(meeting,),
            env=os.environ | spin_variables(os.environ) | log_variables(os.environ),
        )
        self.lifeline = os.pidfd_open(self.process.pid)
        self._reports: queue.Queue[Report | None] = queue.Queue()
        self._last: list[Failed | None] = []
        os.set_blocking(self._commands, False)
        self._listener = threading.Thread(target=self._listen, name=self.name, daemon=True)
        self._listener.start()

    def send(self, data: bytes, deadline: float) -> None:
        """Raises `OSError` when the process is gone, TimeoutError when it does not read until then."""
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._commands, left) :]
            except BlockingIOError:
                wait = max(deadline - time.monotonic(), 0.0)
                if not select.select((), (self._commands,), (), wait)[1]:
                    raise TimeoutError(f"{self.name} reads nothing") from None

    def next_report(self, deadline: float) -> Report | None:
        """None: it has ended. Raises TimeoutError."""
        if self._last:
            return self._last[0]
        try:
            report = self._reports.get(timeout=max(deadline - time.monotonic(), 0.0))
        except queue.Empty:
            raise TimeoutError from None
        if report is None or isinstance(report, Failed):
            self._last.append(report)
        return report

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._listener.join()
        os.close(self.lifeline)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def _commands(self) -> int:
        assert self.process.stdin is not None  # noqa: S101 - it was asked for
        return self.process.stdin.fileno()

    def _listen(self) -> None:
        decoder = msgspec.json.Decoder(Report)
        assert self.process.stdout is not None  # noqa: S101 - it was asked for
        for line in self.process.stdout:
            self._reports.put(decoder.decode(line))
        self._reports.put(None)


class Team:
    """The processes of ranks that this one spawns.

    Args:
        ranks: Theirs.
        name_of: Which of how many a rank is, and where.
        timeout_seconds: That a step waits for a rank.
    """

    def __init__(
        self, ranks: Sequence[int], name_of: Callable[[int], str], timeout_seconds: float
    ) -> None:
        self._timeout_seconds = timeout_seconds
        # In memory, without a name: whoever is killed leaves nothing behind.
        self._meeting = os.memfd_create("octavo-ranks")
        self._failure: str | None = None
        self._reason = OctavoError.reason
        self._asks_who_hears = False
        self._group: GroupRanks | None = None
        members: list[Member] = []
        self._closing: list[Callable[[], None]] = []
        self._end = weakref.finalize(self, _end_all, members, self._meeting, self._closing)
        members.extend(Member(rank, name_of(rank), self._meeting) for rank in ranks)
        self.members: Sequence[Member] = members

    def use(self, group: GroupRanks) -> None:
        """That all ranks have joined."""
        self._group = group

    @property
    def meeting_file(self) -> MeetingFile:
        """For each of the processes."""
        return MeetingFile(f"/proc/self/fd/{self._meeting}")

    @property
    def lifelines(self) -> tuple[int, ...]:
        """Descriptors that become readable when a process ends."""
        return tuple(member.lifeline for member in self.members)

    def before_end(self, act: Callable[[], None]) -> None:
        """Done when the team ends, while its processes and descriptors are still there."""
        self._closing.append(act)

    def wait_on_devices(self) -> None:
        """Ranks wait for each other on their GPUs from now on: a process whose rank waits says nothing."""
        self._asks_who_hears = True

    def end(self) -> None:
        """Ends all processes at once. Safe to repeat."""
        self._end()

    def end_with(self, error: BaseException) -> None:
        """As `end`, where whoever is elsewhere is told why."""
        if self._failure is None and isinstance(error, OctavoError):
            self._reason = error.reason
        self._failure = self._failure or str(error)
        self.end()

    def assign(self, assignment_of: Callable[[int], Assignment]) -> None:
        """Raises as `wait_for`."""
        for member in self.members:
            line = msgspec.json.encode(assignment_of(member.rank)) + b"\n"
            try:
                member.send(line, self._deadline())
            except OSError as error:  # TimeoutError too
                raise self.failure(str(error)) from error

    def wait_for(self, kind: type[_T], seconds: float) -> list[_T]:
        """One such report of each.

        Raises the error that a rank failed with, or `OctavoError` where one has ended or does not come.
        """
        deadline = time.monotonic() + seconds
        found: list[_T] = []
        for member in self.members:
            try:
                report = member.next_report(deadline)
            except TimeoutError:
                raise OctavoError(
                    f"{member.name} is not there after {seconds:g} s; its log may say why."
                ) from None
            if not isinstance(report, kind):
                raise self._start_error(member, report)
            found.append(report)
        return found

    def send_step(self, frame: bytes) -> None:
        """Raises `DeviceFaultError` when a rank is gone or does not read; all have ended then. What was the
        first failure is told again whenever a step is sent after it."""
        self._send(pack_command(Kind.STEP, frame))

    def sleep(self, level: SleepLevel) -> None:
        """Raises as `send_step`."""
        self._send(pack_sleep(level))

    def wake_up(self) -> None:
        """Raises as `send_step`."""
        self._send(pack_command(Kind.WAKE_UP))

    def wait_until_awake(self) -> None:
        """Raises as `wait_for`."""
        self.wait_for(Loaded, LOAD_SECONDS)

    def add_adapter(self, adapter_id: int, folder: str) -> None:
        """As `HoldsAdapters`, after this rank has it. Raises `InvalidConfigurationError` where another rank
        cannot read it, and as `send_step`."""
        self._send(pack_adapter(Kind.ADD_ADAPTER, adapter_id, folder))
        if not self._together(lambda group: group.least(1, LOAD_SECONDS)):
            self.remove_adapter(adapter_id)
            raise InvalidConfigurationError(
                f"{folder} holds an adapter that another rank of the model cannot read; its log says why. "
                "All nodes need the same files in the same folder."
            )

    def remove_adapter(self, adapter_id: int) -> None:
        """Raises as `send_step`."""
        self._send(pack_adapter(Kind.REMOVE_ADAPTER, adapter_id))

    def _together(self, act: Callable[[GroupRanks], _R]) -> _R:
        if self._failure is not None:
            raise DeviceFaultError(self._failure)
        if self._group is None:
            raise OctavoError("The ranks have not met yet.")
        try:
            return act(self._group)
        except RankLostError as error:
            raise self.failure(str(error)) from error

    def _send(self, frame: bytes) -> None:
        if self._failure is not None:
            raise DeviceFaultError(self._failure)
        data = len(frame).to_bytes(LENGTH_BYTES, "little") + frame
        for member in self.members:
            try:
                member.send(data, self._deadline())
            except OSError as error:  # TimeoutError too
                raise self.failure(str(error)) from error

    def failure(self, otherwise: str) -> DeviceFaultError:
        """What to raise when another rank is lost; ends all processes. Of several it is the first.

        Args:
            otherwise: The message where it is not known which.
        """
        return self.fail(self._failure or self._diagnosis() or otherwise)

    def fail(self, message: str) -> DeviceFaultError:
        """As `failure`, when this rank failed."""
        self.end()
        self._failure = self._failure or message
        return DeviceFaultError(self._failure)

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout_seconds

    def start_failure(self) -> OctavoError | None:
        """What the first rank's process that has ended failed with; None: nobody has, or only for others."""
        deadline = time.monotonic() + LAST_WORDS_SECONDS
        for member in self.members:
            with contextlib.suppress(TimeoutError):
                report = last_report(member, deadline)
                if report is None or not report.is_lost:
                    return self._start_error(member, report)
        return None

    def _ask_to_quit(self) -> None:
        frame = pack_command(Kind.QUIT)
        data = len(frame).to_bytes(LENGTH_BYTES, "little") + frame
        for member in self.members:
            with contextlib.suppress(OSError):  # it is gone, or reads nothing
                member.send(data, time.monotonic())

    def _start_error(self, member: Member, report: Report | None) -> OctavoError:
        if isinstance(report, Failed):
            return start_error(report.reason, f"{member.name}: {report.message}")
        return OctavoError(f"{member.name} {ending(member)}")

    def _diagnosis(self) -> str | None:
        """Who was first: killed, failed by itself, or silent while others waited for it."""
        if self._asks_who_hears:
            self._ask_to_quit()
        deadline = time.monotonic() + LAST_WORDS_SECONDS
        killed, failed, silent = [], [], []
        for member in self.members:
            try:
                report = last_report(member, deadline)
            except TimeoutError:
                silent.append(
                    f"{member.name} (process {member.process.pid}) did not answer within "
                    f"{self._timeout_seconds:g} s (--distributed-timeout-seconds)."
                )
                continue
            if report is None:
                killed.append(f"{member.name} {ending(member)}")
            elif not report.is_lost:
                failed.append(f"{member.name} failed: {report.message}")
        return next((found[0] for found in (killed, failed, silent) if found), None)


def last_report(member: Member, deadline: float) -> Failed | None:
    """None: it said nothing. Raises TimeoutError for one that has not ended."""
    while (report := member.next_report(deadline)) is not None:
        if isinstance(report, Failed):
            return report
    return None


def ending(member: Member) -> str:
    """How a process that says no more has ended."""
    try:
        status = member.process.wait(LAST_WORDS_SECONDS)
    except subprocess.TimeoutExpired:
        return "has closed its pipe and hangs."
    if status >= 0:
        return f"ended with exit status {status}; its log says why."
    name = signal.Signals(-status).name
    hint = " Most likely it ran out of memory: raise the limit." if name == "SIGKILL" else ""
    return f"was ended by {name}.{hint}"


def _end_all(members: list[Member], meeting: int, closing: list[Callable[[], None]]) -> None:
    for act in closing:
        act()
    closing.clear()
    for member in members:
        member.end()
    members.clear()
    os.close(meeting)

"""Program: a kernel as PTX text, taken apart: what its parameters are and what its instructions do, in order.

Only the part of the language that Triton writes is understood (PTX ISA 8.8, chapters 4, 5 and 7): one
entry function, registers, inline assembly in braces, global constants are never read.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

import numpy as np

_WIDTHS = {"pred": 1, "8": 8, "16": 16, "32": 32, "64": 64}
SHARED_WINDOW = (
    1024  # Where a block's shared memory begins; Hopper keeps what is before for itself.
)


@dataclass(frozen=True, slots=True)
class Register:
    """`bits` is 1 for a predicate; `negated` is `!%p`."""

    name: str
    bits: int
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Special:
    """A register that the machine sets, such as `%tid.x`."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """The bits of a number; of a floating-point one, those of its own width."""

    bits: int

    def of(self, dtype: np.dtype) -> np.ndarray:
        if dtype == np.bool_:
            return np.array(self.bits != 0)
        width = dtype.itemsize
        return np.frombuffer((self.bits % (1 << 8 * width)).to_bytes(width, "little"), dtype)[0:1]


@dataclass(frozen=True, slots=True)
class Vector:
    """`{%r1, %r2}`; None stands for `_`."""

    parts: tuple[Operand | None, ...]


@dataclass(frozen=True, slots=True)
class Address:
    """`[%rd1+16]`; the base of a parameter is its name."""

    base: Operand | str
    offset: int


Operand = Register | Special | Constant | Vector | Address


@dataclass(frozen=True, slots=True)
class Instruction:
    """`@guard opcode.modifiers operands`; a branch's target is in `target`."""

    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[Operand | None, ...]
    guard: Register | None
    target: str | None
    text: str
    line: int

    @property
    def type(self) -> str:
        """The last modifier, which names the type that is worked on."""
        return self.modifiers[-1]


@dataclass(frozen=True, slots=True)
class Program:
    """Labels are indices into `instructions`; parameters are pairs of name and type (`u64`, `f32`)."""

    name: str
    parameters: tuple[tuple[str, str], ...]
    num_threads: int
    instructions: tuple[Instruction, ...]
    labels: dict[str, int]


@dataclass
class _Scope:
    """Registers that a pair of braces declares: single names, and prefixes of numbered ones."""

    widths: dict[str, int] = field(default_factory=dict)

    def declare(self, statement: str) -> None:
        kind, names = statement.removeprefix(".reg").strip().split(None, 1)
        bits = _WIDTHS[re.sub(r"^\.[bsuf](?=\d)|^\.", "", kind)]
        for name in names.split(","):
            prefix, _, count = name.strip().partition("<")
            if count:
                for index in range(int(count.rstrip(">"))):
                    self.widths[f"{prefix}{index}"] = bits
            else:
                self.widths[prefix] = bits


def parse(text: str) -> Program:
    """Raises ValueError or NotImplementedError; an unknown instruction is found when it is decoded."""
    lines = [line.split("//")[0] for line in text.splitlines()]
    entry = next(index for index, line in enumerate(lines) if ".entry" in line)
    opening = next(index for index in range(entry, len(lines)) if lines[index].strip() == "{")
    head = " ".join(lines[entry:opening])
    name = re.search(r"\.entry\s+(\S+?)\s*\(", head)
    threads = re.search(r"\.(?:reqntid|maxntid)\s+(\d+)", head)
    if name is None or threads is None:
        raise ValueError(f"no entry function with a number of threads: {head}")
    parameters = tuple(
        (parameter, kind)
        for kind, parameter in re.findall(r"\.param\s+\.(\w+)[^,)]*?(\w+)\s*(?=[,)])", head)
    )
    body = _Body([], {}, [])
    pending = ""
    for number, line in enumerate(lines[opening:], opening + 1):
        if line.lstrip().startswith((".loc", ".file", ".pragma")):
            continue
        pending = body.take(f"{pending} {line.strip()}".strip(), number)
        if not body.scopes:
            return Program(
                name[1], parameters, int(threads[1]), tuple(body.instructions), body.labels
            )
    raise ValueError(f"{name[1]} does not end")


@dataclass
class _Body:
    """What has been read of a function; `scopes` are the braces that are open."""

    instructions: list[Instruction]
    labels: dict[str, int]
    scopes: list[_Scope]

    def take(self, text: str, line: int) -> str:
        """Reads all that is complete; returns the rest."""
        while text:
            label = re.match(r"([$\w]+):(?!:)\s*", text)
            if label:
                self.labels[label[1]] = len(self.instructions)
                text = text[label.end() :]
            elif text.startswith("{"):
                self.scopes.append(_Scope())
                text = text[1:].lstrip()
            elif text.startswith("}"):
                self.scopes.pop()
                text = text[1:].lstrip()
            elif ";" in text:
                statement, _, text = text.partition(";")
                text = text.lstrip()
                self._add(statement, line)
            else:
                return text
        return ""

    def _add(self, statement: str, line: int) -> None:
        if statement.startswith(".reg"):
            self.scopes[-1].declare(statement)
        elif statement.startswith("."):
            raise NotImplementedError(f"line {line}: {statement}")
        elif statement:
            self.instructions.append(_instruction(statement, line, self.scopes))


def _instruction(statement: str, line: int, scopes: list[_Scope]) -> Instruction:
    guard = None
    rest = statement
    if rest.startswith("@"):
        word, rest = rest[1:].split(None, 1)
        guard = _operand(word, scopes)
    opcode, _, tail = rest.strip().partition(" ") if " " in rest.strip() else (rest.strip(), "", "")
    opcode, *tabbed = opcode.split(None, 1)
    root, *modifiers = opcode.split(".")
    words = _split(" ".join([*tabbed, tail]))
    target = None
    if root == "bra":
        target, words = words[0], []
    operands = tuple(_operand(word, scopes) for word in words)
    if guard is not None and not isinstance(guard, Register):
        raise ValueError(f"line {line}: {statement}")
    return Instruction(root, tuple(modifiers), operands, guard, target, statement, line)


def _split(text: str) -> list[str]:
    """At the commas, and at `|`, outside of brackets."""
    words, depth, current = [], 0, ""
    for character in text:
        depth += (character in "{[") - (character in "}]")
        if character in ",|" and depth == 0:
            words.append(current.strip())
            current = ""
        else:
            current += character
    return [*words, current.strip()] if current.strip() else words


def _operand(word: str, scopes: list[_Scope]) -> Operand | None:
    if word == "_":
        return None
    if word.startswith("{"):
        return Vector(tuple(_operand(part, scopes) for part in _split(word[1:-1])))
    if word.startswith("["):
        base, _, offset = word[1:-1].replace(" ", "").partition("+")
        known = _operand(base, scopes) if not re.fullmatch(r"\w+_param_\d+", base) else base
        assert known is not None
        return Address(known, int(offset or "0", 0))
    name = word.removeprefix("!")
    for scope in reversed(scopes):
        if name in scope.widths:
            return Register(name, scope.widths[name], negated=word != name)
    if word.startswith("%"):
        return Special(word)
    return Constant(_bits(word))


def _bits(word: str) -> int:
    if word == "global_smem":
        return SHARED_WINDOW
    if re.match(r"0[fF][0-9a-fA-F]{8}$|0[dD][0-9a-fA-F]{16}$", word):
        return int(word[2:], 16)
    if re.match(r"-?\d+\.\d*$", word):
        return int.from_bytes(struct.pack("<f", float(word)), "little")
    return int(word.rstrip("U"), 0)

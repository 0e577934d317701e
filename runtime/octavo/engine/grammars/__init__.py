"""Grammars: which tokens may come next in a completion that must be a document of a schema or grammar.

llguidance parses and computes the masks; what is ours is where it gets its tokens from, when it works and
what it may take.
"""

from octavo.engine.grammars.compiled import CompiledGrammar
from octavo.engine.grammars.compiler import GrammarCompiler
from octavo.engine.grammars.queue import GrammarQueue

__all__ = ["CompiledGrammar", "GrammarCompiler", "GrammarQueue"]

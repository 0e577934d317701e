"""Parsing of a model's answer, whole or as it is streamed, into content, reasoning and tool calls.

One file for each format of calls; `answer.Markup` is what one model writes.
"""

from __future__ import annotations

import json

from octavo.outputs import Logprob
from octavo.server.openai.answers import (
    ChunkEncoder,
    End,
    Usage,
    UsageInStream,
    chat_logprobs,
)
from octavo.server.openai.logprobs import completion_logprobs


def test_a_chunk_is_valid_json_whatever_the_text() -> None:
    encoder = ChunkEncoder("text_completion", "x", 7, 'a"b', "fp_0", usage=UsageInStream.AT_END)
    chunk = encoder.choice(2, b'"text":' + json.dumps('"\n\u2028').encode(), End("stop", "a"), None)
    assert chunk.startswith(b"data: ")
    assert chunk.endswith(b"\n\n")
    assert chunk.count(b"\n") == 2
    assert json.loads(chunk[6:]) == {
        "id": "x",
        "object": "text_completion",
        "created": 7,
        "model": 'a"b',
        "system_fingerprint": "fp_0",
        "choices": [
            {
                "index": 2,
                "text": '"\n\u2028',
                "logprobs": None,
                "finish_reason": "stop",
                "stop_reason": "a",
            }
        ],
        "usage": None,
    }
    (choice,) = json.loads(encoder.choice(2, b'"text":""', None, None)[6:])["choices"]
    assert choice == {"index": 2, "text": "", "logprobs": None, "finish_reason": None}
    last = json.loads(encoder.end(Usage.of(3, 4, 1))[6:])
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 1},
    }


POSITION = {
    7: Logprob(-3.0, 3, "c", b"c"),  # sampled: comes first, ranks third
    5: Logprob(-0.1, 1, "é", "é".encode()),
    6: Logprob(-1.0, 2, "b", b"b"),
}


def test_the_sampled_token_is_shown_among_the_best_only_if_it_is_one() -> None:
    (token,) = chat_logprobs([POSITION], num_top=2)
    assert (token.token, token.logprob) == ("c", -3.0)
    assert [(top.token, top.bytes) for top in token.top_logprobs] == [
        ("é", [195, 169]),
        ("b", [98]),
    ]
    (bare,) = chat_logprobs([POSITION], num_top=0)
    assert bare.top_logprobs == []


def test_of_completions_the_sampled_token_is_always_among_the_best() -> None:
    both = completion_logprobs([POSITION, POSITION], num_top=1, text_offsets=[10, 11])
    assert both.tokens == ["c", "c"]
    assert both.text_offset == [10, 11]
    assert both.top_logprobs == [{"c": -3.0, "é": -0.1}] * 2
    assert completion_logprobs([POSITION], num_top=0, text_offsets=[0]).top_logprobs == [
        {"c": -3.0}
    ]


def test_parts_of_a_character_are_told_apart_by_their_bytes() -> None:
    parts = {
        number: Logprob(-1.0 - number, number + 1, "\ufffd", bytes([byte]))
        for number, byte in enumerate("😊".encode())
    }
    (token,) = chat_logprobs([parts], num_top=4)
    assert token.token == "\\xf0"
    assert bytes(byte for top in token.top_logprobs for byte in top.bytes).decode() == "😊"
    answer = completion_logprobs([parts], num_top=4, text_offsets=[0])
    assert answer.tokens == ["bytes:\\xf0"]
    assert len(answer.top_logprobs[0] or {}) == 4


def test_of_tokens_with_one_text_the_own_is_told() -> None:
    """A character and its byte, as vocabularies of SentencePiece have them both."""
    byte, character = Logprob(-2.0, 2, "A", b"A"), Logprob(-0.5, 1, "A", b"A")
    for own, other in ((byte, character), (character, byte)):
        answer = completion_logprobs([{1: own, 2: other}], num_top=2, text_offsets=[0])
        assert (answer.token_logprobs, answer.top_logprobs) == ([own.logprob], [{"A": own.logprob}])

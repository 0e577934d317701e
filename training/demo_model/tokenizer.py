"""Demo model's tokenizer: a byte-level BPE, so that no input is unknown and none is lost.

Digits are always single tokens, which lets a small model add. Merges are learnt from the training
mixture, so that an answer takes few steps.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from training.demo_model import arithmetic
from training.demo_model.off_topic import draw_off_topic
from training.demo_model.questions import load_questions
from training.demo_model.tool_tasks import draw_tool_task
from training.demo_model.variation import COMMON_WORDS, SYSTEM_PROMPTS, vary

CHAT_TEMPLATE_FILE = Path(__file__).with_name("chat_template.jinja")
VOCABULARY_SIZE = 1280

PAD, END, ASSISTANT = "<|pad|>", "<|end|>", "<|assistant|>"
SPECIAL_TOKENS = (PAD, END, "<|system|>", "<|user|>", ASSISTANT, "<|tool|>")
TOOL_INSTRUCTION = 'Call one with <tool_call>{"name": ..., "arguments": {...}}</tool_call>'
# Visible text to a client, yet one token each for the model.
TOOL_CALL_TOKENS = ("<tool_call>", "</tool_call>")


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Learns the vocabulary from the training tasks; the same seed gives the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    markers = [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    markers += [AddedToken(token, special=False, normalized=False) for token in TOOL_CALL_TOKENS]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(TOOL_CALL_TOKENS),
        special_tokens=markers[: len(SPECIAL_TOKENS)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(seed), trainer)
    tokenizer.add_tokens(markers[len(SPECIAL_TOKENS) :])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=list(SPECIAL_TOKENS[2:]),
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=2048,
        chat_template=CHAT_TEMPLATE_FILE.read_text(encoding="utf-8"),
    )


def _corpus(seed: int) -> Iterator[str]:
    """What the model reads and writes most; filler stays out, for it would waste merges."""
    rng = Random(f"tokenizer:{seed}")
    for question in load_questions():
        for phrasing in question.phrasings:
            yield phrasing
            yield vary(phrasing, rng)
        yield from [question.answer] * 8
    for _ in range(500):
        task = draw_tool_task(rng)
        yield from (json.dumps(task.tool["function"]), task.question, task.call, task.answer)
        yield from draw_off_topic(rng)
        yield from arithmetic.draw_training_sum(rng)
    yield from [*SYSTEM_PROMPTS, *COMMON_WORDS]
    yield from [TOOL_INSTRUCTION] * 100

"""The head that is trained for the demo model: training unrolls what serving computes of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from octavo.models.eagle3 import read_eagle3_config
from tests.support.runtime.eagle_heads import ReferenceHead
from training.demo_drafts.answers import AnswerBatch
from training.demo_drafts.head import WATCHED, DemoHead

SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}


def test_a_guess_of_a_guess_is_unrolled_as_it_is_served(tmp_path: Path) -> None:
    torch.manual_seed(3)
    torch.set_num_threads(1)
    model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=4, **SIZES)).eval()
    head = DemoHead(model)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for parameter in head.parameters():
            parameter.copy_(parameter.bfloat16())  # as it is stored
    head.save(tmp_path)
    assert read_eagle3_config(tmp_path).watched == WATCHED
    served = ReferenceHead(num_watched=3, **SIZES)
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    missing, unknown = served.load_state_dict(
        {name: one.float() for name, one in tensors.items()}, strict=False
    )
    assert not unknown
    assert set(missing) == {"embed_tokens.weight", "d2t", "t2d"}
    served.embed_tokens.weight = model.model.embed_tokens.weight

    ids = torch.randint(0, 61, (12,))
    learnt = torch.zeros(1, 12, dtype=torch.bool)
    learnt[:, 5:] = True
    with torch.no_grad():
        output = model(ids[None], output_hidden_states=True)
        hidden = served.fuse([output.hidden_states[layer][0] for layer in WATCHED])
        wanted = output.logits[0].softmax(-1)
        expected = torch.zeros(())
        for place in range(3):
            losses = []
            for first in range(3, 10 - place):  # the last of a chain is about a token of the answer
                carried = hidden[: first + 1]
                for _ in range(place):
                    stream = served(ids[1 : len(carried) + 1], carried)
                    carried = torch.cat([carried, stream[-1:]])
                stream = served(ids[1 : len(carried) + 1], carried)[-1:]
                scores = served.lm_head(served.norm(stream)).log_softmax(-1)[0]
                losses.append(-(wanted[len(carried)] * scores).sum())
            expected += 0.8**place * torch.stack(losses).mean()
        found = head.loss(model, AnswerBatch(ids[None], learnt), 3)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

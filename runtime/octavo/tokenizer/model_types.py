"""Model types of config.json and the tokenizer classes that transformers has for them.

A checkpoint that names no class gets its model type's, and one that names another is not always believed.
"""

from __future__ import annotations

_NAMES = {
    "TokenizersBackend": """
        beam bigbird_pegasus ernie4_5 ernie4_5_moe flex_olmo fuyu glm glm4 glm4_moe glm4_moe_lite got_ocr2
        gpt_bigcode granite granitemoe granitemoehybrid granitemoeshared hyperclovax internlm3 iquestcoder
        jamba kimi_linear mimo_v2_flash minicpm3 minimax_m2 ministral ministral3 mistral mixtral
        modernbert modernbert-decoder nemotron olmo2 olmo3 olmo_hybrid persimmon phi3 phimoe stablelm
        xlm-roberta-xl
    """,
    "GPT2Tokenizer": "codegen dbrx emu3 gpt2 gpt_neo gptj jais2 opt phi starcoder2",
    "GPTNeoXTokenizer": "falcon_mamba gpt_neox mamba mamba2 mpt olmo olmoe rwkv xlstm",
    "GemmaTokenizer": "gemma gemma2 gemma3 gemma3_text gemma3n gemma3n_text recurrent_gemma zaya",
    "Qwen2Tokenizer": (
        "dots3_note moss_transcribe_diarize qwen2 qwen2_moe qwen3 qwen3_moe qwen3_next"
    ),
    "Qwen3_5Tokenizer": "qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen4_exp",
    "CohereTokenizer": "cohere cohere2",
    "BertTokenizer": "bert electra ernie git megatron-bert nomic_bert",
    "RobertaTokenizer": "bart data2vec-text roberta roberta-prelayernorm",
    "XLMRobertaTokenizer": "trocr xlm-roberta xmod",
    "CamembertTokenizer": "camembert",
}
OF_MODEL_TYPES = {
    model_type: name for name, model_types in _NAMES.items() for model_type in model_types.split()
}
"""Of text models; those that are not here, such as Llama's, have none, and the checkpoint's is taken."""
_WRONG = """
    ernie4_5 ernie4_5_moe fuyu hyperclovax internlm3 iquestcoder jamba minicpm3 minimax_m2
    modernbert-decoder nemotron phi3 phimoe qwen2 qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen4_exp
"""
NAMED_WRONG = frozenset(_WRONG.split())
"""Whose checkpoints on the hub name classes that are not theirs."""

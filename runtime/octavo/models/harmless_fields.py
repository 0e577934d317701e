"""Harmless fields of config.json: those that published checkpoints carry and that change no number of a step.

They say how a model was trained, how its text is sampled, how a library holds or shows it. Whether a field
belongs here is decided by transformers' own classes: what they read to compute does not.
"""

from __future__ import annotations

from typing import Any

_NAMING = """
    architectures model_type transformers_version _name_or_path name_or_path _commit_hash auto_map task
    tokenizer_class processor_class finetuning_task problem_type task_specific_params prefix
    id2label label2id num_labels title version license is_llama_config transformers.js_config
"""
_TRAINING = """
    initializer_range initializer_factor attention_dropout hidden_dropout classifier_dropout dropout
    embd_pdrop resid_pdrop attn_pdrop attention_probs_dropout_prob hidden_dropout_prob
    embedding_dropout mlp_dropout initializer_cutoff_factor
    gradient_checkpointing
    neftune_noise_alpha use_flash_attn use_flash_attention_2 router_aux_loss_coef router_jitter_noise
    output_router_logits rescale_prenorm_residual max_sequence_length seq_length model_max_length
"""
_LIBRARY = """
    use_cache dtype torch_dtype torchscript return_dict use_return_dict output_attentions
    output_hidden_states chunk_size_feed_forward tf_legacy_loss use_bfloat16 pretraining_tp
    cache_implementation attn_implementation _attn_implementation _attn_implementation_internal
    _attn_implementation_autoset _experts_implementation _flash_attn_2_enabled keys_to_ignore_at_inference
    compile_config is_composition onnx use_kernel_forward_from_hub reference_compile
    deterministic_flash_attn repad_logits_with_grad sparse_prediction sparse_pred_ignore_index
"""
# Of old checkpoints; today they stand in generation_config.json, which the server reads.
_SAMPLING = """
    do_sample temperature top_k top_p min_p typical_p repetition_penalty length_penalty max_length
    max_new_tokens min_length min_new_tokens num_beams num_beam_groups diversity_penalty early_stopping
    no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences output_scores
    return_dict_in_generate forced_bos_token_id forced_eos_token_id remove_invalid_values
    exponential_decay_length_penalty suppress_tokens begin_suppress_tokens decoder_start_token_id
    bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id cls_token_id mask_token_id
"""
# Qwen2.5-1M's way to go on beyond the length it was trained for; transformers goes on without.
_BEYOND_TRAINING = "dual_chunk_attention_config"
# The tensors tell: one that is missing or in excess is refused when the weights are read.
_TOLD_BY_WEIGHTS = "attention_bias mlp_bias qkv_bias no_bias ff_factor"
# `octavo.quantization` and `octavo.loading` read these.
_OF_WEIGHTS = "quantization_config compression_config transformers_weights"
_HARMLESS = frozenset(
    f"{_NAMING} {_TRAINING} {_LIBRARY} {_SAMPLING} {_BEYOND_TRAINING} {_TOLD_BY_WEIGHTS} "
    f"{_OF_WEIGHTS}".split()
)
# What is harmless with this value alone.
_HARMLESS_VALUES: dict[str, tuple[Any, ...]] = {
    "is_encoder_decoder": (False,),
    "is_decoder": (False, True),
    "is_causal": (True,),
    "add_cross_attention": (False,),
    "tie_encoder_decoder": (False,),
    "pruned_heads": ({},),
    "partial_rotary_factor": (1.0,),
    "rope_interleaved": (False,),
    "use_mrope": (False,),
    "use_sliding_window": (False,),
    "use_bidirectional_attention": (False,),
    "use_qk_norm": (False,),
    "residual_multiplier": (1.0,),
    "embedding_multiplier": (1.0,),
    "logits_scaling": (1.0,),
    "apply_residual_connection_post_layernorm": (False,),
    "full_attn_mod": (1,),  # Phi-4-mini: each layer sees everything
    "interpolate_factor": (1,),
    "lm_head_bias": (False,),
    "_sliding_window_pattern": (2,),  # Gemma 2, whose every second layer it is by default
}
_HARMLESS_PREFIXES = ("unsloth_",)


def is_harmless(name: str, value: object) -> bool:
    """Whether a field that no family reads may stand in config.json with this value, other than null."""
    if name in _HARMLESS or name.startswith(_HARMLESS_PREFIXES):
        return True
    if name == "layer_types" and isinstance(value, list):
        return all(kind == "full_attention" for kind in value)
    return any(
        value == allowed and isinstance(value, bool) == isinstance(allowed, bool)
        for allowed in _HARMLESS_VALUES.get(name, ())
    )

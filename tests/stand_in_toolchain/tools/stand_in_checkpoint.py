"""STAND-IN, not NVIDIA's: reads a Hugging Face Falcon's config.json, writes converted checkpoints.

The fields are those of TensorRT-LLM's FalconConfig and LLaMAConfig; the weights are sixteen bytes.
"""

import json
from pathlib import Path

_QUANT_ALGORITHMS = {
    "fp8": "FP8",
    "int4_awq": "W4A16_AWQ",
    "w4a8_awq": "W4A8_AWQ",
    "int8_wo": "W8A16",
    "int4_wo": "W4A16",
    "int8_sq": "W8A8_SQ_PER_CHANNEL",
    "nvfp4": "NVFP4",
}


def model_facts(model_dir: str) -> dict:
    """A model's facts by the names of a converted checkpoint's config.json."""
    raw = json.loads((Path(model_dir) / "config.json").read_text())
    return llama_facts(raw) if raw.get("model_type") == "llama" else falcon_facts(raw)


def llama_facts(raw: dict) -> dict:
    heads = raw["num_attention_heads"]
    return {
        "architecture": "LlamaForCausalLM",
        "dtype": raw.get("torch_dtype") or "float16",
        "vocab_size": raw["vocab_size"],
        "hidden_size": raw["hidden_size"],
        "num_hidden_layers": raw["num_hidden_layers"],
        "num_attention_heads": heads,
        "num_key_value_heads": raw.get("num_key_value_heads") or heads,
        "head_size": raw.get("head_dim") or raw["hidden_size"] // heads,
        "intermediate_size": raw["intermediate_size"],
        "hidden_act": raw["hidden_act"],
        "norm_epsilon": raw["rms_norm_eps"],
        "position_embedding_type": "rope_gpt_neox",
        "max_position_embeddings": raw["max_position_embeddings"],
        "rotary_base": raw.get("rope_theta", 10000.0),
        "rotary_scaling": raw.get("rope_scaling"),
        "mlp_bias": False,
        "attn_bias": False,
        "residual_mlp": False,
        "moe": {"num_experts": 0, "top_k": 0},
    }


def falcon_facts(raw: dict) -> dict:
    kind = raw.get("model_type")
    if kind not in ("falcon", "RefinedWeb", "RefinedWebModel"):
        raise ValueError("Shouldn't reach here.")
    hidden = raw["hidden_size"]
    heads = raw.get("num_attention_heads") or raw["n_head"]
    new_decoder = raw.get("new_decoder_architecture", kind == "RefinedWeb")
    kv_heads = heads
    if new_decoder:
        kv_heads = raw.get("num_kv_heads") or raw.get("n_head_kv") or heads
    elif raw.get("multi_query", True):
        kv_heads = 1
    return {
        "architecture": "FalconForCausalLM",
        "dtype": raw.get("torch_dtype") or raw.get("dtype") or "float16",
        "vocab_size": raw["vocab_size"],
        "hidden_size": hidden,
        "num_hidden_layers": raw.get("num_hidden_layers") or raw["n_layer"],
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_size": hidden // heads,
        "intermediate_size": raw.get("ffn_hidden_size") or 4 * hidden,
        "hidden_act": "gelu",
        "norm_epsilon": raw.get("layer_norm_epsilon", 1e-5),
        "position_embedding_type": "alibi_with_scale" if raw.get("alibi") else "rope_gpt_neox",
        "max_position_embeddings": raw.get("max_position_embeddings", 2048),
        "rotary_base": raw.get("rope_theta", 10000.0),
        "bias": raw.get("bias", False),
        "parallel_attention": raw.get("parallel_attn", True),
        "new_decoder_architecture": new_decoder,
        "num_ln_in_parallel_attn": raw.get("num_ln_in_parallel_attn"),
    }


def converted_config(model_dir: str, dtype: str, tensor: int, pipeline: int, quant: dict) -> dict:
    """The config.json of a converted checkpoint.

    Raises:
        AssertionError: the heads or layers cannot be shared out, as the real tools find too.
    """
    facts = model_facts(model_dir)
    if dtype not in (None, "auto"):
        facts["dtype"] = dtype
    heads, kv_heads = facts["num_attention_heads"], facts["num_key_value_heads"]
    assert heads % tensor == 0, f"{heads} heads cannot be shared out over tp_size {tensor}"
    assert kv_heads % tensor == 0 or tensor % kv_heads == 0, "kv heads cannot be shared out"
    assert facts["num_hidden_layers"] % pipeline == 0, "layers cannot be shared out"
    mapping = {"world_size": tensor * pipeline, "tp_size": tensor, "pp_size": pipeline}
    return {**facts, "logits_dtype": "float32", "mapping": mapping, "quantization": quant}


def weight_only(precision: str) -> dict:
    return {"quant_algo": {"int8": "W8A16", "int4": "W4A16"}[precision]}


def calibrated(qformat: str, kv_cache_dtype: str, block_size: int) -> dict:
    quant = {
        "quant_algo": _QUANT_ALGORITHMS.get(qformat),
        "kv_cache_quant_algo": kv_cache_dtype.upper() if kv_cache_dtype else None,
    }
    return {**quant, "group_size": block_size} if qformat.endswith("awq") else quant


def write_json(values: dict):
    return lambda path: path.write_text(json.dumps(values, indent=4, sort_keys=True))


def write_weights(path: Path) -> None:
    """Writes a real, tiny safetensors file."""
    header = json.dumps({"stand_in": {"dtype": "U8", "shape": [16], "data_offsets": [0, 16]}})
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(16))


def read_weights(path: Path) -> None:
    """Reads what `write_weights` wrote.

    Raises:
        ValueError: it is not whole, with the message of the safetensors package.
    """
    data = path.read_bytes()
    if len(data) < 8:
        raise ValueError("SafetensorError: Error while deserializing header: HeaderTooSmall")
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header["stand_in"]["data_offsets"] == [0, 16]

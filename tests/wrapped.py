"""Small models of wrappers: a language model with a tower of its own, texts with images in them, and both
sides run in float64."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
import transformers
from families import randomized
from torch import Tensor, nn

import isogrow
from isogrow.verification.float64 import build, float64
from isogrow.verification.sounds import shown

TEXT = {
    "vocab_size": 53, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-2,
}  # fmt: skip
DIM = {"head_dim": 10}
SCALED = {**DIM, "query_pre_attn_scalar": 7, "sliding_window": 8}


def turning(*sections: int, **more: Any) -> dict[str, Any]:
    """A table with how many pairs turn by each of an image's positions."""
    return {
        "rope_parameters": {"rope_type": "default", "rope_theta": 300.0, "mrope_section": [*sections], **more}
    }


RUNS, THIRDS, HALF = turning(1, 1, 1), turning(2, 1, 2), turning(1, 1, 1, partial_rotary_factor=0.6)
MIXED = {"moe_intermediate_size": 12, "num_experts": 4, "num_experts_per_tok": 2, "decoder_sparse_step": 2}
SHARED = {
    "moe_intermediate_size": 12, "n_routed_experts": 4, "num_experts_per_tok": 2, "first_k_dense_replace": 1
}  # fmt: skip
SHARED_KEYS = {
    "num_hidden_layers": 4, "num_kv_shared_layers": 1, "head_dim": 10, "global_head_dim": 12,
    "sliding_window": 8,
    "layer_types": ["full_attention", "sliding_attention", "full_attention", "full_attention"],
    "pad_token_id": 51,
}  # fmt: skip
TEXTS: Mapping[str, Mapping[str, Any]] = {
    "llama": {**TEXT, **DIM},
    "mistral": {**TEXT, **DIM},
    "qwen2": TEXT,
    "qwen3": {**TEXT, **DIM},
    "gemma": {**TEXT, **DIM},
    "gemma2": {**TEXT, **SCALED},
    "gemma3_text": {**TEXT, **SCALED},
    "gemma4_text": {**TEXT, **SHARED_KEYS, "hidden_size_per_layer_input": 6},
    "gemma4_unified_text": {**TEXT, **SHARED_KEYS},
    "cohere": {
        **{k: v for k, v in TEXT.items() if k != "rms_norm_eps"},
        "layer_norm_eps": 1e-2,
        "logit_scale": 1.0,
    },
    "hyperclovax": {**TEXT, **DIM},
    "exaone4": {**TEXT, **DIM, "sliding_window": 8},
    "emu3_text_model": {**TEXT, "pad_token_id": 51},
    "apertus1p5_text": {**TEXT, **DIM, "output_vocab_size": 29},
    "qwen2_vl_text": {**TEXT, **RUNS},
    "qwen2_5_vl_text": {**TEXT, **RUNS},
    "qwen2_5_omni_text": {**TEXT, **DIM, **THIRDS},
    "qwen3_omni_moe_text": {**TEXT, **DIM, **THIRDS, **MIXED},
    "granite": {**TEXT, **DIM, "attention_multiplier": 0.3},
    "granite4_vision_text": {**TEXT, **DIM, "attention_multiplier": 0.3, "num_hidden_layers": 6},
    "qwen3_5_text": {
        **TEXT, **DIM, "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "linear_key_head_dim": 6, "linear_value_head_dim": 5,
    },
    "qwen3_5_moe_text": {
        **TEXT, **DIM, "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "linear_key_head_dim": 6, "linear_value_head_dim": 5,
        "moe_intermediate_size": 12, "shared_expert_intermediate_size": 14, "num_experts": 4,
        "num_experts_per_tok": 2,
    },
    "qwen3_vl_text": {**TEXT, **DIM, **THIRDS},
    "qwen3_vl_moe_text": {**TEXT, **DIM, **THIRDS, **MIXED},
    "glm4v_text": {**TEXT, "hidden_size": 40, **HALF},
    "glm_image_text": {**TEXT, **DIM, **HALF, "vision_vocab_size": 31, "pad_token_id": 51},
    "glm4v_moe_text": {**TEXT, **DIM, **HALF, **SHARED},
    "glm_ocr_text": {**TEXT, **DIM, **HALF},
    "paddleocr_vl_text": {**TEXT, **DIM, **turning(2, 1, 2)},
    "hunyuan_vl_text": {**TEXT, **DIM, **turning(2, 1, 2)},
    "lfm2": {**TEXT, "norm_eps": 1e-2, "block_ff_dim": 40, "block_auto_adjust_ff_dim": False,
             "layer_types": ["conv", "full_attention"]},
    "aria_text": {**TEXT, "moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1},
    "llama4_text": {
        **TEXT, **DIM, "intermediate_size_mlp": 36, "num_local_experts": 2, "interleave_moe_layer_step": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 50.0},
    },
    "persimmon": {
        "vocab_size": 53, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
        "num_attention_heads": 4, "layer_norm_eps": 1e-2,
    },
    "mllama_text_model": {
        **TEXT, "num_hidden_layers": 3, "cross_attention_layers": [1], "pad_token_id": 51
    },
    "deepseek_v3": {
        **TEXT, **SHARED, "num_key_value_heads": 4, "q_lora_rank": 14, "kv_lora_rank": 9,
        "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 6, "n_group": 1, "topk_group": 1,
    },
    "opt": {"vocab_size": 53, "hidden_size": 24, "ffn_dim": 40, "num_hidden_layers": 2,
            "num_attention_heads": 4, "word_embed_proj_dim": 24, "max_position_embeddings": 64},
}  # fmt: skip
EYE = {"hidden_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 7}
SIGLIP = {"model_type": "siglip_vision_model", "intermediate_size": 30, "vision_use_head": False, **EYE}
CLIP = {"model_type": "clip_vision_model", "intermediate_size": 30, **EYE}
DINO = {"model_type": "dinov2", "mlp_ratio": 2, **EYE}
PIXTRAL = {"model_type": "pixtral", "intermediate_size": 30, **EYE}
INTERN = {
    "model_type": "internvl_vision",
    "intermediate_size": 30,
    **EYE,
    "image_size": [28, 28],
    "patch_size": [7, 7],
}
WINDOWS = {"window_size": 16, "fullatt_block_indexes": [1]}
FLAT = {key: said for key, said in EYE.items() if key != "image_size"}
GRID = {"num_heads": 2, "depth": 2, "patch_size": 4, "intermediate_size": 30, "hidden_size": 16}


def eye(kind: str, source: Mapping[str, Any] = EYE, **more: Any) -> dict[str, Any]:
    """A tower of a type of its own."""
    return {"vision_config": {"model_type": kind, "intermediate_size": 30, **source, **more}}


EAR = {
    "num_mel_bins": 8, "hidden_size": 20, "intermediate_size": 40, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_source_positions": 12, "d_model": 20, "encoder_layers": 1,
    "encoder_attention_heads": 2, "encoder_ffn_dim": 40,
}  # fmt: skip
SPOKEN = {"input_dim": 8, "num_layers": 1, "hidden_dim": 20, "num_heads": 2, "output_dim": 6, "dim_head": 10}
OWN: Mapping[str, Mapping[str, Any]] = {
    "llava": {"vision_config": DINO, "vision_feature_layer": -1},
    "vipllava": {"vision_config": CLIP, "vision_feature_layers": [-1, 0]},
    "mistral3": {"vision_config": PIXTRAL, "spatial_merge_size": 2, "vision_feature_layer": -1},
    "internvl": {"vision_config": INTERN, "image_seq_length": 4, "vision_feature_layer": -1},
    "gemma4": {
        "vision_config": {
            "hidden_size": 16, "intermediate_size": 30, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 2, "head_dim": 8, "patch_size": 4, "position_embedding_size": 16,
            "pooling_kernel_size": 2,
        },
    },
    "gemma4_unified": {
        "vision_config": {"patch_size": 4, "pooling_kernel_size": 2, "mm_embed_dim": 16, "mm_posemb_size": 8,
                          "output_proj_dims": 16},
    },
    "gemma3": {"vision_config": SIGLIP, "mm_tokens_per_image": 4},
    "paligemma": {"vision_config": SIGLIP, "projection_dim": 24},
    "aya_vision": {
        "vision_config": SIGLIP, "downsample_factor": 2, "alignment_intermediate_size": 36,
        "vision_feature_layer": -1,
    },
    "cohere2_vision": {"vision_config": SIGLIP, "downsample_factor": 2, "alignment_intermediate_size": 36},
    "llava_next": {"vision_config": CLIP, "vision_feature_layer": -1, "image_grid_pinpoints": [[28, 28]]},
    "llava_onevision": {
        "vision_config": SIGLIP, "vision_feature_layer": -1, "image_grid_pinpoints": [[28, 28]]
    },
    "llava_next_video": {
        "vision_config": CLIP, "vision_feature_layer": -1, "image_grid_pinpoints": [[28, 28]]
    },
    "video_llava": {"vision_config": CLIP, "vision_feature_layer": -1},
    "fast_vlm": {"vision_config": CLIP},
    "qianfan_ocr": eye("qianfan_ocr_vision", image_size=[28, 28], patch_size=[7, 7]),
    "lfm2_vl": {
        **eye("siglip2_vision_model", FLAT, num_patches=16), "projector_hidden_size": 18,
        "downsample_factor": 2,
    },
    "aria": {**eye("idefics3_vision"), "projector_patch_to_query_dict": {"16": 4}},
    "llama4": eye(
        "llama4_vision_model", hidden_size=16, intermediate_size=64, vision_output_dim=22,
        projector_input_dim=22, projector_output_dim=22, pixel_shuffle_ratio=0.5,
    ),
    "qwen2_vl": eye("qwen2_vl_vision", GRID, embed_dim=16, hidden_size=24, mlp_ratio=2),
    "qwen2_5_vl": eye("qwen2_5_vl_vision", GRID, out_hidden_size=24, **WINDOWS),
    "qwen3_vl": eye(
        "qwen3_vl_vision", GRID, out_hidden_size=24, num_position_embeddings=16, depth=3,
        deepstack_visual_indexes=[0],
    ),
    "qwen3_vl_moe": eye(
        "qwen3_vl_moe_vision", GRID, out_hidden_size=24, num_position_embeddings=16, depth=3,
        deepstack_visual_indexes=[0, 1],
    ),
    "glm4v": eye("glm4v_vision", GRID, out_hidden_size=40, image_size=16),
    "glm46v": eye("glm4v_vision", GRID, out_hidden_size=40, image_size=16),
    "glmga": eye("glm4v_vision", GRID, out_hidden_size=40, image_size=16),
    "glm4v_moe": eye("glm4v_moe_vision", GRID, out_hidden_size=24, image_size=16),
    "glm_ocr": eye("glm_ocr_vision", GRID, out_hidden_size=24, image_size=16),
    "paddleocr_vl": eye("paddleocr_vl_vision", EYE, patch_size=4, image_size=16, hidden_size=16),
    "hunyuan_vl": eye(
        "hunyuan_vl_vision", EYE, patch_size=4, hidden_size=16, text_hidden_size=24, num_key_value_heads=2
    ),
    "idefics3": {**eye("idefics3_vision"), "scale_factor": 2},
    "smolvlm": {**eye("smolvlm_vision"), "scale_factor": 2},
    "idefics2": {
        **eye("idefics2_vision"),
        "perceiver_config": {
            "hidden_size": 24, "resampler_n_latents": 3, "resampler_depth": 1, "resampler_n_heads": 2,
            "resampler_head_dim": 6, "num_key_value_heads": 1,
        },
    },
    "qwen3_5": eye("qwen3_5_vision", GRID, out_hidden_size=24, num_position_embeddings=16),
    "qwen3_5_moe": eye("qwen3_5_moe_vision", GRID, out_hidden_size=24, num_position_embeddings=16),
    "deepseek_vl": {"vision_config": SIGLIP},
    "exaone4_5": eye(
        "exaone4_5_vision", GRID, out_hidden_size=24, **WINDOWS,
        num_key_value_heads=1,
    ),
    "hyperclovax_vision_v2": eye(
        "qwen2_5_vl_vision", GRID, out_hidden_size=18, **WINDOWS
    ),
    "video_llama_3": eye("video_llama_3_vision", EYE, hidden_size=16, patch_size=4),
    "lighton_ocr": {"vision_config": PIXTRAL, "spatial_merge_size": 2},
    "ovis2": {
        **eye("ovis2_vision", vocab_size=37, num_visual_indicator_tokens=5, hidden_stride=1),
        "visual_indicator_token_ids": [44, 45, 46, 47, 48], "hidden_size": 24, "vocab_size": 53,
    },
    "fuyu": {"patch_size": 3, "image_size": 9},
    "emu3": {
        "vq_config": {
            "codebook_size": 16, "embed_dim": 4, "latent_channels": 4, "base_channels": 32, "hidden_size": 32,
            "channel_multiplier": [1, 1], "num_res_blocks": 1,
        },
        "vocabulary_map": {"<image>": 50, "<|extra_200|>": 49},
    },
    "apertus1p5": {
        "vision_config": {
            "codebook_size": 8, "embed_dim": 4, "latent_channels": 4, "base_channels": 32,
            "channel_multiplier": [1, 1], "num_res_blocks": 1,
        },
        "audio_config": {
            "model_type": "wavtokenizer_encoder", "hidden_size": 12, "num_filters": 4, "codebook_size": 7,
            "codebook_dim": 12, "upsampling_ratios": [2, 2],
        },
        "image_token_id": 50, "audio_token_id": 49, "image_token_offset": 30, "audio_token_offset": 38,
    },
    "glm_image": {
        **eye("glm_image_vision", GRID, image_size=16),
        "vq_config": {"embed_dim": 6, "num_embeddings": 14, "latent_channels": 16},
    },
    "kimi_k25": {
        **eye(
            "kimi_k25_vision", FLAT, hidden_size=16, patch_size=4, pos_emb_height=4, pos_emb_width=4,
            pos_emb_time=2,
        ),
        "projection_hidden_size": 16,
    },
    "blip-2": {
        **eye("blip_2_vision_model"),
        "qformer_config": {
            "hidden_size": 22, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 26,
            "encoder_hidden_size": 20,
        },
        "num_query_tokens": 3,
    },
    "instructblip": {
        **eye("instructblip_vision_model"),
        "qformer_config": {
            "hidden_size": 22, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 26,
            "encoder_hidden_size": 20, "vocab_size": 31,
        },
        "num_query_tokens": 3,
    },
    "deepseek_vl_hybrid": {
        "vision_config": SIGLIP,
        "high_res_vision_config": {
            "model_type": "sam_vision_model", "hidden_size": 16, "output_channels": 18,
            "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
            "global_attn_indexes": [0], "mlp_dim": 26,
        },
    },
    "janus": {
        **eye("janus_vision_model", projection_dim=24, mlp_ratio=2, depth=2),
        "vq_config": {
            "embed_dim": 4, "num_embeddings": 16, "latent_channels": 32, "base_channels": 32,
            "channel_multiplier": [1, 1], "num_res_blocks": 1, "projection_dim": 24,
            "image_token_embed_dim": 24, "num_patches": 4,
        },
    },
    "perception_lm": {
        **eye("clip_vision_model", model_args={"embed_dim": 20}), "projector_pooling_ratio": 1,
        "vision_use_cls_token": True,
    },
    "minicpmv4_6": eye("minicpmv4_6_vision"),
    "minicpmv4_7": eye("minicpmv4_7_vision"),
    "minicpm_ocr": eye("minicpm_ocr_vision"),
    "granite4_vision": {
        "vision_config": {**CLIP, "hidden_size": 64}, "downsample_rate": "2/4",
        "deepstack_layer_map": [[-1, 0], [0, 1]], "spatial_vision_layer": -1,
        "spatial_target_layers": [2, 3, 4, 5], "image_grid_pinpoints": [[28, 28]],
        "qformer_config": {
            "model_type": "blip_2_qformer", "hidden_size": 20, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 26, "encoder_hidden_size": 20,
        },
    },
    "pp_chart2table": {
        "vision_config": {
            "model_type": "pp_chart2table_vision", "hidden_size": 16, "output_channels": 18,
            "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
            "global_attn_indexes": [0], "mlp_dim": 26,
        },
    },
    "omniasr": {
        "audio_config": {
            "model_type": "omniasr_audio", "hidden_size": 20, "intermediate_size": 40, "num_hidden_layers": 1,
            "num_attention_heads": 2, "conv_dim": [8, 7], "conv_kernel": [4, 3], "conv_stride": [2, 2],
            "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
        },
    },
    "glmasr": {"audio_config": {"model_type": "glmasr_encoder", **EAR, "intermediate_size": 80}},
    "qwen3_asr": {"audio_config": {"model_type": "qwen3_asr_encoder", **EAR, "output_dim": 24,
                                   "downsample_hidden_size": 6}},
    "granite_speech": {
        "encoder_config": {"model_type": "granite_speech_encoder", **SPOKEN},
        "projector_config": {
            "model_type": "blip_2_qformer", "hidden_size": 22, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 26, "encoder_hidden_size": 20,
        },
        "has_lora_adapter": False,
    },
    "fun_asr_nano": {
        "audio_config": {"model_type": "fun_asr_nano_encoder", **EAR, "num_timestamp_prediction_layers": 1},
        "adaptor_config": {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 6,
                           "num_hidden_layers": 1, "projector_hidden_size": 14},
    },
    "moss_transcribe_diarize": {"audio_config": {"model_type": "moss_transcribe_diarize_audio", **EAR}},
    "qwen2_5_omni_thinker": {
        **eye("qwen2_5_omni_vision_encoder", GRID, out_hidden_size=24, **WINDOWS),
        "audio_config": {"model_type": "qwen2_5_omni_audio_encoder", **EAR, "output_dim": 24},
    },
    "qwen3_omni_moe_thinker": {
        **eye("qwen3_omni_moe_vision_encoder", GRID, out_hidden_size=24, num_position_embeddings=16, depth=3,
              deepstack_visual_indexes=[0]),
        "audio_config": {"model_type": "qwen3_omni_moe_audio_encoder", **EAR, "output_dim": 24,
                         "downsample_hidden_size": 6},
    },
    "mllama": eye(
        "mllama_vision_model", num_global_layers=1, attention_heads=2, vision_output_dim=40, max_num_tiles=2,
        supported_aspect_ratios=[[1, 1], [1, 2], [2, 1]], intermediate_layers_indices=[0],
    ),
}  # fmt: skip
IMAGE, SOUND = 50, 49
HEARING = {"audio_config", "encoder_config"}


def config(kind: str, text: str, tie: bool) -> dict[str, Any]:
    """A config.json as its class writes it."""
    source = {
        "model_type": kind,
        "text_config": {**TEXTS[text], "model_type": text, "tie_word_embeddings": tie},
        "image_token_index": IMAGE,
        "image_token_id": IMAGE,
        **({"audio_token_index": SOUND, "audio_token_id": SOUND} if HEARING & OWN[kind].keys() else {}),
        "tie_word_embeddings": tie,
        **OWN[kind],
    }
    return json.loads(transformers.CONFIG_MAPPING[kind].from_dict(source).to_json_string(use_diff=False))


def class_of(kind: str) -> Any:
    own = transformers.CONFIG_MAPPING[kind]
    if kind == "glm_image":  # makes images, and no auto class names it
        return transformers.GlmImageForConditionalGeneration
    autos = (transformers.AutoModelForImageTextToText, transformers.AutoModelForMultimodalLM)
    return next(auto._model_mapping[own] for auto in autos if own in auto._model_mapping)


@cache
def model(kind: str, text: str, tie: bool = False) -> nn.Module:
    """A float64 model with random weights; no test writes to it."""
    made, own = class_of(kind), transformers.CONFIG_MAPPING[kind].from_dict(config(kind, text, tie))
    with torch.device("meta"):
        shapes = {name: tuple(x.shape) for name, x in made(own).state_dict().items()}
    state = randomized(shapes, 0, 0.2)
    if tie:
        table = next(name for name in state if name.endswith("embed_tokens.weight"))
        state[next(name for name in state if name.endswith("lm_head.weight"))] = state[table]
    return build(made, own, state)


def looked_at(ids: Tensor) -> Mapping[str, Tensor]:
    """Texts beside images of two tiles each, of which the second is one tile."""
    pixels = torch.randn(2, 1, 2, 3, 28, 28, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return {
        "input_ids": ids,
        "pixel_values": pixels,
        "aspect_ratio_ids": torch.tensor([[2], [1]]),
        "aspect_ratio_mask": torch.tensor([[[1, 1]], [[1, 0]]]),
        "cross_attention_mask": torch.ones(*ids.shape, 1, 2, dtype=torch.long),
    }


def given(small: nn.Module, kind: str) -> Mapping[str, Tensor]:
    """Texts with images and sound in them, or beside them."""
    ids = torch.arange(2 * 11).reshape(2, 11) % IMAGE
    if kind == "mllama":
        return looked_at(ids)
    with float64():
        found = shown(small, ids)
    assert found is not None, kind
    return found


def logits(made: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    with float64(), torch.no_grad():
        return made(**{name: x.double() if x.is_floating_point() else x for name, x in batch.items()}).logits


def error(small: nn.Module, large: nn.Module, batch: Mapping[str, Tensor]) -> float:
    a, b = logits(small, batch), logits(large, batch)
    return float((a - b).abs().max() / a.abs().max())


def grown(small: nn.Module, **request: Any) -> nn.Module:
    with float64():
        return isogrow.grow(small, **request)

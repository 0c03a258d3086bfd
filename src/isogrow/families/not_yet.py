"""Why model types that transformers has are not grown: what is said where one is asked for.

docs/not_yet.py writes docs/families-not-yet.md from it, and benchmarks/drafts.py finds out what drafts grow.
"""

from __future__ import annotations

from collections.abc import Mapping

# Types without a table of which `isogrow draft` writes a layout that is proven on small models.
DRAFTED = (
    "beam", "bitnet", "cosmos3_edge", "cosmos3_omni", "diffllama", "doge", "dpr", "dpt", "esmc", "flava",
    "granite_docling", "kolibri1", "lfm3", "lfm3_vl", "markuplm", "minimax_m3_vl", "modernvbert",
    "muse_glimmer", "nemotron", "sam3_vit_model", "splinter", "timesformer", "tipsv2",
    "tipsv2_text_model", "trocr", "ultravbert", "visual_bert",
)  # fmt: skip

# Types whose config class is another type's: their files say that other type.
ALIASES: Mapping[str, str] = {"gpt-sw3": "gpt2", "mlcd": "mlcd_vision_model"}

# One reason, and the types (of transformers 5.24) that it holds back.
REASONS: Mapping[str, str] = {
    "its layers hold a recurrence with a state that no table says yet (RWKV, xLSTM)": (
        "recurrent_gemma rwkv xlstm zamba zamba2"
    ),
    "a norm runs over what attention gives, mixed from all values, and over the product of gate and up": (
        "bitnet"
    ),
    "two softmaxes are subtracted, each from half of the heads, by a scale from the layer's number": (
        "diffllama"
    ),
    "the residual itself is multiplied by a gain, and attention by a gate that chooses positions": "doge",
    "attention is a Fourier transform, a hash, a projection of the sequence, or sampled": (
        "fnet funnel reformer"
    ),
    "its attention needs a kernel that is compiled for a GPU": "mra",
    "convolutions take part in attention": "convbert",
    "its MLP is 4 times the residual, which the tied head reads behind a LayerNorm": "xlm flaubert",
    "its sparse layers are chosen by a number that no list can say, and its positions are sines": "nllb-moe",
    "it reads sound with a Conformer, whose branches are convolutions and attention between two halves of an"
    " MLP": (
        "wav2vec2-conformer wav2vec2-bert canary cohere_asr fastspeech2_conformer"
        " fastspeech2_conformer_with_hifigan gemma3n_audio gemma4_audio granite_speech5_ctc"
        " granite_speech5_encoder lasr_ctc lasr_encoder nemotron3_5_asr nemotron_asr_streaming"
        " nemotron_asr_streaming_encoder parakeet_ctc parakeet_encoder parakeet_rnnt parakeet_tdt"
        " seamless_m4t seamless_m4t_v2"
    ),
    "its attention is disentangled, and pooled over time": "sew-d",
    "its MLP is 4 times the residual, and its tied head reads what a LayerNorm wrote": "openai-gpt",
    "attention's queries and outputs are drawn from experts, all of which share the keys": "jetmoe",
    "layers with a window have twice the key heads of the others": "mimo_v2_flash",
    "each layer has an adapter for each language, which the config lists by name": "xmod",
    "its projections are convolutions in groups of channels, which whole copies would part": "squeezebert",
    "its files hold a rounded twin of each weight": "ibert",
    "which layers are sparse is computed from the number of layers": "switch_transformers",
    "its encoder has a second residual, of global tokens, and positions from the width": "pegasus_x",
    "its stages are convolutions or windows of several widths, so that no one width is the residual's": (
        "align bit convnext convnextv2 cvt dinat dinov3_convnext donut-swin efficientnet focalnet glpn"
        " hgnet_v2 hiera levit maskformer-swin mobilenet_v1 mobilenet_v2 mobilevit mobilevitv2 poolformer pvt"
        " pvt_v2"
        " regnet resnet sam2_hiera_det_model segformer swiftformer swin swin2sr swinv2 textnet"
        " edgetam_vision_model efficientloftr pp_lcnet pp_ocrv5_mobile_rec pp_ocrv5_server_rec"
        " pp_ocrv6_medium_det pp_ocrv6_small_det pp_ocrv6_small_rec pp_ocrv6_tiny_rec sam2_vision_model"
        " muse_spark_audio uvdoc"
    ),
    "queries of objects look at a convolutional or staged backbone, in layers that are post-norm": (
        "conditional_detr d_fine dab-detr deformable_detr deimv2 detr grounding-dino lw_detr mask2former"
        " maskformer mm-grounding-dino omdet-turbo oneformer pp_doclayout_v3 pp_doclayout_v4 rf_detr rt_detr"
        " rt_detr_v2 table-transformer"
    ),
    "it codes or makes sound by convolutions, whose strides and widths are one": (
        "dac encodec higgs_audio_v2_tokenizer mimi mimi_decoder mimi_encoder neucodec univnet"
        " vibevoice_acoustic_tokenizer vibevoice_acoustic_tokenizer_decoder"
        " vibevoice_acoustic_tokenizer_encoder xcodec xcodec2 pocket_tts_audio_tokenizer wavtokenizer"
        " wavtokenizer_encoder"
        " pocket_tts_audio_tokenizer_decoder pocket_tts_audio_tokenizer_encoder vits"
    ),
    "what builds it is another library, timm, whose models have names of their own": (
        "gemma3n_vision timm_backbone timm_wrapper"
    ),
    "its frames are read by another library's model, timm, ahead of its layers": (
        "pe_audio_video pe_audio_video_encoder pe_video pe_video_encoder"
    ),
    "its images are read by another library's model, timm; its language model grows by itself": "gemma3n",
    "its streams are mixed by a matrix of positive numbers, so no new layer is the identity (laws.md), and"
    " its compressed attention has no table yet": "deepseek_v4",
    "it reads the keys and values, or the states, of another model, whose sizes are not its own": (
        "gemma4_assistant gemma4_unified_assistant muse_glimmer_assistant"
    ),
    "its MLP normalises its inner width, or is as wide as what it gives": (
        "glm4v_moe_vision glm4v_vision kosmos-2 kosmos-2.5"
    ),
    "its positions are added again between layers, in a tensor one shorter than there are layers": "yolos",
    "its files hold two kinds of experts, of two widths, in one list": "ernie4_5_vl_moe",
    "its class reads no text without a video": "instructblipvideo",
    "its class holds a class with a head that holds the model": "shieldgemma2",
    "its residual is several streams mixed anew in each layer (hyper-connections): no table says that yet": (
        "hy_v4 hy_v4_vl hy_v4_vl_text glm5_next glm5_next_text qwen4_exp qwen4_exp_text"
    ),
    "its residual itself is multiplied by a gain in each layer": "muse_spark muse_spark_text zaya",
    "each layer reads a mix of the residual and the embeddings, and attention leaves out what a token's own"
    " value says": "neomme",
    "a norm before its branches is multiplied by a gate that reads all of its channels, which no table says"
    " yet": "axk2",
    "its latents are multiplied by the root of a ratio of widths, which no table says yet": (
        "dots3_note dots3_note_text longcat_flash"
    ),
    "positions are logits that each query computes for each distance, and convolutions stand behind its"
    " branches": "inkling_text inkling_mm_model inkling2_text inkling2",
    "its norms are multiplied by what an embedding of the delay gives (adaptive norms), which no table says"
    " yet": "voxtral_realtime voxtral_realtime_text",
    "each head's queries are multiplied by a number of its own and the logarithm of the position, which no"
    " table says yet": "mistral_large4 mistral_large4_text",
    "inputs of each layer's own come from one matrix with a block for each layer, which no table says yet": (
        "embedding_gemma2 embedding_gemma2_text"
    ),
    "a second copy of each layer's MLP and norms is for sound alone, which no table says yet": (
        "higgs_audio_v2"
    ),
    "two stacks of layers run again and again, and each reads what the other gives": "hrm_text",
    "some of its layers run several times, each time on what they gave before (loops), which no table says"
    " yet": "dory inkling2_loop inkling2_loop_text",
    "its decoder looks at itself and at its encoder by one softmax (merged attention), which no table says"
    " yet": "t5gemma2",
    "beside its encoder stands a decoder that reads what it gave before (self-conditioning)": (
        "diffusion_gemma"
    ),
    "positions are read by weights of their own for each pair of tokens (Transformer-XL), and a second stream"
    " of queries stands beside the first": "xlnet",
    "it reads bytes: a small model cuts them into patches, and an encoder and a decoder of bytes stand around"
    " its layers": "blt",
    "it reads characters, which convolutions put together before its layers": "canine",
    "its layers narrow the residual to a bottleneck, and its norms are a scale and a shift alone": (
        "mobilebert"
    ),
    "latents look at inputs of another width, and the same layers run several times": "perceiver",
    "it joins two models of any type, each with a config: grow each by itself": (
        "encoder-decoder speech-encoder-decoder vision-encoder-decoder vision-text-dual-encoder"
    ),
    "what it makes is built from three models or more, each with a class of its own": (
        "bark clvp musicgen musicgen_melody"
    ),
    "two language models of different widths read each other's keys, or states": "csm pi0",
    "its layers read images (or proteins) between those of the language model, at places that the config"
    " counts": "evolla idefics",
    "its images are read by stages of several widths, beside an encoder and a decoder of texts": (
        "florence2"
    ),
    "a merger of windows stands behind the layer that the config numbers": (
        "minicpm_ocr_vision minicpmv4_7_vision"
    ),
    "two images become one behind a layer with a fixed number, and each layer has tables of positions as wide"
    " as a head": "seggpt",
    "its layers are two stacks, one over an image's patches and one over time, which no table says yet": (
        "videoprism videoprism_vision_model"
    ),
    "beside its encoder stands a predictor of another width, which no table says yet": "vjepa2",
    "its layers pass messages from one frame to the next by an attention of their own, which no table says"
    " yet": "xclip",
    "tokens are put into groups between its stages, which no table says yet": "groupvit",
    "it joins a tower of images, prompts and a decoder of masks, which no table says yet; a tower of its kind"
    " may grow by itself (sam_vision_model)": (
        "edgetam edgetam_video sam sam2 sam2_video sam3 sam3_lite_text sam3_tracker sam3_tracker_video"
        " sam3_video sam_hq"
    ),
    "a neck of convolutions, in several sizes, stands behind its tower": "sam3_vision_model",
    "convolutions stand between, or beside, its blocks of windows, whose positions are tables as wide as a"
    " head": "vitdet",
    "a block of convolutions stands in its stack of layers": "sam3_lite_text_text_model",
    "short convolutions take the place of attention in some layers of a tower, which no table says"
    " yet": "lfm3_vl_vision",
    "it matches points of two images, and ends at a layer that depends on them": "lightglue",
    "several towers look at one image in several sizes, and convolutions join what they see": "depth_pro",
    "its layers hold a memory by convolutions over time (FSMN)": "fun_asr_nano_encoder",
    "sound is cut into frames by a codec of convolutions, with widths of its own, ahead of its layers": (
        "pe_audio pe_audio_encoder"
    ),
    "it turns an image's features into codes by a codebook, and has no layers": "glm_image_vqmodel",
    "layers between its two towers read both, behind a norm on the residual": "bridgetower lxmert",
    "each part of a time series is smoothed between its branches (series decomposition), or attention is"
    " sampled": "autoformer informer",
    "it reads time series as patches, with a norm over the batch (BatchNorm)": "patchtsmixer patchtst",
    "it reads time series: what stands around its layers (lags, patches, scales of the series) no table says"
    " yet": "time_series_transformer timesfm timesfm2_5",
    "its tokens are returns, states and actions, read one after the other by GPT-2's layers: no table yet": (
        "decision_transformer"
    ),
    "its layers normalise the residual itself (post-norm), and no table says yet what it reads beside texts"
    " (images, boxes, a second stream)": (
        "altclip blip blip_2_qformer bros chinese_clip clap git layoutlmv2 layoutlmv3 lilt speecht5 tvp"
    ),
    "its linear layers are clipped by numbers of their own, and its values are normalised: no table yet": (
        "gemma4_vision"
    ),
    "no table yet: a state as Kimi-Linear's, with another gate that forgets": "bailing_hybrid",
    "no table yet: positions are a table over distances and segments, and a prompt stands before each text": (
        "cpmant"
    ),
    "no table yet: a decoder that also reads (or makes) several streams of sound's codes, or its latents": (
        "dia gradium_phonon_tts kyutai_speech_to_text moshi pocket_tts"
    ),
    "no table yet: an encoder of sound by itself, with gated MLPs or behind other layers": (
        "nemotron3_5_transcribe_word_timestamp voxtral_realtime_encoder"
    ),
    "no table yet: an encoder of sound that has one by itself, under a head and in a nested config": (
        "omniasr_ctc"
    ),
    "no table yet: it joins encoders of sound, or such an encoder and what says who speaks": (
        "nemotron3_5_transcribe_audio nemotron3_diarization"
    ),
    "no table yet: its decoder reads an encoder of another width through a projection": "moonshine_streaming",
    "no table yet: T5's layers, with what reads spectra, pages or images before them": (
        "pix2struct pop2piano udop"
    ),
    "no table yet: an encoder of texts and images with Gemma's layers": "t5gemma2_encoder",
    "no table yet: two towers of its own kinds, read side by side": "aimv2",
    "no table yet: a tower of images (or of images and texts) by itself, much like ViT": (
        "hy_v4_vl_vision inkling2_vision mgp-str radio sapiens2 tipsv2_vision_model vilt"
    ),
    "no table yet: a language model within a wrapper, and the wrapper has no row": (
        "molmo2 molmo2_text step3p7"
    ),
    "no row of a wrapper yet: towers beside a language model, or around it": (
        "cohere_compass deepseek_ocr2 nemo_speechlm nemotron_h_omni phi4_multimodal pp_formulanet"
        " unlimited_ocr vibevoice vibevoice_asr"
    ),
    "it is built in docs/add-a-family.md, which shows how": "nemotron",
}


def reasons() -> dict[str, str]:
    """The reason of each type that has one."""
    return {name: why for why, types in REASONS.items() for name in types.split()}


def refusal(model_type: str) -> str:
    """Why a type is not grown, and what to do instead; "" of one of which nothing is known.

    >>> refusal("swin").partition(",")[0]
    "model_type 'swin' is not grown: its stages are convolutions or windows of several widths"
    """
    why = reasons().get(model_type, "it has no table")
    if model_type in DRAFTED:
        return (
            f"model_type {model_type!r} is not grown without a layout ({why}): write one by"
            f" `isogrow draft {model_type} --out FILE`, which says what it grows, and give --layout FILE"
        )
    if why not in REASONS:
        return ""
    return f"model_type {model_type!r} is not grown: {why}; `isogrow families` lists those that are"

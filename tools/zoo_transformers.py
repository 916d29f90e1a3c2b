"""Transformers made from small configurations, with the heads they are used with; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable

import torch
import transformers
import zoo
from torch import nn

_WORDS, _LENGTH, _CLASSES = 200, 12, 10
_TEXT = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
_ANY_TEXT = {0: "batch", 1: "sequence"}


class _Tokens(nn.Module):
    """A language model that takes tensors by position and returns its scores."""

    def __init__(self, network: nn.Module, *names: str) -> None:
        super().__init__()
        self.network = network
        self.names = names
        self.options = {"use_cache": False} if "use_cache" in network.forward.__code__.co_varnames else {}

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        found = self.network(**dict(zip(self.names, inputs, strict=True)), return_dict=False, **self.options)
        value: torch.Tensor = found[0]
        return value


class _Clip(_Tokens):
    """CLIP, with the scores of pictures and of texts."""

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.network(**dict(zip(self.names, inputs, strict=True)), return_dict=True)
        return found.logits_per_image, found.text_embeds


class _Boxes(_Tokens):
    """DETR, with class scores and boxes."""

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.network(inputs[0], return_dict=True)
        return found.logits, found.pred_boxes


def _words(batch: int = 2, length: int = _LENGTH) -> torch.Tensor:
    return torch.randint(3, _WORDS, (batch, length), generator=torch.Generator().manual_seed(0))


def _text(model: type[nn.Module], config: type, **options: object) -> zoo.Network:
    """Return a network on token numbers."""
    settings = {"vocab_size": _WORDS, **_TEXT, **options}
    network = model(config(**settings, attn_implementation="eager"))
    return zoo.Network(_Tokens(network, "input_ids"), {"input": _words()}, {"input": _ANY_TEXT})


def _pairs(model: type[nn.Module], config: type, **options: object) -> zoo.Network:
    """Return a network on two sequences of token numbers."""
    network = model(config(vocab_size=_WORDS, **options, attn_implementation="eager"))
    inputs = {"input": _words(), "decoder_input": _words(length=7)}
    symbolic = {"input": _ANY_TEXT, "decoder_input": {0: "batch", 1: "target"}}
    return zoo.Network(_Tokens(network, "input_ids", "decoder_input_ids"), inputs, symbolic)


def _picture(model: type[nn.Module], config: type, size: int, **options: object) -> zoo.Network:
    """Return a network on pictures."""
    network = model(config(**options, num_labels=_CLASSES, attn_implementation="eager"))
    return zoo.Network(_Tokens(network, "pixel_values"), zoo.images(size), zoo.ANY_BATCH)


def _albert() -> zoo.Network:
    t = transformers
    return _text(t.AlbertForSequenceClassification, t.AlbertConfig, embedding_size=32, num_labels=_CLASSES)


def _bert() -> zoo.Network:
    return _text(transformers.BertForSequenceClassification, transformers.BertConfig, num_labels=_CLASSES)


def _roberta() -> zoo.Network:
    t = transformers
    return _text(t.RobertaForSequenceClassification, t.RobertaConfig, num_labels=_CLASSES)


def _electra() -> zoo.Network:
    t = transformers
    return _text(t.ElectraForSequenceClassification, t.ElectraConfig, embedding_size=32, num_labels=_CLASSES)


def _deberta_v2() -> zoo.Network:
    t = transformers
    settings = {
        "relative_attention": True,
        "position_buckets": 8,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
    }
    return _text(
        t.DebertaV2ForSequenceClassification, t.DebertaV2Config, num_labels=_CLASSES, share_att_key=True, **settings
    )


def _distilbert() -> zoo.Network:
    t = transformers
    settings = {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128}
    config = t.DistilBertConfig(vocab_size=_WORDS, num_labels=_CLASSES, attn_implementation="eager", **settings)
    network = t.DistilBertForSequenceClassification(config)
    return zoo.Network(_Tokens(network, "input_ids"), {"input": _words()}, {"input": _ANY_TEXT})


def _gpt2() -> zoo.Network:
    t = transformers
    config = t.GPT2Config(
        n_embd=64, n_layer=2, n_head=4, vocab_size=_WORDS, n_positions=64, attn_implementation="eager"
    )
    return zoo.Network(_Tokens(t.GPT2LMHeadModel(config), "input_ids"), {"input": _words()}, {"input": _ANY_TEXT})


def _gpt_neox() -> zoo.Network:
    return _text(transformers.GPTNeoXForCausalLM, transformers.GPTNeoXConfig)


def _opt() -> zoo.Network:
    t = transformers
    return _text(t.OPTForCausalLM, t.OPTConfig, ffn_dim=128, max_position_embeddings=64, word_embed_proj_dim=64)


def _llama() -> zoo.Network:
    return _text(transformers.LlamaForCausalLM, transformers.LlamaConfig, num_key_value_heads=2)


def _mistral() -> zoo.Network:
    t = transformers
    return _text(t.MistralForCausalLM, t.MistralConfig, num_key_value_heads=2, head_dim=16, sliding_window=8)


def _qwen2() -> zoo.Network:
    return _text(transformers.Qwen2ForCausalLM, transformers.Qwen2Config, num_key_value_heads=2)


def _gemma() -> zoo.Network:
    return _text(transformers.GemmaForCausalLM, transformers.GemmaConfig, num_key_value_heads=1, head_dim=16)


def _t5() -> zoo.Network:
    t = transformers
    settings = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
    return _pairs(t.T5ForConditionalGeneration, t.T5Config, **settings)


def _bart() -> zoo.Network:
    t = transformers
    layers = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    widths = {"d_model": 64, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "max_position_embeddings": 64}
    return _pairs(t.BartForConditionalGeneration, t.BartConfig, **layers, **widths)


def _vit() -> zoo.Network:
    t = transformers
    return _picture(t.ViTForImageClassification, t.ViTConfig, 64, image_size=64, patch_size=16, **_TEXT)


def _swin() -> zoo.Network:
    t = transformers
    settings = {"embed_dim": 32, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "patch_size": 4}
    return _picture(t.SwinForImageClassification, t.SwinConfig, 64, image_size=64, **settings)


def _segformer() -> zoo.Network:
    t = transformers
    settings = {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 64, 64], "decoder_hidden_size": 64}
    return _picture(t.SegformerForSemanticSegmentation, t.SegformerConfig, 64, **settings)


def _detr() -> zoo.Network:
    t = transformers
    body = t.ResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 64, 96, 128],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage4"],
    )
    settings = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    widths = {"d_model": 64, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "num_queries": 12}
    config = t.DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=body,
        num_labels=_CLASSES,
        attn_implementation="eager",
        **settings,
        **widths,
    )
    return zoo.Network(_Boxes(t.DetrForObjectDetection(config), "pixel_values"), zoo.images(96), zoo.ANY_BATCH)


def _clip() -> zoo.Network:
    t = transformers
    text = {"vocab_size": _WORDS, "max_position_embeddings": 32, "eos_token_id": _WORDS - 1, **_TEXT}
    vision = {"image_size": 64, "patch_size": 16, **_TEXT}
    config = t.CLIPConfig(text_config=text, vision_config=vision, projection_dim=48, attn_implementation="eager")
    network = _Clip(t.CLIPModel(config), "input_ids", "pixel_values")
    inputs = {"input": _words(), "image": zoo.images(64)["input"]}
    return zoo.Network(network, inputs, {"input": {0: "texts"}, "image": {0: "batch"}})


def _whisper() -> zoo.Network:
    t = transformers
    layers = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    widths = {"d_model": 64, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "num_mel_bins": 20}
    lengths = {"max_source_positions": 32, "max_target_positions": 32}
    tokens = {
        "vocab_size": _WORDS,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    }
    config = t.WhisperConfig(attn_implementation="eager", **layers, **widths, **lengths, **tokens)
    network = _Tokens(t.WhisperForConditionalGeneration(config), "input_features", "decoder_input_ids")
    sound = torch.randn(2, 20, 64, generator=torch.Generator().manual_seed(0))
    symbolic = {"input": {0: "batch"}, "decoder_input": {0: "batch", 1: "target"}}
    return zoo.Network(network, {"input": sound, "decoder_input": _words(length=7)}, symbolic)


def _wav2vec2() -> zoo.Network:
    t = transformers
    layers = {"conv_dim": (32, 32, 32), "conv_stride": (5, 4, 2), "conv_kernel": (10, 8, 4)}
    config = t.Wav2Vec2Config(
        vocab_size=32,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        attn_implementation="eager",
        **_TEXT,
        **layers,
    )
    sound = torch.randn(2, 2000, generator=torch.Generator().manual_seed(0))
    network = _Tokens(t.Wav2Vec2ForCTC(config), "input_values")
    return zoo.Network(network, {"input": sound}, {"input": {0: "batch"}})


_BUILDERS: dict[str, Callable[[], zoo.Network]] = {
    "albert": _albert,
    "bart": _bart,
    "bert": _bert,
    "clip": _clip,
    "deberta_v2": _deberta_v2,
    "detr": _detr,
    "distilbert": _distilbert,
    "electra": _electra,
    "gemma": _gemma,
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
    "llama": _llama,
    "mistral": _mistral,
    "opt": _opt,
    "qwen2": _qwen2,
    "roberta": _roberta,
    "segformer": _segformer,
    "swin": _swin,
    "t5": _t5,
    "vit": _vit,
    "wav2vec2": _wav2vec2,
    "whisper": _whisper,
}


def build(name: str) -> zoo.Network:
    """Build one of the transformers."""
    return _BUILDERS[name.removeprefix("hf_")]()

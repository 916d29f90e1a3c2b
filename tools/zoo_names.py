"""The networks of the zoo: names only, so that nothing has to be imported to list them.

`resnet18` is torchvision's classifier of that name, `fcn_resnet50` a segmentation network, `fcos_resnet50_fpn` the
body and heads of a detector (without the selection of boxes); `timm_` and `hf_` come before the names of timm's
networks and of small transformers made from a configuration.
"""

from __future__ import annotations


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CLASSIFICATION = _names("""
    alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161 densenet169
    densenet201 efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5
    efficientnet_b6 efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s googlenet inception_v3
    maxvit_t mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small
    regnet_x_16gf regnet_x_1_6gf regnet_x_32gf regnet_x_3_2gf regnet_x_400mf regnet_x_800mf regnet_x_8gf
    regnet_y_16gf regnet_y_1_6gf regnet_y_32gf regnet_y_3_2gf regnet_y_400mf regnet_y_800mf regnet_y_8gf resnet101
    resnet152 resnet18 resnet34 resnet50 resnext101_32x8d resnext101_64x4d resnext50_32x4d shufflenet_v2_x0_5
    shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_b swin_s swin_t
    swin_v2_b swin_v2_s swin_v2_t vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn vit_b_16 vit_b_32
    vit_l_16 vit_l_32 wide_resnet101_2 wide_resnet50_2
""")
# More than two gigabytes each: their weights go beside the file.
HUGE = _names("""
    regnet_y_128gf vit_h_14
""")
SEGMENTATION = _names("""
    deeplabv3_mobilenet_v3_large deeplabv3_resnet101 deeplabv3_resnet50 fcn_resnet101 fcn_resnet50
    lraspp_mobilenet_v3_large
""")
DETECTION = _names("""
    fasterrcnn_mobilenet_v3_large_320_fpn fasterrcnn_mobilenet_v3_large_fpn fasterrcnn_resnet50_fpn
    fasterrcnn_resnet50_fpn_v2 fcos_resnet50_fpn keypointrcnn_resnet50_fpn maskrcnn_resnet50_fpn
    maskrcnn_resnet50_fpn_v2 retinanet_resnet50_fpn retinanet_resnet50_fpn_v2 ssd300_vgg16
    ssdlite320_mobilenet_v3_large
""")
_TIMM = _names("""
    beit_base_patch16_224 cait_xxs24_224 coat_tiny coat_lite_tiny convmixer_768_32 convnext_atto convnextv2_atto
    crossvit_tiny_240 deit3_small_patch16_224 deit_tiny_distilled_patch16_224 densenetblur121d dpn48b dpn68
    edgenext_xx_small efficientformer_l1 efficientformerv2_s0 efficientnet_lite0 tf_efficientnetv2_b0 mixnet_s
    tinynet_e efficientvit_b0 efficientvit_m0 eva02_tiny_patch14_224 fastvit_t8 focalnet_tiny_srf ghostnet_050
    ghostnetv2_100 hgnetv2_b0 hrnet_w18_small inception_next_atto levit_128s levit_conv_128s maxvit_rmlp_pico_rw_256
    coatnet_pico_rw_224 caformer_s18 convformer_s18 poolformerv2_s12 poolformer_s12 mixer_s32_224 gmixer_12_224
    gmlp_ti16_224 resmlp_12_224 mobilenetv4_conv_small mobilenetv4_hybrid_medium mobileone_s0 mobilevit_xxs
    mobilevitv2_050 mvitv2_tiny nest_tiny eca_nfnet_l0 nf_resnet26 nf_regnet_b0 nextvit_small pit_ti_224 pvt_v2_b0
    regnetx_002 regnety_002 regnetz_005 repvgg_a0 repvit_m0_9 res2net50_14w_8s res2net50_26w_4s resnest14d
    resnetv2_18 resnetv2_50x1_bit rexnet_100 sequencer2d_s skresnet18 swin_tiny_patch4_window7_224
    swinv2_tiny_window8_256 swinv2_cr_tiny_224 tiny_vit_5m_224 tnt_s_patch16_224 twins_pcpvt_small twins_svt_small
    vgg11 vit_tiny_patch16_224 vit_relpos_small_patch16_224 volo_d1_224 vovnet39a ese_vovnet19b_slim xception41
    legacy_xception xcit_nano_12_p16_224 visformer_tiny davit_tiny gcvit_xxtiny hardcorenas_a mnasnet_small
    tresnet_m selecsls42 cspresnet50 darknet53 cspdarknet53 dla34 gernet_s starnet_s050 hiera_tiny_224 botnet26t_256
    halonet26t lambda_resnet26t gcresnext26ts ecaresnet26t legacy_seresnet18 inception_v4 inception_resnet_v2
    repghostnet_050 fasternet_t0 mambaout_femto shvit_s1 swiftformer_xs rdnet_tiny lcnet_050 mobilenetv3_small_050
    efficientvim_m1 iformer_t lowformer_b0 vitamin_small_224 vit_small_r26_s32_224 ghostnetv3_050 nasnetalarge
    pnasnet5large
""")
_TRANSFORMERS = _names("""
    bert roberta distilbert albert deberta_v2 electra gpt2 gpt_neox opt llama mistral qwen2 gemma t5 bart vit swin
    detr segformer clip whisper wav2vec2
""")
TORCHVISION = (*CLASSIFICATION, *SEGMENTATION, *DETECTION)
TIMM = tuple(f"timm_{name}" for name in _TIMM)
TRANSFORMERS = tuple(f"hf_{name}" for name in _TRANSFORMERS)
# The networks whose shares the README shows.
README = _names("""
    resnet18 resnet50 resnext50_32x4d densenet121 googlenet inception_v3 mobilenet_v2 mobilenet_v3_large
    efficientnet_b0 regnet_y_400mf squeezenet1_1 shufflenet_v2_x1_0 vgg11_bn
""")
LIBRARIES = {
    "torchvision": TORCHVISION,
    "timm": TIMM,
    "transformers": TRANSFORMERS,
    "huge": HUGE,
    "readme": README,
}


def module_of(name: str) -> str:
    """Return the name of the module that builds a network."""
    prefix = name.partition("_")[0]
    return {"timm": "zoo_timm", "hf": "zoo_transformers"}.get(prefix, "zoo_torchvision")

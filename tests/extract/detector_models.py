"""Tiny Hugging Face detectors of several families, with random weights, and the names of COCO's categories."""

import torch
import transformers

COCO = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag,
tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote,
keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush"""
NAMES = COCO.replace("\n", " ").split(", ")
IDS = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]  # of these names, in this order
VOC = {
    "motorcycle": "motorbike", "airplane": "aeroplane", "couch": "sofa", "potted plant": "pottedplant",
    "dining table": "diningtable", "tv": "tvmonitor",
}  # fmt: skip
ALL = dict.fromkeys(range(91), "N/A") | dict(zip(IDS, NAMES, strict=True))  # as DETR has them
EIGHTY = dict(enumerate(VOC.get(name, name) for name in NAMES))  # as RT-DETR has them
LAYERS = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_queries": 12,
}  # fmt: skip
STAGES = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
RESNET = {"model_type": "resnet", **STAGES, "out_features": ["stage4"]}
RT_RESNET = {"model_type": "rt_detr_resnet", **STAGES, "out_features": ["stage2", "stage3", "stage4"]}
DETR = LAYERS | {"backbone_config": RESNET, "init_std": 0.4, "init_xavier_std": 5.0}
RT_DETR = LAYERS | {
    "backbone_config": RT_RESNET, "encoder_hidden_dim": 32, "encoder_in_channels": [8, 16, 16],
    "decoder_in_channels": [32, 32, 32], "initializer_range": 0.3,
}  # fmt: skip
YOLOS = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32,
    "image_size": [64, 64], "patch_size": 16, "num_detection_tokens": 12, "initializer_range": 0.4,
}  # fmt: skip
EDGES, SQUARE = {"shortest_edge": 64, "longest_edge": 320}, {"height": 64, "width": 64}
# sizes, processor, its size, names of classes
FAMILIES = {
    "detr": (DETR, "DetrImageProcessor", EDGES, ALL),
    "conditional_detr": (DETR, "ConditionalDetrImageProcessor", EDGES, ALL),
    "rt_detr": (RT_DETR, "RTDetrImageProcessor", SQUARE, EIGHTY),
    "rt_detr_v2": (RT_DETR, "RTDetrImageProcessor", SQUARE, EIGHTY),
    "yolos": (YOLOS, "YolosImageProcessor", EDGES, ALL),
}
CLASS = {
    "detr": "DetrForObjectDetection", "conditional_detr": "ConditionalDetrForObjectDetection",
    "rt_detr": "RTDetrForObjectDetection", "rt_detr_v2": "RTDetrV2ForObjectDetection",
    "yolos": "YolosForObjectDetection",
}  # fmt: skip


def save(family, folder, names=None):
    """Write a tiny detector of a family with random weights into a folder."""
    sizes, processor, size, usual = FAMILIES[family]
    names = usual if names is None else names
    config = transformers.CONFIG_MAPPING[family](**sizes, id2label=names, label2id={n: i for i, n in names.items()})
    torch.manual_seed(0)
    transformers.AutoModelForObjectDetection.from_config(config).save_pretrained(folder)
    getattr(transformers, processor)(size=size).save_pretrained(folder)
    return folder

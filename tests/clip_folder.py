"""A tiny random CLIP as transformers saves it, and the head of LAION-AES as its authors define it."""

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel


def clip_folder(folder: Path, dimensions: int = 8) -> CLIPModel:
    """Write it, for pictures of 32² pixels and texts of 50 tokens; returns it ready to be used."""
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**small, "vocab_size": 50, "max_position_embeddings": 12},
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=dimensions,
    )
    model = CLIPModel(config).eval()
    model.save_pretrained(folder)
    return model


def laion_head(dimensions: int) -> torch.nn.Module:
    """Five linear layers with dropout between them, narrower than the real ones."""
    nn = torch.nn
    torch.manual_seed(1)
    layers = nn.Sequential(
        *(nn.Linear(dimensions, 10), nn.Dropout(0.2), nn.Linear(10, 8), nn.Dropout(0.2), nn.Linear(8, 6)),
        *(nn.Dropout(0.1), nn.Linear(6, 4), nn.Linear(4, 1)),
    )
    return nn.ModuleDict({"layers": layers}).eval()

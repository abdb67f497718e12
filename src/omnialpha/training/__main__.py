"""Make the embedded checkpoint: `python -m omnialpha.training {vae,joint,finetune,publish} --corpora DIR --out DIR`.

Run the stages in this order (`runs/nano_cpu.sh` does); each resumes where it was stopped. ``--set key=value`` changes a
setting of the recipe.
"""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKLQwenImage

from omnialpha.data.scenes import Corpus
from omnialpha.errors import InputError
from omnialpha.pipeline import OmniAlphaPipeline
from omnialpha.training import recipes
from omnialpha.training.dit import train_joint
from omnialpha.training.nano import build_pipeline, nano_profile, train_tokenizer
from omnialpha.training.publish import publish
from omnialpha.training.vae import train_vae


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(prog="python -m omnialpha.training", description=__doc__)
    parser.add_argument("stage", choices=["vae", "joint", "finetune", "publish"])
    parser.add_argument("--corpora", required=True, help="folder made by python -m omnialpha.data.corpora")
    parser.add_argument("--out", required=True, type=Path, help="folder of the run: checkpoints, log, result")
    parser.add_argument("--vae", type=Path, help="joint: the VAE folder made by the vae stage")
    parser.add_argument("--pipeline", type=Path, help="finetune: the pipeline folder made by the joint stage")
    parser.add_argument("--runs", type=Path, nargs="+", help="publish: the run folders of all stages, first to last")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    torch.set_flush_denormal(True)  # tiny values early in training slow CPUs down a hundredfold

    for change in options.set:
        if "=" not in change:
            raise InputError(f"--set takes key=value, received {change!r}.")
    changes = dict(change.split("=", 1) for change in options.set)
    if options.stage == "publish":
        if not options.runs:
            raise InputError("publish needs --runs, the run folders of all stages, first to last.")
        publish(options.runs[-1], options.out, earlier=options.runs[:-1], corpora=Path(options.corpora))
        return
    corpus = Corpus(options.corpora, "train")
    if options.stage == "vae":
        train_vae(recipes.override(recipes.nano_vae(), changes), corpus, options.out)
    elif options.stage == "joint":
        if options.vae is None:
            raise InputError("the joint stage needs --vae, the folder made by the vae stage.")
        config = recipes.override(recipes.nano_joint(), changes)
        torch.manual_seed(config.seed)
        vae = AutoencoderKLQwenImage.from_pretrained(options.vae)
        pipeline = build_pipeline(config, vae, train_tokenizer(corpus.words()))
        train_joint(config, pipeline, corpus, options.out)
    else:
        if options.pipeline is None:
            raise InputError("the finetune stage needs --pipeline, the folder made by the joint stage.")
        config = recipes.override(recipes.nano_finetune(), changes)
        pipeline = OmniAlphaPipeline.from_pretrained(options.pipeline, profile=nano_profile(config))
        train_joint(config, pipeline, corpus, options.out)


if __name__ == "__main__":
    main()

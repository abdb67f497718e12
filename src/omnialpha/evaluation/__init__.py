"""Metrics: what the tables of the paper are made of.

- `matting`: SAD, MSE, MAD, GRAD, CONN of alpha mattes
- `generation`: Fréchet distances, CLIP-Score, PSNR, SSIM, LPIPS, and RGBA pictures over nine backgrounds
- `layers`: layers, sequences of layers, recomposition

Every metric is a pure function of one prediction and its target, or of collected features. `accumulate.Mean` averages
per-image values over a data set and over processes; `accumulate.DIRECTION` says which way is better.
"""

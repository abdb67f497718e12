"""Metrics, and the benchmarks that apply them to any method: what the tables of the paper are made of.

Metrics are pure functions of one prediction and its target, or of collected features:

- `matting`: SAD, MSE, MAD, GRAD, CONN of alpha mattes
- `generation`: Fréchet distances, CLIP-Score, PSNR, SSIM, LPIPS, and RGBA pictures over nine backgrounds
- `layers`: layers, sequences of layers, recomposition
- `accumulate`: means over a data set that merge across processes; which direction is better

A run goes through these in turn:

- `benchmark`: the benchmarks by name, each a list of `cases` (`public_cases`, `manifest_cases`, `folders`)
- `plan`, `methods`, `baselines`: all that determines the numbers of a run; what makes its predictions
- `harness`: predict, save, score (`predictions`, `pictures`, `scoring`), one record per case
- `results`, `report`, `tables`, `page`: results.json, the tables, the HTML page
- `compare`: two runs, image by image

`judge` and `study` ask a VLM and people to choose between two methods' results, which `handover` puts together.
"""

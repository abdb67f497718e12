"""From two methods' predictions to the folder of pairs that judges and annotators choose between (Table 3)."""

from pathlib import Path

import numpy as np

from omnialpha.errors import ImageError, InputError
from omnialpha.evaluation.cases import Case, flat
from omnialpha.evaluation.harness import saved_predictions
from omnialpha.evaluation.pairs import Pair, write_pairs
from omnialpha.evaluation.plan import Plan
from omnialpha.evaluation.predictions import Predictions, read_prediction
from omnialpha.imaging.rgba import save_png, to_pil


def write_judging_folder(plan: Plan, out: Path, rival: Path, names: tuple[str, str], folder: Path) -> list[str]:
    """Put the inputs and both methods' results of every case into one folder with `pairs.jsonl`.

    Args:
        plan: A finished run, whose wins are to be counted.
        out: Its output folder.
        rival: Folder of the other method's predictions.
        names: Of the two methods.
        folder: Where to write.

    Returns:
        The cases that are left out, because one of the methods has no usable prediction, each with the reason.

    Raises:
        InputError: The rival's folder holds none of the predictions, or both methods have one name.
        OutputError: It cannot be written.
    """
    if names[0] == names[1]:
        raise InputError(f'both methods are called "{names[0]}"; rename the folder of the other one')
    others = Predictions(rival, plan.all_cases)
    others.require_any(plan.all_cases)
    sources = (saved_predictions(plan, out), others)
    pairs, left_out = [], []
    for case in plan.cases:
        try:
            pairs.append(_pair(case, sources, names, folder))
        except (ImageError, InputError) as error:
            left_out.append(str(error))
    write_pairs(pairs, folder)
    return left_out


def _pair(case: Case, sources: tuple[Predictions, Predictions], names: tuple[str, str], folder: Path) -> Pair:
    pictures = [read_prediction(source.find(case), case, lambda note: None) for source in sources]
    images = case.read(lambda note: None).images
    file_name = f"{case.task}.{case.id}.png"
    files = [folder / place / file_name for place in ("first", "second")]
    for picture, file in zip(pictures, files, strict=True):
        save_png(to_pil(flat(picture) if isinstance(picture, list) else np.asarray(picture)), file, overwrite=True)
    condition = folder / "inputs" / file_name if images else None
    if condition is not None:
        save_png(images[0], condition, overwrite=True)
    return Pair(
        id=f"{case.task}.{case.id}",
        task=case.task,
        text=case.text or "",
        candidates=dict(zip(names, files, strict=True)),
        condition=condition,
    )

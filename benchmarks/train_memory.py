"""Memory of training the 20B base by settings, reckoned from meta tensors; writes train_memory.json.

    python benchmarks/train_memory.py

The same table as `omnialpha doctor --plan train`. It needs neither weights nor a GPU: parameters are counted on the
real classes with the real adapter, activations are what autograd keeps of a block. Nothing here was measured on a GPU.
"""

import json
from pathlib import Path

from omnialpha.training.memory import table

RESULT = Path(__file__).with_suffix(".json")


def main() -> None:
    record = {
        "unit": "GB (1e9 bytes) on one GPU; trained: million parameters",
        "how": "reckoned from meta tensors, not measured",
        "load": "one sample at once: three pictures, 400 text tokens",
        "plans": table(),
    }
    RESULT.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{RESULT}: {len(record['plans'])} plans")


if __name__ == "__main__":
    main()

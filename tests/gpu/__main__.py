"""All that only a GPU can show, as a table: its numbers against the CPU's, and how fast it is.

    python -m tests.gpu

Neither Ray nor a store: raffect's own training and encoding on synthetic data of the real size
(features of 768, segments of 300, crops of 112 pixels, a ViT-B-16 with random weights). Ends with
1 if a number is wrong. `--device cpu --quick` shows that the table itself works, nothing more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch

from tests.gpu import numbers, speed
from tests.gpu.work import Scale


def main() -> int:
    """Print the table; 1 if a number is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny models and data")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("PyTorch can use no GPU here.", file=sys.stderr)
        return 2
    device = torch.device(options.device)
    scale = Scale.quick() if options.quick else Scale()
    if device.type == "cpu":
        torch.set_num_threads(1)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, PyTorch {torch.__version__}, synthetic data, random weights")
    print("\nAgainst the CPU")
    wrong = 0
    for check in numbers.CHECKS:
        result = run(check, device, scale)
        wrong += not result.startswith("right")
        print(f"  {(check.__doc__ or '').splitlines()[0]:<38} {result}", flush=True)
    print("\nSpeed")
    for measure in speed.MEASURES:
        for what, found in measure(device, scale):
            print(f"  {what:<32} {found}", flush=True)
    print(f"\n{wrong} of {len(numbers.CHECKS)} numbers wrong" if wrong else "\nAll numbers right")
    return int(wrong > 0)


def run(check: Callable[[torch.device, Scale], str], device: torch.device, scale: Scale) -> str:
    """What a check found, or what it failed with."""
    try:
        return f"right  {check(device, scale)}"
    except AssertionError as error:
        return f"WRONG  {error}"
    except Exception as error:
        return f"FAILED {type(error).__name__}: {str(error)[:60]}"


if __name__ == "__main__":
    sys.exit(main())

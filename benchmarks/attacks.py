"""Speed of the audit's attacks, side by side with what exists, in one JSON object.

    python benchmarks/attacks.py [--json] [--repetitions 10] [--iterations 100 300]
                                 [--step-size 0.05] [--negative] [--only inversion]

Inversion: our engine and breaching (Geiping et al.; PyPI `breaching` with hydra-core) on the same
LeNet, pictures, gradients, labels, starts, step size, weight of total variation and number of
iterations, one after the other in one process on one thread. breaching runs twice: with the decay
of the step that its "invertinggradients" has, and with its linear one, which is ours. What else
differs is total variation at the edges (attacks/inversion/gradient_inversion.py). Processor seconds
are counted, so that other work on the machine disturbs little. The floor is one evaluation of the
gradient and its derivative in the image, without matching, prior or optimizer: no engine that uses
autograd gets below it. Figures are milliseconds per iteration, lower is better, and of the results
`psnr_db`: median and mean over the pictures, and on how many of them ours is the higher one.

The cases of shadow models (shadow_gradients.py) and of RMIA (attack_statistics.py) join if their
scripts are beside this one; each says its own unit, and takes 3 repetitions. A peer that cannot run
is null with a `why`.
"""

import argparse
import importlib.util
import json
import logging
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# This file has the package's name: with its own folder in front, `attacks` would be this script.
HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE.parent)

import numpy as np  # noqa: E402  # after the path
import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from attacks.inversion.gradient_inversion import Recipe, invert  # noqa: E402
from attacks.inversion.quality import psnr  # noqa: E402
from attacks.inversion.reference_lenet import (  # noqa: E402
    IMAGE,
    ReferenceLeNet,
    gradients_of,
    smooth_picture,
)

TOTAL_VARIATION = 0.03
PEERS = {"breaching": "step-lr", "breaching, linear decay": "linear"}
JOINED = {
    "shadow_gradients": "gradients of 16 shadows against a loop",
    "attack_statistics": "RMIA against the naive matrix",
}


class Problem:
    """One picture and its gradient on the reference network."""

    def __init__(self, seed: int, negative: bool = False) -> None:
        self.seed = seed
        self.network, self.picture = ReferenceLeNet(seed), smooth_picture(seed)
        if negative:
            self.picture = 1 - self.picture
        self.label = torch.tensor([seed % 10])
        self.gradient = gradients_of(self.network, self.label)(self.picture[None]).detach()

    def quality(self, image: torch.Tensor) -> float:
        return psnr(self.picture.numpy(), image.numpy().astype(np.float32))


def our_attack(step_size: float) -> Callable[[Problem, int], torch.Tensor]:
    def attack(problem: Problem, iterations: int) -> torch.Tensor:
        recipe = Recipe(iterations, step_size, TOTAL_VARIATION)
        simulate = gradients_of(problem.network, problem.label)
        return invert(simulate, problem.gradient, IMAGE, recipe, problem.seed).images[0]

    return attack


def floor(problem: Problem, iterations: int) -> torch.Tensor:
    simulate = gradients_of(problem.network, problem.label)
    image = problem.picture[None].clone().requires_grad_(True)
    for _ in range(iterations):
        gradient = simulate(image)
        torch.autograd.grad(gradient, image, problem.gradient)
    return image.detach()[0]


def breachings_attack(decay: str, step_size: float) -> Callable[[Problem, int], torch.Tensor]:
    """breaching's "invertinggradients" with our settings; ImportError where it is missing.

    Args:
        decay: of the step, in breaching's words: "step-lr" or "linear".
    """
    # Declares the operators that torchvision's wheel lacks beside a CPU-only torch.
    importlib.import_module("securefed.model.vision")
    breaching = importlib.import_module("breaching")
    sys.stdout, kept = sys.stderr, sys.stdout  # it prints; our output is one JSON object
    try:
        settings = breaching.get_attack_config("invertinggradients")
    finally:
        sys.stdout = kept
    settings.optim.step_size_decay = decay
    settings.optim.step_size, settings.optim.callback = step_size, 10**9
    settings.regularization.total_variation.scale = TOTAL_VARIATION

    def attack(problem: Problem, iterations: int) -> torch.Tensor:
        torch.manual_seed(problem.seed)
        settings.optim.max_iterations = iterations
        loss = torch.nn.CrossEntropyLoss()
        attacker = breaching.attacks.prepare_attack(problem.network, loss, settings)
        parameters = list(problem.network.parameters())
        value = F.cross_entropy(problem.network(problem.picture[None]), problem.label)
        gradients = list(torch.autograd.grad(value, parameters))
        told = {"num_data_points": 1, "labels": problem.label, "local_hyperparams": None}
        sent = {
            "parameters": parameters,
            "buffers": None,
            "metadata": SimpleNamespace(shape=IMAGE, modality="vision"),
        }
        shared = {"gradients": gradients, "buffers": None, "metadata": told}
        found, _ = attacker.reconstruct([sent], [shared], {})
        return found["data"][0].detach()

    return attack


def inversion_case(
    repetitions: int, iterations: int, step_size: float, negative: bool
) -> dict[str, Any]:
    """Milliseconds per iteration and PSNR; each repetition is another picture and network."""
    runners = {"ours": our_attack(step_size), "floor": floor}
    why = None
    try:
        runners |= {name: breachings_attack(decay, step_size) for name, decay in PEERS.items()}
    except (ImportError, RuntimeError) as error:
        why = f"{type(error).__name__}: {error}"
    taken: dict[str, list[float]] = {name: [] for name in runners}
    quality: dict[str, list[float]] = {}
    for runner in runners.values():
        runner(Problem(0), 5)  # first calls compile and cache
    for seed in range(repetitions):
        problem = Problem(seed, negative)
        for name, runner in runners.items():
            start = time.process_time()
            image = runner(problem, iterations)
            taken[name].append((time.process_time() - start) / iterations * 1e3)
            if name != "floor":
                quality.setdefault(name, []).append(problem.quality(image))
    median = {name: statistics.median(values) for name, values in taken.items()}
    case = {
        "case": f"inversion, LeNet 32x32, {iterations} steps from {step_size:g}"
        f"{', negatives' if negative else ''}, ms per iteration",
        "ours": median["ours"],
        "peers": {name: median.get(name) for name in PEERS},
        "floor": median["floor"],
        "times_better": {
            name: median[name] / median["ours"] if name in median else None for name in PEERS
        },
        "of_floor": median["ours"] / median["floor"],
        "psnr_db": {name: _level(quality[name], quality["ours"]) for name in quality},
    }
    return case | ({"why": dict.fromkeys(PEERS, why)} if why else {})


def _level(values: list[float], ours: list[float]) -> dict[str, float]:
    found = {"median": statistics.median(values), "mean": statistics.mean(values)}
    if values is not ours:
        found["pictures"] = len(values)
        found["ours_higher_on"] = sum(a > b for a, b in zip(ours, values, strict=True))
    return found


def joined_cases() -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Cases of the scripts beside this one, and why one is missing."""
    found: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    for name, what in JOINED.items():
        path = HERE / f"{name}.py"
        if not path.exists():
            missing[what] = f"benchmarks/{path.name} is not there"
            continue
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} cannot be loaded")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        make = getattr(module, "cases", None)
        if make:
            found += make()
        else:  # attack_statistics has its cases under other names
            found += [module.time_case(3), *map(module.memory_case, module.MEMORY_SIZES)]
    return found, missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--iterations", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--step-size", type=float, default=0.05, help="of every engine")
    parser.add_argument("--negative", action="store_true", help="pictures of bright ground")
    parser.add_argument("--only", choices=["inversion"], help="leave the joined cases out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")  # the peer's, about its configuration
    cases = [
        inversion_case(options.repetitions, each, options.step_size, options.negative)
        for each in options.iterations
    ]
    joined, missing = ([], {}) if options.only else joined_cases()
    result = {
        "name": "attacks",
        "unit": "ms per iteration (inversion); others as each case says",
        "better": "lower",
        "repetitions": options.repetitions,
        "machine": f"{platform.machine()} {platform.system()}, 1 thread",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "cases": cases + joined,
    }
    if missing:
        result["missing"] = missing
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for case in result["cases"]:
        print(case["case"])
        for key in ("ours", "peers", "floor", "times_better", "of_floor", "psnr_db", "why"):
            if key in case:
                print(f"  {key}: {case[key]}")


if __name__ == "__main__":
    main()

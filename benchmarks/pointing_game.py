"""Whether the place that adds most to an answer lies in the tumour: a pointing game on phantoms.

    python benchmarks/pointing_game.py [--json] [--patients 200] [--rounds 20] [--epsilons 8]

Zhang et al. 2018 (IJCV 126:1084), section 4.1: of each held-out tumour patient one point is taken,
the centre of the place that adds most to the logit (`securefed explain`), and it is a hit where it
lies in the tumour or within half the distance of two places of it, in the same slice. The tumour is
where the CT changes with the lesion drawn and without it, core and oedema, also for patients whose
CT the model does not get. `chance` is the share of hits of a point drawn among the places whose
centre shows head, `untrained` that of a network nobody trained. Wilson's 95% intervals.

Three hospitals of 300 phantom patients train without privacy and at each epsilon (seeded noise);
the tumour patients pointed at are those among --patients of a fourth.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from securefed.config import Settings
from securefed.data.phantom import PhantomPatient, PhantomSpec, SiteProfile, generate
from securefed.model.network import FusionNetwork
from securefed.model.place_grid import PlaceGrid, place_grid
from securefed.model.rates import wilson
from securefed.prediction.explanation import explain
from securefed.prediction.model import ReleasedModel, load_model
from securefed.simulation.execution import execute

UNSEEN, SEED = 10, 77  # a hospital that no run here has
HEAD, CHANGED = 32, 24  # grey values: brighter is head, further apart is tumour

Case = tuple[PhantomPatient, NDArray[np.bool_], NDArray[np.bool_]]


def cases(spec: PhantomSpec, patients: int) -> Iterator[Case]:
    """Tumour patients, with tumour and head, both (slices, size, size)."""
    site = SiteProfile.draw(spec, UNSEEN, SEED)
    whole = replace(spec, missing_query=0.0, missing_context=0.0)
    bare = replace(whole, contrast=0.0)
    made = (generate(each, site, patients, SEED) for each in (spec, whole, bare))
    for given, full, empty in zip(*made, strict=True):
        if given.patient.label:
            with_it, without = (each.patient.images_of("ct").astype(int) for each in (full, empty))
            yield given, np.abs(with_it - without) > CHANGED, without > HEAD


def hits_of(grid: PlaceGrid, near: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(slices, side, side) places whose centre is in (slices, size, size)."""
    centres = np.array([grid.centre(place) for place in range(grid.side)])
    pixels = centres.round().astype(int).clip(0, near.shape[-1] - 1)
    return near[:, pixels[:, None], pixels]


def pointed(model: ReleasedModel, of: Sequence[Case]) -> tuple[int, float]:
    """Hits of the model, and the mean chance of a hit."""
    grid = place_grid(model.network)
    hits, chances = 0, []
    for phantom, tumour, head in of:
        shown = explain(model, phantom.patient)
        away = np.stack(
            [
                distance_transform_edt(~each) if each.any() else np.full(each.shape, np.inf)
                for each in tumour
            ]
        )
        hit = hits_of(grid, away <= grid.step / 2)[shown.numbers]
        hits += bool(hit[shown.place.slice, shown.place.row, shown.place.column])
        inside = hits_of(grid, head)[shown.numbers]
        chances.append(float((hit & inside).sum() / inside.sum()))
    return hits, float(np.mean(chances))


def trained(rounds: int, epsilon: float | None) -> ReleasedModel:
    privacy = {"seeded_noise": True, "epsilon": epsilon} if epsilon else {"dp": False}
    settings = Settings.model_validate(
        {
            "data": {"phantom": {"patients": 300, "test_patients": 30}},
            "federation": {"clients": 3, "rounds": rounds, "evaluate_every": rounds},
            "privacy": privacy,
            "secure_aggregation": {"enabled": False},
            "exposures": {"record": False},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        execute(settings, Path(folder) / "run")
        return load_model(Path(folder) / "run")


def untrained(model: ReleasedModel) -> ReleasedModel:
    torch.manual_seed(0)
    network = FusionNetwork(model.network.shape).eval().requires_grad_(False)
    return replace(model, network=network)


def measure(patients: int, rounds: int, epsilons: list[float]) -> list[dict[str, Any]]:
    found = []
    for epsilon in (None, *epsilons):
        model = trained(rounds, epsilon)
        of = list(cases(PhantomSpec(image_size=model.image_size), patients))
        hits, chance = pointed(model, of)
        without, _ = pointed(untrained(model), of)
        rate, plain = hits / len(of), without / len(of)
        found.append(
            {
                "case": f"tumour patients, {f'epsilon {epsilon:g}' if epsilon else 'no privacy'}",
                "ours": rate,
                "peers": {"chance": chance, "untrained": plain},
                "floor": None,
                "times_better": {"chance": rate / chance},
                "of_floor": None,
                "patients": len(of),
                "hits": hits,
                "interval": list(wilson(rate, len(of))),
                "interval_untrained": list(wilson(plain, len(of))),
            }
        )
        print(found[-1], file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--epsilons", type=float, nargs="*", default=[8.0])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(arguments.patients, arguments.rounds, arguments.epsilons)
    if arguments.json:
        columns = ["case", "patients", "hits", "95%", "95% untrained"]
        keys = ("case", "patients", "hits", "interval", "interval_untrained")
        report = {
            "name": "pointing game of contributions, on phantoms",
            "unit": "share of tumour patients whose tumour is pointed at",
            "better": "higher",
            "repetitions": 1,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "versions": {name: version(name) for name in ("torch", "numpy", "scipy")},
            "cases": found,
            "table": {"columns": columns, "rows": [[each[key] for key in keys] for each in found]},
        }
        print(json.dumps(report, indent=2))
        return
    for each in found:
        low, high = each["interval"]
        print(f"{each['case']}: {each['ours']:.3f} ({low:.3f} to {high:.3f}), {each['peers']}")


if __name__ == "__main__":
    main()

"""What federating is worth: each way of training, judged at hospitals that took no part.

    python benchmarks/federating.py --out FOLDER [--json] [--seeds 5] [--contrasts 1 2 3]

The task is configs/site-shift.yaml. For each seed, which draws hospitals, patients and initial
weights: all hospitals together without privacy (`together`), with DP at epsilon 8 and 2 (seeded
noise, so that a figure can be repeated), each hospital alone for as many rounds (`alone`, the mean;
`best alone`), all of them with their CT or their MRI only (and of those who have it), and late
fusion, the mean of those two models' logits, or the one that there is. Every run is a directory in
FOLDER; one that is finished, of the same settings, is not made again.

Judged on 100 patients of each of four hospitals that no run has, with the modalities that they
have; AUC is the mean over the four. `ceiling` knows the generator: who shows which finding where,
and of a patient with one modality how probable a tumour is given its finding. `floor` has no
parameters: how bright the brightest hundredth of a patient's pixels is. `ours` is the mean over the
seeds, `interval` Student's 95% of it, `loss` that of the differences from `together`, pair by pair.
With --contrasts, together and epsilon 8 at other contrasts of the lesions, as well.
"""

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from means import mean_and_interval
from numpy.typing import NDArray

from securefed.config import Settings
from securefed.config.loading import load
from securefed.data.phantom import PhantomPatient, PhantomSpec, SiteProfile, generate
from securefed.model.auc import area_of_scores
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors
from securefed.model.scores import score
from securefed.prediction.model import load_model
from securefed.run_directory import Run
from securefed.simulation.baselines import train_by_itself
from securefed.simulation.execution import execute
from securefed.simulation.patients import load_data, phantom_spec
from securefed.training.patients import stack

CONFIG = Path(__file__).parent.parent / "configs" / "site-shift.yaml"
UNSEEN = range(100, 104)  # hospitals' numbers that no run here has
PATIENTS = 100  # of each
Scores = NDArray[np.floating[Any]]

PLAIN = {"privacy.dp": False, "privacy.placement": "local"}
PRIVATE = {"privacy.seeded_noise": True, "privacy.evaluation_epsilon": None}
WAYS: dict[str, dict[str, Any]] = {
    "together": PLAIN,
    "epsilon 8": {**PRIVATE, "privacy.epsilon": 8.0},
    "epsilon 2": {**PRIVATE, "privacy.epsilon": 2.0},
    "CT only": {**PLAIN, "data.phantom.scanners": [["ct"]]},
    "MRI only": {**PLAIN, "data.phantom.scanners": [["mri"]]},
}
SHOWN = {"CT only": "ct", "MRI only": "mri"}


@dataclass(frozen=True, eq=False)
class Unseen:
    """A hospital that takes no part: its patients with what the generator knows, and as tensors."""

    patients: list[PhantomPatient]
    group: PatientTensors

    def auc(self, scores: Scores) -> float:
        """Of the patients who have a score."""
        scored = ~np.isnan(scores)
        return area_of_scores(scores[scored], self.group.label.numpy()[scored] == 1)


def settings(way: str, seed: int, also: dict[str, Any]) -> Settings:
    """Those of the task, for one way of training."""
    return load(CONFIG, {"seed": seed, "exposures.record": False, **WAYS[way], **also})


def unseen(spec: PhantomSpec, seed: int, slices: int) -> list[Unseen]:
    found = []
    for number in UNSEEN:
        made = generate(spec, SiteProfile.draw(spec, number, seed), PATIENTS, seed)
        found.append(Unseen(made, stack([each.patient for each in made], slices)))
    return found


def of_scores(hospitals: list[Unseen], scored: Callable[[Unseen], Scores]) -> float:
    """AUC, the mean over the hospitals."""
    return float(np.mean([each.auc(scored(each)) for each in hospitals]))


def scorer(network: FusionNetwork, shown: str | None = None) -> Callable[[Unseen], Scores]:
    """Logits of a hospital's patients, or of one of their modalities: nan of those without it."""

    def logits(hospital: Unseen) -> Scores:
        group, has = hospital.group, np.ones(len(hospital.group), np.bool_)
        if shown:
            has = group.present[:, group.modalities.index(shown)].any(dim=1).numpy()
            group = group.only(shown)
        found = np.full(len(has), np.nan)
        found[has] = score(network, tokens_of(network, group), encoded=True).numpy()
        return found

    return logits


def trained(folder: Path, wanted: Settings) -> FusionNetwork:
    """The model of a run, which is made unless one of these settings is there."""
    if not (folder / "summary.json").is_file() or Run.open(folder).settings != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        execute(wanted, folder)
    return load_model(folder).network


def alone(folder: Path, wanted: Settings, hospitals: list[Unseen]) -> list[float]:
    """AUC of each hospital's own model; written down, since such a model is no run."""
    file, of = folder / "alone.json", wanted.model_dump(mode="json")
    there = json.loads(file.read_text()) if file.is_file() else {}
    if there.get("settings") != of:
        data, found = load_data(wanted), []
        for own in data.hospitals:
            place = folder / "alone"
            shutil.rmtree(place, ignore_errors=True)
            trainer, _ = train_by_itself(wanted, own, data.simulation, place)
            found.append(of_scores(hospitals, scorer(trainer.network)))
        there = {"settings": of, "auc": found}
        file.write_text(json.dumps(there))
    return [float(each) for each in there["auc"]]


def ceiling(spec: PhantomSpec) -> Callable[[Unseen], Scores]:
    """Probability of a tumour given all that the generator knows of what is shown."""
    alone = 0.5 / (0.5 + 0.5 * (spec.rho + (1 - spec.rho) * spec.kappa / 2))

    def known(patient: PhantomPatient) -> float:
        shows = patient.patient.present.any(axis=1)
        if shows.all():
            return float(patient.patient.label)
        return alone * float(patient.evidence[shows].any())

    return lambda hospital: np.array([known(each) for each in hospital.patients])


def floor(hospital: Unseen) -> Scores:
    shown = [each.patient.images[each.patient.present] for each in hospital.patients]
    return np.array([np.quantile(each, 0.99) for each in shown])


def of_seed(folder: Path, seed: int, also: dict[str, Any]) -> dict[str, float]:
    """Way of training -> AUC. Of another contrast than the task's, two of them."""
    task = settings("together", seed, also)
    spec = phantom_spec(task)
    hospitals = unseen(spec, seed, task.training.max_slices)
    whole = "data.phantom.contrast" not in also
    networks = {
        way: trained(folder / way.replace(" ", "-"), settings(way, seed, also))
        for way in (WAYS if whole else ("together", "epsilon 8"))
    }
    scored = {way: scorer(each, SHOWN.get(way)) for way, each in networks.items()}
    if whole:
        ct, mri = scored["CT only"], scored["MRI only"]
        scored["late fusion"] = lambda hospital: np.nanmean([ct(hospital), mri(hospital)], axis=0)
    found = {way: of_scores(hospitals, each) for way, each in scored.items()}
    if whole:
        own = alone(folder, task, hospitals)
        found |= {"alone": float(np.mean(own)), "best alone": max(own)}
    known = {"ceiling": ceiling(spec), "floor": floor}
    return found | {name: of_scores(hospitals, each) for name, each in known.items()}


def cases(found: list[dict[str, float]], label: str) -> Iterator[dict[str, Any]]:
    for name in found[0]:
        values = [each[name] for each in found]
        mean, interval = mean_and_interval(values)
        losses = [each["together"] - each[name] for each in found]
        yield {
            "case": f"{name}{label}",
            "ours": mean,
            "peers": {},
            "floor": None,
            "times_better": {},
            "of_floor": None,
            "interval": interval,
            "loss": mean_and_interval(losses),
            "auc_by_seed": values,
        }


def measure(
    folder: Path, seeds: int, contrasts: list[float], also: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    for contrast in (None, *contrasts):
        label = "" if contrast is None else f", contrast {contrast:g}"
        wanted = also if contrast is None else {**also, "data.phantom.contrast": contrast}
        found = []
        for seed in range(seeds):
            found.append(of_seed(folder / f"seed-{seed}{label.replace(', ', '-')}", seed, wanted))
            print(f"seed {seed}{label}: {found[-1]}", file=sys.stderr, flush=True)
        yield from cases(found, label)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of run directories")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--contrasts", type=float, nargs="*", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    all_cases = list(measure(arguments.out, arguments.seeds, arguments.contrasts, {}))
    if arguments.json:
        report = {
            "name": "what federating is worth",
            "unit": "area under the ROC curve, mean over four hospitals that took no part",
            "better": "higher",
            "repetitions": arguments.seeds,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "versions": {name: version(name) for name in ("torch", "numpy", "opacus")},
            "cases": all_cases,
            "table": {
                "columns": ["trained", "AUC", "95%", "below together", "95%"],
                "rows": [
                    [each["case"], each["ours"], each["interval"], *each["loss"]]
                    for each in all_cases
                ],
            },
        }
        print(json.dumps(report, indent=2))
        return
    for each in all_cases:
        mean, loss = each["ours"], each["loss"]
        print(f"{each['case']:<24}{mean:.3f} {each['interval']}, loss {loss[0]:.3f} {loss[1]}")


if __name__ == "__main__":
    main()

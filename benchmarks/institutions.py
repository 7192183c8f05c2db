"""Real institutions: each left out in turn, and answered for by models that the others trained.

    python benchmarks/institutions.py MANIFEST [--config configs/lgg.yaml] [--seeds 5] [--json]
        [--ways fusion query alone] [--set KEY=VALUE ...] [--masks NAME,NAME ...]

MANIFEST has a column `site` and a label for each slice (docs/benchmarks-real.md has how to obtain
one). Every patient of the other institutions trains, and every slice of the one left out is scored.

    fusion      federated without privacy: the query attends to its context
    query       the same federation, in which nobody has anything but the query
    alone       each of the others by itself, with fusion; mean and best of them
    dp image    fusion, and --dp-set, at epsilon 8; a record is a slice, the weaker unit
    dp patient  the same; a record is a patient with all slices

AUC is of slices, the mean over the institutions left out and the seeds. Intervals are of 95%, of a
bootstrap over patients with all their slices (Efron & Tibshirani 1993, chapter 13), in each
institution by itself; patients drawn are the same for every way, so that `gain` is of pairs. They
are over who is answered for, not over who trained. `--masks` scores the fusion's models again as if
scans of these names had not been made.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from securefed.config import Settings, load
from securefed.data.load import FederatedData, HospitalData, load_manifest
from securefed.data.pseudonyms import PHANTOM_KEY
from securefed.data.samples import Patient
from securefed.errors import Interrupted
from securefed.model.auc import area_of_scores
from securefed.model.encoding import tokens_of
from securefed.model.network import FusionNetwork
from securefed.model.patients import PatientTensors
from securefed.model.scores import score
from securefed.prediction.model import load_model
from securefed.simulation.baselines import train_by_itself
from securefed.simulation.execution import execute
from securefed.simulation.hospitals import here
from securefed.training.patients import stack

ROOT = Path(__file__).resolve().parents[1]
WAYS = ("fusion", "query", "alone", "dp image", "dp patient")
DRAWS = 1000
Floats = NDArray[np.float64]
# Of one seed: way -> institution left out -> (1 + draws,) areas.
Areas = dict[str, dict[str, Floats]]


@dataclass(frozen=True)
class Unseen:
    """An institution that is left out.

    Attributes:
        group: its slices, an example each.
        draws: (DRAWS, patients) how often each patient is drawn.
    """

    name: str
    group: PatientTensors
    draws: NDArray[np.int64]

    @classmethod
    def of(
        cls, name: str, patients: Sequence[Patient], max_slices: int, number: int, draws: int
    ) -> "Unseen":
        shares = np.full(len(patients), 1 / len(patients))
        drawn = np.random.default_rng(number).multinomial(len(patients), shares, size=draws)
        return cls(name, stack(patients, max_slices), drawn)

    def areas(self, scores: Floats) -> Floats:
        """(1 + DRAWS,) AUC of all slices, then of each draw of patients."""
        positive, patient = self.group.label.numpy() == 1, self.group.patient.numpy()
        found = [area_of_scores(scores, positive)]
        found += [area_of_scores(scores, positive, drawn[patient]) for drawn in self.draws + 0.0]
        return np.array(found)


def answers(network: FusionNetwork, group: PatientTensors) -> Floats:
    network.eval()
    logits: Floats = score(network, tokens_of(network, group), encoded=True).double().numpy()
    return logits


def without(group: PatientTensors, names: Sequence[str]) -> PatientTensors:
    """As if nobody had scans of these names."""
    present = group.present.clone()
    present[:, [group.modalities.index(name) for name in names]] = False
    return replace(group, present=present)


def federated(
    settings: Settings, hospitals: list[HospitalData], folder: Path, view: str | None = None
) -> FusionNetwork:
    """The final model of a federation; `view`: of hospitals with this modality only."""
    data = FederatedData(hospitals, "", [], PHANTOM_KEY, "")
    only = partial(PatientTensors.only, modality=view) if view else None
    execute(settings, folder, data=data, gather=partial(here, view=only))
    return load_model(folder).network


def trained(
    way: str, settings: Settings, hospitals: list[HospitalData], folder: Path
) -> Iterator[tuple[str, FusionNetwork]]:
    """The models of a way, each with its name in the table."""
    if way == "alone":
        for each in hospitals:
            trainer, _ = train_by_itself(settings, each, "", folder)
            yield f"alone: {each.name}", trainer.network
    else:
        view = settings.model.query if way == "query" else None
        yield way, federated(settings, hospitals, folder, view)


def in_order(way: str, base: Mapping[str, Any], private: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a way, by dotted key."""
    if not way.startswith("dp"):
        return dict(base)
    unit = way.removeprefix("dp ")
    return {**base, "privacy.dp": True, "privacy.unit": unit, "privacy.epsilon": 8.0, **private}


def measure(
    arguments: argparse.Namespace, say: Callable[[str], None]
) -> tuple[int, list[dict[str, Any]]]:
    """How many seeds were finished, and the cases of these; Ctrl-C ends with those so far."""
    base, private = (dict(map(_setting, each)) for each in (arguments.set, arguments.dp_set))
    config = load(arguments.config, base)
    loaded = load_manifest(
        arguments.manifest, config.model.image_size, config.model.modalities, example="slice"
    )
    sites: dict[str, list[Patient]] = {}
    for patient in loaded.patients:
        sites.setdefault(patient.site, []).append(patient)
    if len(sites) < 3:
        raise SystemExit(f"{arguments.manifest} has {len(sites)} sites; two train, one is left out")
    unseen = [
        Unseen.of(name, sites[name], config.training.max_slices, number, arguments.draws)
        for number, name in enumerate(sorted(sites))
        if not arguments.leave or name in arguments.leave
    ]
    finished: list[Areas] = []
    try:
        for seed in range(arguments.seeds):
            this: Areas = {}
            for left_out, way in product(unseen, arguments.ways):
                others = [
                    HospitalData(n, sites[n], []) for n in sorted(sites) if n != left_out.name
                ]
                common = {
                    "seed": seed,
                    "federation.clients": len(others),
                    "federation.evaluate_every": config.federation.rounds,
                    "exposures.record": False,
                    "secure_aggregation.enabled": False,
                    "privacy.seeded_noise": True,
                    "data.manifest": str(arguments.manifest),
                }
                wanted = in_order(way, base | common, private)
                for row, scores in _scored(way, wanted, arguments, others, left_out):
                    areas = left_out.areas(scores)
                    this.setdefault(row, {})[left_out.name] = areas
                    say(f"seed {seed}, {left_out.name} left out, {row}: {_told(areas)}")
            finished.append(this)
    except (KeyboardInterrupt, Interrupted):
        say(f"stopped; the table is of {len(finished)} seeds")
    return len(finished), table(finished) if finished else []


def _scored(
    way: str,
    wanted: Mapping[str, Any],
    arguments: argparse.Namespace,
    others: list[HospitalData],
    unseen: Unseen,
) -> Iterator[tuple[str, Floats]]:
    with tempfile.TemporaryDirectory() as folder:
        # What a run keeps beside its site key, a ledger above all, is this run's alone.
        settings = load(arguments.config, {**wanted, "data.site_key": f"{folder}/site-key"})
        for row, network in trained(way, settings, others, Path(folder) / "run"):
            view = unseen.group
            if way == "query":
                view = without(view, settings.model.context)
            yield row, answers(network, view)
            for mask in arguments.masks if way == "fusion" else ():
                yield f"fusion without {mask}", answers(network, without(view, mask.split(",")))


def table(finished: Sequence[Areas]) -> list[dict[str, Any]]:
    """A case for each way: mean over institutions of the mean over seeds, with intervals."""
    by_seed = {
        row: {name: [each[row][name] for each in finished] for name in by_name}
        for row, by_name in finished[0].items()
    }
    means = {
        row: {name: np.mean(seeds, axis=0) for name, seeds in by_name.items()}
        for row, by_name in by_seed.items()
    }
    alone = [row for row in means if row.startswith("alone: ")]
    for title, join in (("alone, mean", np.mean), ("alone, best", np.max)) if alone else ():
        means[title] = {}
        for name in {name for row in alone for name in means[row]}:
            each = [means[row][name] for row in alone if name in means[row]]
            # The best is the one that is best on all patients, whichever a draw would choose.
            best = max(each, key=lambda areas: float(areas[0]))
            means[title][name] = best if join is np.max else np.mean(each, axis=0)
    whole = {row: np.mean(list(by_name.values()), axis=0) for row, by_name in means.items()}
    complete = {row for row in means if row not in alone}
    return [
        {
            "case": row,
            "ours": float(whole[row][0]),
            "peers": {},
            "floor": None,
            "times_better": {},
            "of_floor": None,
            "interval": _interval(whole[row]),
            "gain": {
                other: [
                    float((whole[row] - whole[other])[0]),
                    *_interval(whole[row] - whole[other]),
                ]
                for other in sorted(complete - {row})
            }
            if row in complete
            else {},
            "by_institution": {
                name: [float(areas[0]), *_interval(areas)] for name, areas in means[row].items()
            },
            "by_seed": {
                name: [float(areas[0]) for areas in seeds]
                for name, seeds in by_seed.get(row, {}).items()
            },
        }
        for row in means
    ]


def _told(areas: Floats) -> str:
    low, high = _interval(areas)
    return f"{areas[0]:.3f}  {low:.3f} to {high:.3f}"


def _interval(areas: Floats) -> list[float]:
    """95% of the draws; one in which a label was missing says nothing."""
    return [float(each) for each in np.nanquantile(areas[1:], (0.025, 0.975))]


def _setting(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    return key, yaml.safe_load(value)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "lgg.yaml")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=DRAWS, help="of the bootstrap")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--leave", nargs="+", help="leave out these institutions only, in turn")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--dp-set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--masks", nargs="*", default=[], metavar="NAME,NAME")
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    seeds, cases = measure(arguments, lambda text: print(text, file=sys.stderr, flush=True))
    if arguments.json:
        report = {
            "name": "AUC of slices at an institution that took no part",
            "unit": "area under the ROC curve, mean over the institutions left out",
            "better": "higher",
            "repetitions": seeds,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "versions": {name: version(name) for name in ("torch", "numpy", "opacus")},
            "cases": cases,
        }
        print(json.dumps(report, indent=1))
        return
    for each in cases:
        low, high = each["interval"]
        print(f"{each['case']:<29} {each['ours']:.3f}  {low:.3f} to {high:.3f}")
        for other, (gain, least, most) in each["gain"].items():
            print(f"    over {other:<24} {gain:+.3f}  {least:+.3f} to {most:+.3f}")


if __name__ == "__main__":
    main()

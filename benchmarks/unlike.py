"""Who a model of phantoms is told not to answer about: false alarms, and scans that it never saw.

    python benchmarks/unlike.py [--json] [--seeds 5] [--real FOLDER] [--paid EPSILON]

The reference is what `securefed run` puts into a model's file with default settings (400 public
phantoms). With --paid it is made as for real patients, at that privacy.reference_epsilon, of four
hospitals with 300 phantoms each, as a default run has them: by the hospitals' own functions and
noise (of a seed, so that figures come again), without masks, which change no sum.

`alike` are phantoms of four hospitals of a seed each, 50 patients of each; a share of them is a
false alarm, and at most 5% are wanted. With --paid they are other patients of the hospitals that
the reference is of. The others are those phantoms changed, pictures drawn as another organ, noise,
and with --real a folder with slices of one patient in each folder below it (pictures; the first
half of a patient's is called CT, the other MRI, or both where folders `ct` and `mri` have them).
`ours` is the share flagged, the mean over seeds; `said` what was said of how many.
"""

import argparse
import json
import os
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from securefed.config import Settings
from securefed.data.phantom import PhantomSpec, SiteProfile, generate
from securefed.data.samples import Patient
from securefed.model.likeness import Reference
from securefed.model.scan_sums import Scans, means_of, reference_of
from securefed.model.scores import Steps
from securefed.privacy.counts import STEPS
from securefed.privacy.noise import SeededSource
from securefed.simulation.patients import phantom_spec
from securefed.simulation.reference import public_reference
from securefed.training.patients import stack
from securefed.wire.description import scan_noises_of

SITES, PATIENTS, SLICES = 4, 50, 8
FIRST = 1000  # number of the first patient: runs have fewer
MODALITIES = ("ct", "mri")
Change = Callable[[Patient], Patient]
# Beyond what hospitals of phantoms differ by: 2 HU, noise of 3 to 5.4 HU, gamma .88 to 1.13, ...
SHIFTS: dict[str, dict[str, float]] = {
    "scanner: CT off by 12 HU": {"ct_offset": 12.0},
    "scanner: CT noise of 10 HU": {"ct_noise": 10.0},
    "scanner: MRI noise times 2.7": {"mri_noise": 0.08},
    "scanner: MRI gamma of 1.8": {"mri_gamma": 1.8},
    "scanner: all of these": {
        "ct_offset": 12.0,
        "ct_noise": 10.0,
        "mri_noise": 0.08,
        "mri_gamma": 1.8,
    },
}


def phantoms(spec: PhantomSpec, seed: int, **scanner: float) -> list[Patient]:
    """Of all hospitals of a seed, with a scanner changed."""
    found = []
    for number in range(SITES):
        drawn = SiteProfile.draw(spec, number, seed)
        site = replace(drawn, **scanner)  # type: ignore[arg-type]  # all of them are floats
        found += [each.patient for each in generate(spec, site, PATIENTS, seed, first=FIRST)]
    return found


def _changed(patient: Patient, images: NDArray[np.uint8]) -> Patient:
    """Other pictures in place of those that are there."""
    whole = np.where(patient.present[..., None, None], images, 0).astype(np.uint8)
    return replace(patient, images=np.ascontiguousarray(whole))


def quarter_turn(patient: Patient) -> Patient:
    return _changed(patient, np.rot90(patient.images, axes=(2, 3)))


def upside_down(patient: Patient) -> Patient:
    return _changed(patient, patient.images[:, :, ::-1])


def negative(patient: Patient) -> Patient:
    return _changed(patient, 255 - patient.images)


def swapped(patient: Patient) -> Patient:
    return replace(patient, images=patient.images[::-1], present=patient.present[::-1])


def half_noise(patient: Patient) -> Patient:
    rng = np.random.default_rng(patient.images.sum())
    noise = rng.integers(0, 256, patient.images.shape)
    return _changed(patient, ((patient.images.astype(int) + noise) // 2).astype(np.uint8))


def all_noise(patient: Patient) -> Patient:
    rng = np.random.default_rng(patient.images.sum())
    return _changed(patient, rng.integers(0, 256, patient.images.shape).astype(np.uint8))


def another_organ(patient: Patient) -> Patient:
    """An abdomen of ellipses, as grey as soft tissue is in each modality, with the same noise."""
    rng = np.random.default_rng(patient.images.sum())
    line = np.linspace(-1, 1, patient.image_size)
    x, y = line[None, :], line[:, None]
    images = np.zeros(patient.images.shape)
    tissues = ((0, 0, 0.92, 0.68, 120), (-0.4, -0.05, 0.4, 0.4, 150), (0, 0.45, 0.13, 0.13, 255))
    kidneys = ((-0.35, 0.3, 0.14, 0.18, 165), (0.35, 0.3, 0.14, 0.18, 165))
    for across, down, wide, high, grey in (*tissues, *kidneys):
        wide, high = wide * rng.uniform(0.9, 1.1), high * rng.uniform(0.9, 1.1)
        images[..., ((x - across) / wide) ** 2 + ((y - down) / high) ** 2 < 1] = grey
    images += rng.normal(0, 10, images.shape) * (images > 0)
    return _changed(patient, images.clip(0, 255))


CHANGES: dict[str, Change] = {
    "upside down": upside_down,
    "a quarter turn": quarter_turn,
    "negatives": negative,
    "half noise": half_noise,
    "noise": all_noise,
    "another organ": another_organ,
    "swapped modalities": swapped,
}


def both(patients: list[Patient]) -> list[Patient]:
    """Those who have every modality."""
    return [each for each in patients if each.present.all()]


def real_patients(folder: Path, size: int) -> Iterator[Patient]:
    """One of each folder that has pictures, or of `ct` and `mri` in it."""
    if (folder / "ct").is_dir() and (folder / "mri").is_dir():
        groups: dict[str, list[Path]] = {}
        for path in sorted((folder / "ct").glob("*.png")):
            groups.setdefault(path.stem.rsplit("_", 1)[0], []).append(path)
        for name, paths in groups.items():
            images = np.stack(
                [_pictures([folder / m / p.name for p in paths], size) for m in MODALITIES]
            )
            yield _patient(name, images)
        return
    for below in sorted(path for path in folder.rglob("*") if path.is_dir()):
        paths = sorted(each for each in below.glob("*_flair.jpg"))
        if paths:
            pictures = _pictures(paths, size)
            yield _patient(below.name, np.stack([np.zeros_like(pictures), pictures]), ct=False)


def _pictures(paths: list[Path], size: int) -> NDArray[np.uint8]:
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(SLICES, len(paths))).astype(int)]
    opened = [
        Image.open(path).convert("L").resize((size, size), Image.Resampling.BOX) for path in chosen
    ]
    return np.stack([np.asarray(each) for each in opened])


def _patient(name: str, images: NDArray[np.uint8], *, ct: bool = True) -> Patient:
    present = np.ones(images.shape[:2], np.bool_)
    present[0] = ct
    return Patient(name, "real", 0, MODALITIES, images, present)


def flagged(reference: Reference, patients: list[Patient], slices: int) -> list[str]:
    return reference.unlike(stack(patients, slices))


def case(name: str, said: list[list[str]]) -> dict[str, Any]:
    shares = [float(np.mean([bool(each) for each in of])) for of in said]
    words = Counter(each for of in said for each in of if each)
    return {
        "case": name,
        "ours": float(np.mean(shares)),
        "peers": {},
        "floor": None,
        "times_better": {},
        "of_floor": None,
        "patients": sum(map(len, said)),
        "by_seed": shares,
        "said": dict(words.most_common(4)),
    }


def of_public_phantoms(settings: Settings) -> Reference:
    found = public_reference(settings)
    if found is None:
        raise SystemExit("phantoms of these settings have no reference")
    return found


def paid(settings: Settings, seed: int) -> Reference:
    """Of a run's training patients, as its hospitals and its server would make it."""
    spec, modalities = phantom_spec(settings), settings.model.modalities
    noises, slices = scan_noises_of(settings), settings.training.max_slices
    sites = [SiteProfile.draw(spec, number, seed) for number in range(SITES)]
    scans = []
    for site in sites:
        made = generate(spec, site, settings.data.phantom.patients, seed)
        scans.append(Scans.of(stack([each.patient for each in made], slices)))

    def summed(number: int, exact: list[Steps]) -> tuple[NDArray[np.float64], float]:
        noise = noises[number]
        answers = [
            noise.on_steps(each, SeededSource(seed, "unlike", str(number), str(hospital)))
            for hospital, each in enumerate(exact)
        ]
        return np.sum(answers, axis=0) / STEPS, noise.deviation(SITES)

    first, deviation = summed(1, [each.first() for each in scans])
    means = means_of(first, deviation)
    if means is None:
        raise SystemExit("too few patients for this epsilon")
    second, deviation = summed(2, [each.second(means) for each in scans])
    found = reference_of(means, second, deviation, modalities)
    if found is None:
        raise SystemExit("noise drowns the distances at this epsilon")
    return found


def measure(seeds: int, real: list[Path], epsilon: float | None) -> Iterator[dict[str, Any]]:
    settings = Settings()
    slices = settings.training.max_slices
    if epsilon is None:
        references = [of_public_phantoms(settings)] * seeds
    else:
        asked = Settings.model_validate({"privacy": {"reference_epsilon": epsilon}})
        references = [paid(asked, seed) for seed in range(seeds)]
    spec = phantom_spec(settings)

    def said(groups: list[list[Patient]]) -> list[list[str]]:
        pairs = zip(references, groups, strict=True)
        return [flagged(reference, each, slices) for reference, each in pairs]

    alike = [phantoms(spec, seed) for seed in range(seeds)]
    yield case("alike", said(alike))
    if epsilon is not None:
        others = [phantoms(spec, seeds + seed) for seed in range(seeds)]
        yield case("alike, of other hospitals", said(others))
    for name, scanner in SHIFTS.items():
        shifted = [phantoms(spec, seed, **scanner) for seed in range(seeds)]
        yield case(name, said(list(map(both, shifted))))
    for name, change in CHANGES.items():
        changed = [list(map(change, both(each))) for each in alike]
        yield case(name, said(changed))
    for folder in real:
        patients = list(real_patients(folder, spec.image_size))
        yield case(f"real scans: {folder.name}", said([patients] * seeds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--real", type=Path, action="append", default=[])
    parser.add_argument("--paid", type=float, metavar="EPSILON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = []
    for each in measure(arguments.seeds, arguments.real, arguments.paid):
        cases.append(each)
        print(
            f"{each['case']:<32} {each['ours']:.3f} of {each['patients']}  {each['said']}",
            file=sys.stderr,
            flush=True,
        )
    if arguments.json:
        report = {
            "name": "scans unlike those of the training"
            + (f", reference paid with epsilon {arguments.paid:g}" if arguments.paid else ""),
            "unit": "share of patients that are flagged; of `alike` at most 0.05 are wanted",
            "better": "higher",
            "repetitions": arguments.seeds,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "versions": {name: version(name) for name in ("torch", "numpy")},
            "cases": cases,
        }
        print(json.dumps(report))


if __name__ == "__main__":
    main()

"""What the federation is compared with is trained as told, on the patients told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from securefed.data.load import FederatedData
from securefed.model.scores import COUNTS, Counts, count_scores, metrics
from securefed.privacy import statement
from securefed.record.directory import RunDirectory
from securefed.simulation import baselines
from securefed.simulation.patients import load_data
from securefed.training.patients import stack
from securefed.wire.description import initial_network
from tests.tiny import finish, settings_with, start

settings = settings_with(
    data={"phantom": {"patients": 10, "test_patients": 8, "missing_query": 0.3}},
    training={"batch_size": 10, "max_slices": 3},
    privacy={"dp": False, "seeded_noise": True},
    federation={"clients": 3, "rounds": 3, "evaluate_every": 1, "strategy": "fedavg"},
    secure_aggregation={"enabled": False},
)
PLAIN, PRIVATE = settings(), settings(privacy={"dp": True})


@pytest.fixture(scope="module")
def patients() -> FederatedData:
    return load_data(PLAIN)


def total(counts: dict[str, Counts]) -> Counts:
    return np.sum(list(counts.values()), axis=0)


def test_pooled_training_is_what_full_batches_of_equal_hospitals_add_up_to(
    tmp_path: Path, patients: FederatedData
) -> None:
    """With everybody in every step, the mean of the hospitals' gradients is the pooled one."""
    federated = start(PLAIN, tmp_path / "run", patients)
    aucs = [record.metrics.auc for record, _ in federated.rounds() if record.metrics]
    final, initial = federated.evaluate().metrics, metrics(_initial_counts(patients))
    assert final is not None
    assert final.loss is not None
    assert initial.loss is not None
    found = baselines.pooled(PLAIN, patients, tmp_path / "pooled")
    assert [auc for _, auc in found.curve] == pytest.approx([*aucs, final.auc], abs=0.02)
    assert [finished for finished, _ in found.curve] == [0, 1, 2, 3]
    assert metrics(total(found.counts)).loss == pytest.approx(final.loss, abs=1e-3)
    assert abs(final.loss - initial.loss) > 0.01, "it must have learned"
    assert sorted(found.counts) == [hospital.name for hospital in patients.hospitals]


def _initial_counts(patients: FederatedData) -> Counts:
    network, _ = initial_network(PLAIN)
    found = np.zeros(COUNTS)
    for hospital in patients.hospitals:
        group = stack(hospital.test, 3)
        with torch.no_grad():
            logits = network(group.images, group.present)
        found += count_scores(logits, group.label)
    return found


def test_alone_every_hospital_learns_from_its_own_patients_only(
    tmp_path: Path, patients: FederatedData
) -> None:
    whole = baselines.alone(PLAIN, patients, tmp_path / "whole")
    first, *others = patients.hospitals
    emptied = replace(patients, hospitals=[first, *[replace(h, train=first.train) for h in others]])
    changed = baselines.alone(PLAIN, emptied, tmp_path / "changed")
    assert np.array_equal(whole.counts[first.name], changed.counts[first.name])
    assert any(not np.array_equal(whole.counts[h.name], changed.counts[h.name]) for h in others)
    for hospital in patients.hospitals:
        assert whole.counts[hospital.name].sum() == len(hospital.test)


def test_one_modality_leaves_out_who_lacks_it_and_late_fusion_nobody(
    tmp_path: Path, patients: FederatedData
) -> None:
    ct, mri, late = baselines.modalities(PLAIN, patients, tmp_path)
    everybody = [patient for hospital in patients.hospitals for patient in hospital.test]
    with_ct = sum(bool(patient.present_of("ct").any()) for patient in everybody)
    assert 0 < with_ct < len(everybody), "the test needs patients without CT"
    assert total(ct.counts).sum() == with_ct
    assert total(mri.counts).sum() == sum(bool(p.present_of("mri").any()) for p in everybody)
    assert total(late.counts).sum() == len(everybody)
    assert (ct.name, mri.name, late.name) == ("ct only", "mri only", "late fusion")


def test_late_fusion_is_the_mean_logit_of_both_models_or_the_one_there_is(
    tmp_path: Path, patients: FederatedData
) -> None:
    """A naive oracle: patient by patient, from images."""
    _, of_ct = baselines._one_modality(PLAIN, patients, tmp_path / "ct", "ct")
    _, of_mri = baselines._one_modality(PLAIN, patients, tmp_path / "mri", "mri")
    hospital = patients.hospitals[0]
    group = stack(hospital.test, 3)
    trainers = {
        kept: run.hospitals[hospital.name].trainer for kept, run in (("ct", of_ct), ("mri", of_mri))
    }
    found = baselines._mean_logits(trainers, group)
    for row in range(len(group)):
        one = group[row : row + 1]
        known = []
        for number, kept in enumerate(("ct", "mri")):
            present = torch.zeros_like(one.present)
            present[:, number] = one.present[:, number]
            if present.any():
                with torch.no_grad():
                    known.append(float(trainers[kept].network(one.images, present)))
        assert float(found[row]) == pytest.approx(np.mean(known), abs=1e-4)
    paired = group.present.any(dim=2).all(dim=1).sum()
    assert 0 < paired < len(group), "the test needs patients with one and with two modalities"


def test_private_baselines_spend_in_ledgers_of_their_own(
    tmp_path: Path, patients: FederatedData
) -> None:
    asked = settings(privacy={"dp": True}, evaluation={"baselines": True})
    run = start(asked, tmp_path / "run", patients)
    finish(run)
    spent = run.group.guarantees()
    found = baselines.train_baselines(run)
    assert run.group.guarantees() == spent
    assert min(each.counted for each in spent.values()) > 0
    ledgers = {path.relative_to(run.directory.path).parts[0] for path in _ledgers(run.directory)}
    assert ledgers == {"hospitals", "baselines"}
    assert sorted(found.local) == sorted(run.hospitals)
    assert found.mean_local is not None
    assert found.one_modality.keys() == {"ct", "mri"}
    assert None not in found.one_modality.values()


def test_whoever_trains_alone_is_in_every_round_and_pays_for_all_of_them(
    tmp_path: Path, patients: FederatedData
) -> None:
    cohorts = settings(
        privacy={"dp": True, "accountant": "rdp"}, federation={"clients_per_round": 3}
    )
    baselines.alone(cohorts, replace(patients, hospitals=patients.hospitals[:1]), tmp_path)
    (path,) = tmp_path.rglob("ledger.sqlite")
    ledger = statement.read(path)
    assert sum(ledger.attempts("alone").values()) == cohorts.federation.rounds
    assert 7.5 < ledger.guarantee().counted <= 8.0


def _ledgers(directory: RunDirectory) -> list[Path]:
    return list(directory.path.rglob("ledger.sqlite"))


def test_the_mean_curve_has_the_rounds_every_hospital_has() -> None:
    curves = [((0, 0.4), (5, 0.6), (8, 0.7)), ((0, 0.6), (8, 0.9))]
    rounds, aucs = zip(*baselines._mean(curves), strict=True)
    assert rounds == (0, 8)
    assert aucs == pytest.approx((0.5, 0.8))
    assert baselines._mean([]) == ()

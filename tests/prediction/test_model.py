"""A model file says how it is to be used, and one that does not is refused."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import securefed
from securefed.data.harmonisation import harmonised
from securefed.data.load import load_manifest
from securefed.errors import RunError
from securefed.model.calibration import Calibration
from securefed.prediction.model import load_model
from securefed.record import model_file
from securefed.record.directory import read_about
from securefed.run_directory import Run
from securefed.training.patients import stack
from tests.tiny import settings_with

CALIBRATION = {
    "patients": 40,
    "temperature": None,
    "why_not": "a reason",
    "loss_before": 0.4,
    "loss_after": None,
    "error_before": 0.1,
    "error_after": None,
    "error_by_chance": 0.05,
}
TEMPERATURE = {
    "value": 2.0,
    "ci95": [1.5, 3.0],
    "slope": 0.5,
    "shift": 0.1,
    "covariance": [0.01, 0.0, 0.04],
}


def test_it_says_what_the_network_of_the_run_says(trained: Path, strangers: Path) -> None:
    model, network = load_model(trained), Run.open(trained).network().eval()
    patients = load_manifest(strangers, 32, model.modalities).patients
    assert any(not patient.present.all() for patient in patients)
    group = stack(patients, Run.open(trained).settings.training.max_slices)
    with torch.no_grad():
        expected = network(group.images, group.present)
    assert torch.allclose(model.logits(patients), expected, atol=1e-5)
    one = model.logits(patients[3:4])  # alone: without the padding that others bring
    assert torch.allclose(one, expected[3:4], atol=1e-5)


def test_the_same_from_python(trained: Path, strangers: Path) -> None:
    model = securefed.load_model(str(trained))
    patients = load_manifest(strangers, 32, model.modalities).patients
    found = securefed.predict(model, str(strangers), anyway=True)
    assert [each.patient_id for each in found] == [patient.patient_id for patient in patients]
    assert np.allclose(
        [each.logit or 0 for each in found], model.logits(patients).numpy(), atol=1e-5
    )


def test_with_parameters_of_another_hospital_it_is_another_model(
    trained: Path, tmp_path: Path
) -> None:
    file, own = trained / "model.safetensors", tmp_path / "personal.safetensors"
    name, value = next(iter(model_file.read_parameters(file).items()))
    digests = {load_model(trained).digest}
    for more in (0.0, 1.0):
        save_file({name: value + more}, own)
        digests.add(load_model(trained, own).digest)
    assert len(digests) == 3
    save_file({"unknown": value}, own)
    with pytest.raises(RunError, match=r"personal\.safetensors does not hold the parameters"):
        load_model(trained, own)


def test_a_model_of_harmonised_scans_harmonises_what_it_is_given(
    trained: Path, strangers: Path, tmp_path: Path
) -> None:
    shape = json.loads(read_about(trained / "model.safetensors")["shape"])
    about = {"shape": json.dumps({**shape, "harmonise": True})}
    model = load_model(changed(trained, tmp_path / "model.safetensors", about))
    patients = load_manifest(strangers, 32, model.modalities).patients
    plain = load_model(trained)
    assert torch.equal(model.logits(patients), plain.logits(harmonised(patients)))
    assert not torch.equal(model.logits(patients), plain.logits(patients))


def test_a_made_up_patient_or_a_known_seed_is_a_caution(trained: Path) -> None:
    assert load_model(trained).cautions == ("it was trained on made-up patients (phantom)",)
    assert load_model(trained / "model.safetensors").privacy.startswith("no differential privacy")


def test_a_file_says_its_temperature_and_what_is_none_is_refused(
    trained: Path, strangers: Path, tmp_path: Path
) -> None:
    run, out = Run.open(trained), tmp_path / "model.safetensors"
    assert run.held_out is not None
    assert load_model(trained).calibration == run.held_out.calibration
    assert run.summary.temperature == run.held_out.temperature
    told = CALIBRATION | {"temperature": TEMPERATURE, "why_not": ""}
    model = load_model(changed(trained, out, {"calibration": json.dumps(told)}))
    assert model.uncalibrated == ""
    for each in securefed.predict(model, strangers, anyway=True):
        assert each.calibrated == pytest.approx(1 / (1 + np.exp(-(each.logit or 0) / 2)), abs=1e-6)
        assert each.calibrated is not None
        assert each.calibrated_low is not None
        assert each.calibrated_high is not None
        assert each.calibrated_low <= each.calibrated <= each.calibrated_high
    model = load_model(changed(trained, out, {"calibration": json.dumps(CALIBRATION)}))
    assert model.uncalibrated == "a reason"
    assert {each.calibrated for each in securefed.predict(model, strangers)} == {None}
    model = load_model(changed(trained, out, {"calibration": ""}))
    assert "nothing of held-out patients" in model.uncalibrated
    for damage in ({"value": 0.0}, {"value": 1e6}, {"ci95": [3.0, 4.0]}, {"shift": "x"}):
        told = CALIBRATION | {"temperature": TEMPERATURE | damage}
        changed(trained, out, {"calibration": json.dumps(told)})
        with pytest.raises(RunError, match=r"the calibration in .*model\.safetensors is damaged"):
            load_model(out)


def changed(trained: Path, out: Path, about: dict[str, Any], **tensors: torch.Tensor) -> Path:
    file = trained / "model.safetensors"
    told = {**read_about(file), **about}
    told = {key: value for key, value in told.items() if value}
    save_file({**load_file(file), **tensors}, out, {"about": json.dumps(told)})
    return out


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ({"shape": ""}, "does not say how"),
        ({"max_slices": ""}, "does not say how"),
        ({"max_slices": "0"}, "is damaged"),
        ({"shape": '{"encoder": "pickle"}'}, "does not say how"),
        ({"shape": '{"width": 4}'}, "does not hold the parameters"),
        ({"shape": "[]"}, "does not say how"),
        ({"run": ["a"]}, "is damaged"),
        ({"simulation": "phantom\x1b[2J"}, "its 'simulation' holds control characters"),
        ({"calibration": json.dumps(CALIBRATION | {"patients": -5})}, "is damaged"),
        ({"calibration": json.dumps(CALIBRATION | {"why_not": "\x1b[2J"})}, "is damaged"),
    ],
    ids=str,
)
def test_what_a_file_says_is_checked(
    trained: Path, tmp_path: Path, about: dict[str, Any], told: str
) -> None:
    with pytest.raises(RunError, match=told):
        load_model(changed(trained, tmp_path / "odd.safetensors", about))


@pytest.mark.parametrize("text", ["[" * 200_000, '{"more":' + "[" * 200_000, "[]", "{"])
def test_what_a_file_says_is_an_object_and_not_deeper_than_can_be_read(
    trained: Path, tmp_path: Path, text: str
) -> None:
    odd = tmp_path / "odd.safetensors"
    save_file(load_file(trained / "model.safetensors"), odd, {"about": text})
    with pytest.raises(RunError, match="is damaged"):
        load_model(odd)


def test_a_model_does_not_tell_where_weights_lay(trained: Path, tmp_path: Path) -> None:
    settings = settings_with(model={"weights": ["/home/somebody/weights.safetensors"]})()
    model_file.write(tmp_path, Run.open(trained).network(), settings, None, "", "")
    assert b"somebody" not in (tmp_path / "model.safetensors").read_bytes()


def test_parameters_that_are_no_numbers_too_many_or_none_are_refused(
    trained: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "odd.safetensors"
    bias = torch.tensor([np.nan])
    with pytest.raises(RunError, match="not numbers"):
        load_model(changed(trained, odd, {}, **{"classifier.output.bias": bias}))
    with pytest.raises(RunError, match="does not hold the parameters"):
        load_model(changed(trained, odd, {}, more=bias))
    odd.write_bytes(b"\x80\x04\x95not a pickle either")
    with pytest.raises(RunError, match="cannot read"):
        load_model(odd)
    with pytest.raises(RunError, match="there is no model"):
        load_model(tmp_path)
    with pytest.raises(RunError, match="there is no model"):
        load_model(trained / "summary.json")


@pytest.mark.parametrize(("epsilon", "carries"), [(None, False), (2.0, True)])
def test_a_private_run_s_model_carries_nothing_of_held_out_patients_that_nobody_paid_for(
    trained: Path, tmp_path: Path, epsilon: float | None, carries: bool
) -> None:
    told = CALIBRATION | {"temperature": TEMPERATURE, "why_not": ""}
    calibration = msgspec.convert(told, Calibration)
    settings = settings_with(privacy={"evaluation_epsilon": epsilon})()
    network = Run.open(trained).network()
    model_file.write(tmp_path, network, settings, None, "", "", calibration=calibration)
    assert model_file.read_calibration(tmp_path) == (calibration if carries else None)

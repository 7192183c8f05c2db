"""Several classes among hospitals with folders of their own: the agreement carries the names."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from securefed.data.phantom import PhantomSpec
from securefed.data.phantom_files import write_phantoms
from securefed.hospital.site import simulation
from securefed.model.class_scores import noised_words
from securefed.record import model_file
from securefed.record.noised_scores import NoisedAnswer
from securefed.record.summary import HeldOut, Summary
from tests.engine.four_sites import NAMES, PATIENTS, Four, make_four, patients_of, settings
from tests.tiny import finish, start

CLASSES = ("healthy", "tumour", "calcification", "abscess")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Four:
    folder, data = (tmp_path_factory.mktemp(name) for name in ("four", "patients"))
    for number, name in enumerate(NAMES):
        spec = PhantomSpec(image_size=32, classes=len(CLASSES))
        write_phantoms(data / name, spec, 1, PATIENTS, seed=number, classes=CLASSES)
        key = data / f"{name}.site-key"
        key.write_text(f"{bytes([number + 1] * 32).hex()}\n")
        key.chmod(0o600)
    four = make_four(folder, data, settings(task={"classes": CLASSES}))
    four.play()
    return four


def test_the_server_has_totals_of_every_class(played: Four) -> None:
    summary, held_out = Summary.read(played.server), HeldOut.read(played.server)
    assert [one.name for one in summary.classes] == list(CLASSES)
    assert [one.name for one in held_out.classes] == list(CLASSES)
    assert held_out.noise is not None
    for name in NAMES:
        assert len(NoisedAnswer.read(played.run_of(name)).steps) == noised_words(4)


def test_the_model_is_bit_equal_to_that_of_a_run_in_one_process(
    played: Four, tmp_path: Path
) -> None:
    job = played.agreement.job(1)
    alone = start(job.settings, tmp_path / "run", data=patients_of(played))
    finish(alone)
    released = load_file(played.server / model_file.NAME)
    network = alone.served.network().state_dict()
    assert all(np.array_equal(released[key], value.numpy()) for key, value in network.items())


def test_a_site_knows_that_its_patients_are_phantoms_whatever_labels_are_of(played: Four) -> None:
    assert {simulation(site.folder) for site in played.sites.values()} == {"phantom"}

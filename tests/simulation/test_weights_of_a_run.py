"""A run from weights that it was given: recorded with source and licence, and held to them."""

from pathlib import Path

import torch

from securefed.evidence.agreements import of_run_file
from securefed.model import weight_files
from securefed.model.encoders import ENCODERS
from securefed.run_directory import Run
from securefed.simulation import execution
from securefed.wire.description import initial_network
from tests.tiny import settings_with

settings = settings_with(
    privacy={"dp": False},
    federation={"clients": 2, "rounds": 1, "shared": "fusion+classifier"},
    secure_aggregation={"enabled": False},
)


def files(folder: Path) -> list[str]:
    """Weights of a squeezenet1_1 for each modality."""
    torch.manual_seed(5)
    encoder = ENCODERS["squeezenet1_1"](8).state_dict()
    made = []
    for modality in ("ct", "mri"):
        about = {"encoder": "squeezenet1_1", "width": "8", "source": modality, "licence": "CC0-1.0"}
        tensors = {f"encoder_{modality}.{name}": t for name, t in encoder.items()}
        made.append(str(folder / f"{modality}.safetensors"))
        weight_files.write(Path(made[-1]), tensors, about)
    return made


def test_weights_are_recorded_with_source_and_licence_and_a_changed_file_is_told(tmp_path: Path):
    ct, mri = files(tmp_path)
    model = {"encoder": "squeezenet1_1", "weights": [ct, mri], "image_size": 32, "width": 8}
    execution.execute(settings(model=model), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    told = run.about.model.weights
    assert [(each.source, each.licence) for each in told] == [("ct", "CC0-1.0"), ("mri", "CC0-1.0")]
    assert not list(of_run_file(run))
    Path(ct).write_bytes(Path(ct).read_bytes().replace(b"CC0-1.0", b"unknown"))
    told_of = "".join(mismatch.told for mismatch in of_run_file(Run.open(tmp_path / "run")))
    assert "model.public_weights_sha256" in told_of
    assert "unknown" in told_of


def test_weights_written_again_are_read_again(tmp_path: Path):
    model = {"encoder": "squeezenet1_1", "weights": files(tmp_path), "image_size": 32, "width": 8}
    first = initial_network(settings(model=model))[1]
    assert initial_network(settings(model=model))[1] == first
    path = tmp_path / "ct.safetensors"
    path.write_bytes(path.read_bytes().replace(b"CC0-1.0", b"unknown"))
    assert initial_network(settings(model=model))[1][0].licence == "unknown"

"""Tokens on disk: the same bits as without, the owner's alone, and nothing that is not whole."""

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from securefed.model import encoding
from securefed.model.network import FusionNetwork, NetworkShape
from securefed.model.patients import PatientTensors
from securefed.model.token_files import TokenFiles

SHAPE = NetworkShape(image_size=32)


def network(seed: int = 0) -> FusionNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FusionNetwork(SHAPE)


def group(seed: int = 0) -> PatientTensors:
    """Three patients of one to three slices, some of which lack a modality."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (3, 2, 3, 32, 32), generator=draw).byte()
    present = torch.tensor(
        [
            [[True, False, True], [True, True, False]],
            [[True, False, False], [True, False, False]],
            [[False, True, False], [True, True, False]],
        ]
    )
    return PatientTensors(SHAPE.modalities, images, present, torch.ones(3))


def same(one: PatientTensors, other: PatientTensors) -> bool:
    return one.modalities == other.modalities and all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("images", "present", "label")
    )


encoded_slices = encoding._slices


@torch.no_grad()
def plain_tokens(network: FusionNetwork, group: PatientTensors) -> PatientTensors:
    """Without files, and counted by nobody."""
    return replace(group, images=encoded_slices(network.eval(), group, lambda slices: None))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many patients were encoded each time; the nobody that tells shapes does not count."""
    numbers: list[int] = []

    def counting(
        network: FusionNetwork, group: PatientTensors, count: Callable[[int], None]
    ) -> Tensor:
        if len(group):
            numbers.append(len(group))
        return encoded_slices(network, group, count)

    monkeypatch.setattr(encoding, "_slices", counting)
    return numbers


def only_file(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def test_what_is_read_is_bit_by_bit_what_was_computed(tmp_path: Path, computed: list[int]) -> None:
    folder = tmp_path / "data.tokens"
    plain = plain_tokens(network(), group())
    for _ in range(2):
        assert same(TokenFiles(folder).tokens_of(network(), group()), plain)
    assert computed == [3]


def test_files_are_their_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data.tokens"
    TokenFiles(folder).tokens_of(network(), group())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(only_file(folder).stat().st_mode) == 0o600


def test_labels_are_not_in_a_file_and_not_in_its_name(tmp_path: Path, computed: list[int]) -> None:
    files = TokenFiles(tmp_path)
    files.tokens_of(network(), group())
    other = replace(group(), label=torch.zeros(3))
    assert same(files.tokens_of(network(), other), plain_tokens(network(), other))
    assert computed == [3]


@pytest.mark.parametrize("change", ["images", "masks", "weights"])
def test_another_group_or_other_weights_are_encoded_anew(
    change: str, tmp_path: Path, computed: list[int]
) -> None:
    files = TokenFiles(tmp_path)
    files.tokens_of(network(), group())
    patients = group(seed=1) if change == "images" else group()
    if change == "masks":
        patients = replace(patients, present=~patients.present)
    weights = network(seed=1) if change == "weights" else network()
    assert same(files.tokens_of(weights, patients), plain_tokens(weights, patients))
    assert len(computed) == 2


def test_fusion_and_classifier_have_no_part_in_it(tmp_path: Path, computed: list[int]) -> None:
    files, trained = TokenFiles(tmp_path), network()
    files.tokens_of(trained, group())
    with torch.no_grad():
        for parameter in (*trained.fusion.parameters(), *trained.classifier.parameters()):
            parameter.add_(1.0)
    files.tokens_of(trained, group())
    assert computed == [3]


@pytest.mark.parametrize("damage", ["a bit", "cut", "longer", "empty", "another group's"])
def test_what_is_not_whole_is_made_again(damage: str, tmp_path: Path, computed: list[int]) -> None:
    folder = tmp_path / "data.tokens"
    files = TokenFiles(folder)
    plain = files.tokens_of(network(), group())
    path = only_file(folder)
    content = bytearray(path.read_bytes())
    if damage == "a bit":
        content[-1] ^= 1
    elif damage == "cut":
        content = content[:-4]
    elif damage == "longer":
        content += b"\0" * 10_000
    elif damage == "empty":
        content = bytearray()
    else:
        foreign = TokenFiles(tmp_path / "other")
        foreign.tokens_of(network(), group(seed=1))
        content = bytearray(only_file(tmp_path / "other").read_bytes())
    path.write_bytes(content)
    computed.clear()
    assert same(files.tokens_of(network(), group()), plain)
    assert computed == [3]
    assert same(files.tokens_of(network(), group()), plain)
    assert computed == [3]  # what was made again is kept


def test_a_folder_stays_within_its_bound_and_forgets_what_was_used_longest_ago(
    tmp_path: Path, computed: list[int]
) -> None:
    folder = tmp_path / "data.tokens"
    TokenFiles(folder).tokens_of(network(), group(seed=0))
    size = only_file(folder).stat().st_size
    files = TokenFiles(folder, most_bytes=2 * size)
    files.tokens_of(network(), group(seed=1))
    for age, path in enumerate(sorted(folder.iterdir())):
        os.utime(path, (age, age))
    files.tokens_of(network(), group(seed=0))  # used now
    files.tokens_of(network(), group(seed=2))
    assert sum(each.stat().st_size for each in folder.iterdir()) <= 2 * size
    computed.clear()
    files.tokens_of(network(), group(seed=0))
    files.tokens_of(network(), group(seed=2))
    assert computed == []
    files.tokens_of(network(), group(seed=1))
    assert computed == [3]


def test_a_folder_is_looked_through_once_while_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, freed = [], TokenFiles._freed

    def counting(self: TokenFiles, room: int) -> int:
        looked.append(room)
        return freed(self, room)

    monkeypatch.setattr(TokenFiles, "_freed", counting)
    files = TokenFiles(tmp_path / "data.tokens")
    for seed in range(3):
        files.tokens_of(network(), group(seed))
    assert len(looked) == 1
    assert files._held_bytes == sum(one.stat().st_size for one in files._folder.iterdir())


def test_a_group_beyond_the_bound_is_not_kept(tmp_path: Path) -> None:
    folder = tmp_path / "data.tokens"
    TokenFiles(folder, most_bytes=100).tokens_of(network(), group())
    assert not folder.exists()


@pytest.mark.parametrize("kind", ["link", "open to others", "another's"])
def test_a_folder_that_is_not_its_user_s_alone_is_not_used(
    kind: str, tmp_path: Path, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, elsewhere = tmp_path / "tokens", tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if kind == "link":
        folder.symlink_to(elsewhere)
    else:
        folder.mkdir()
        folder.chmod(0o755 if kind == "open to others" else 0o700)
    if kind == "another's":
        monkeypatch.setattr("os.getuid", lambda: folder.stat().st_uid + 1)
    for _ in range(2):
        assert same(
            TokenFiles(folder).tokens_of(network(), group()), plain_tokens(network(), group())
        )
    assert computed == [3, 3]
    assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_made_costs_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    files = TokenFiles(tmp_path / "file" / "data.tokens")
    assert same(files.tokens_of(network(), group()), plain_tokens(network(), group()))


def test_nobody_leaves_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "data.tokens"
    assert len(TokenFiles(folder).tokens_of(network(), group()[:0])) == 0
    assert not folder.exists()

"""The files in configs/: each loads, each says what its name says, the defaults are complete."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from securefed.config import Settings, load
from securefed.errors import ConfigurationError
from securefed.privacy.sampling import expected

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FILES = sorted(CONFIGS.glob("*.yaml"))
CONFIGURATIONS = {
    "plain.yaml": "plain",
    "dp.yaml": "dp",
    "secure.yaml": "secure",
    "dp-secure.yaml": "dp+secure",
    "distributed.yaml": "dp+secure",
}


def keys(values: dict[str, Any], prefix: str = "") -> set[str]:
    """Dotted keys of all leaves."""
    found = set()
    for name, value in values.items():
        if isinstance(value, dict):
            found |= keys(value, f"{prefix}{name}.")
        else:
            found.add(f"{prefix}{name}")
    return found


def test_the_expected_files_are_there() -> None:
    names = {path.name for path in FILES}
    assert names == {
        *CONFIGURATIONS,
        "classes.yaml",
        "default.yaml",
        "lgg.yaml",
        "real-pairs.yaml",
        "report.yaml",
        "report-cpu.yaml",
        "site-shift.yaml",
        "smoke.yaml",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_loads(path: Path) -> None:
    assert isinstance(load(path, {}), Settings)


def test_the_default_file_equals_the_defaults_and_names_every_key() -> None:
    path = CONFIGS / "default.yaml"
    assert load(path, {}) == Settings()
    assert keys(yaml.safe_load(path.read_text())) == keys(Settings().model_dump())


def test_every_line_of_the_default_file_is_explained() -> None:
    lines = (CONFIGS / "default.yaml").read_text().splitlines()
    for above, line in itertools.pairwise(lines):
        is_value = ":" in line and not line.lstrip().startswith("#") and not line.endswith(":")
        assert not is_value or above.lstrip().startswith("# "), f"{line!r} has no comment above it"


@pytest.mark.parametrize(("name", "configuration"), CONFIGURATIONS.items())
def test_a_configuration_file_differs_from_the_defaults_only_in_its_configuration(
    name: str, configuration: str
) -> None:
    settings = load(CONFIGS / name, {})
    assert settings.configuration == configuration
    changed = settings.model_dump()
    default = Settings().model_dump()
    for section, key in (
        ("privacy", "dp"),
        ("privacy", "placement"),
        ("secure_aggregation", "enabled"),
    ):
        del changed[section][key], default[section][key]
    assert changed == default
    assert (settings.privacy.placement == "distributed") == (name == "distributed.yaml")


def test_the_report_file_has_the_reports_settings() -> None:
    settings = load(CONFIGS / "report.yaml", {})
    assert (settings.federation.clients, settings.federation.rounds) == (2, 80)
    assert (settings.model.encoder, settings.model.image_size) == ("resnet18", 240)
    assert (settings.training.optimizer, settings.training.learning_rate) == ("adam", 0.001)
    assert (settings.federation.strategy, settings.federation.shared) == ("fedavg", "classifier")
    assert settings.configuration == "plain"
    pairs = settings.data.phantom.patients * 9  # 6 to 12 slices
    assert pairs == pytest.approx(4000, rel=0.01)
    epochs = (
        settings.training.local_steps
        * expected(settings.training.sampling, settings.data.phantom.patients)
        / settings.data.phantom.patients
    )
    assert 8 <= epochs <= 10


def test_the_report_file_for_two_cores_differs_in_frozen_encoders_alone() -> None:
    exact, fast = (load(CONFIGS / name, {}) for name in ("report.yaml", "report-cpu.yaml"))
    assert fast != exact
    model = fast.model.model_copy(update={"train_encoders": True})
    assert fast.model_copy(update={"model": model}) == exact


def test_the_report_file_accepts_secure_aggregation_of_two() -> None:
    settings = load(CONFIGS / "report.yaml", {"secure_aggregation.enabled": True})
    assert settings.configuration == "secure"


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults() -> None:
    assert load(CONFIGS / "smoke.yaml", {}).federation.rounds == 2
    assert load(CONFIGS / "smoke.yaml", {"federation.rounds": 5}).federation.rounds == 5


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("federation: {round: 80}", "federation.round"),
        ("federation: {rounds: '80'}", "federation.rounds"),
        ("federation: {rounds: 0}", "federation.rounds"),
        ("privacy: {delta: 1.0}", "privacy.delta"),
        ("model: {encoder: vgg}", "model.encoder"),
        ("federation: {clients: 2}", "secure_aggregation.allow_two_party"),
        ("federation: {clients: 3, clients_per_round: 4}", "federation.clients_per_round"),
        ("federation: {shared: all}", "federation.shared"),
        ("model: {initialisation: random}", "model.initialisation"),
        ("model: {encoder: resnet18}", "model.initialisation"),
        ("data: {manifest: a.csv}\nevaluation: {baselines: true}", "evaluation.baselines"),
        ("surprise: 1", "surprise"),
        ("[1, 2]", "must hold keys"),
        ("a: [", "YAML"),
    ],
)
def test_a_mistake_is_refused_by_the_path_of_its_key(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load(path, {})
    assert named in str(refused.value)
    assert refused.value.exit_code == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.yaml"):
        load(tmp_path / "absent.yaml", {})

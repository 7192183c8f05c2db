"""Settings: each mistake is refused by the path of its key, and what is accepted comes back."""

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from securefed.config import (
    VOLUME_ENCODERS,
    ClassName,
    File,
    Modality,
    OneOf,
    Scanners,
    Settings,
    load,
)
from securefed.errors import ConfigurationError
from securefed.privacy.sampling import Batch, Rate

RESNET = {"model": {"encoder": "resnet18", "initialisation": "random", "train_encoders": True}}


def _refused(values: dict[str, Any], tmp_path: Path) -> ConfigurationError:
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigurationError) as refused:
        load(path, {})
    assert str(path) in str(refused.value)
    assert refused.value.hint
    return refused.value


# ---- what is accepted comes back -------------------------------------------------------------


def _sections(
    model: type[BaseModel] = Settings, prefix: str = ""
) -> Iterator[tuple[str, FieldInfo]]:
    """(dotted key, field) of every setting that is not itself a section."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _sections(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


LEAVES = dict(_sections())


def _limits(field: FieldInfo) -> dict[str, float]:
    names = ("ge", "gt", "le", "lt")
    return {n: getattr(m, n) for m in field.metadata for n in names if hasattr(m, n)}


def _ends(limits: dict[str, float]) -> tuple[float, float]:
    """The lowest and the highest value, allowed or only approached."""
    return next(limits[n] for n in ("ge", "gt") if n in limits), next(
        limits[n] for n in ("le", "lt") if n in limits
    )


def _strategy(kind: Any, limits: dict[str, float]) -> st.SearchStrategy[Any]:
    """Every value that a setting of this kind and these limits allows."""
    if get_origin(kind) in (Union, types.UnionType):
        return st.one_of([_strategy(part, limits) for part in get_args(kind)])
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if kind is bool:
        return st.booleans()
    if kind is type(None):
        return st.none()
    if kind is Path:
        return st.sampled_from([Path("scans.csv"), Path("/data/a b/scänner.csv")])
    if kind is str:
        return st.sampled_from(["ct", "x9", "a" * 16])
    if kind == tuple[File, ...]:
        return st.lists(_strategy(Path, {}), max_size=3).map(tuple)
    if kind == tuple[Modality, ...]:
        names = st.lists(st.sampled_from(["mri", "pet", "t1", "t2", "flair"]), min_size=1)
        return names.map(lambda each: tuple(dict.fromkeys(each)))
    if kind == tuple[ClassName, ...]:
        names = st.permutations(["healthy", "glioma", "grade-2", "no_18", "z"])
        return st.builds(lambda each, few: tuple(each[:few]), names, st.sampled_from([0, 3, 5]))
    if kind == tuple[Scanners, ...]:
        return st.lists(st.sampled_from([("ct",), ("mri", "ct")])).map(tuple)
    low, high = _ends(limits)
    if kind is int:
        return st.integers(int(low) + ("gt" in limits), int(high) - ("lt" in limits))
    assert kind is float, kind
    return st.floats(low, high, exclude_min="gt" in limits, exclude_max="lt" in limits)


def _values(field: FieldInfo) -> st.SearchStrategy[Any]:
    for choice in (m for m in field.metadata if isinstance(m, OneOf)):
        return st.sampled_from(sorted(choice.registry))
    return _strategy(field.annotation, _limits(field))


DISTRIBUTED = {  # what noise inside the secure sum needs, beside encoders that train
    "privacy.dp": True,
    "privacy.unit": "patient",
    "secure_aggregation.enabled": True,
    "training.local_steps": 1,
    "training.optimizer": "sgd",
    "federation.shared": "all",
    "federation.strategy": "fedavg",
}


@st.composite
def _any_settings(draw: st.DrawFn) -> Settings:
    """Settings drawn key by key from the declared ranges, contradictions repaired."""
    values = {key: draw(_values(f)) for key, f in LEAVES.items()}
    values["model.train_encoders"] = True
    if values["model.encoder"] != "compact":
        values["model.initialisation"] = "random"
    if values["model.initialisation"] == "random":
        values["model.weights"] = ()
    if values["model.encoder"] in VOLUME_ENCODERS:
        values["privacy.unit"] = "patient"
    if values["federation.clients_per_round"]:
        # Of those in a round: with everybody masking with everybody a thousand are the most.
        asked = values["federation.clients_per_round"] = min(
            1000, values["federation.clients_per_round"]
        )
        values["federation.clients"] = max(asked, values["federation.clients"])
    if values["federation.clients_per_round"]:
        values["secure_aggregation.graph"] = "complete"
    elif values["federation.clients"] > 1000:
        values["secure_aggregation.graph"] = "sparse"
    cohort = values["federation.clients_per_round"] or values["federation.clients"]
    values["federation.minimum_clients"] = min(cohort, values["federation.minimum_clients"])
    values["secure_aggregation.allow_two_party"] |= cohort == 2
    most = values["secure_aggregation.max_patients"]
    if values["training.sample_rate"]:
        values["training.batch_size"] = None
        values["training.sample_rate"] = max(1 / most, values["training.sample_rate"])
    else:
        values["training.batch_size"] = min(most, values["training.batch_size"] or 1)
    if values["task.classes"] or values["task.example"] == "slice":
        values["data.phantom.label_noise"] = 0.0
    if values["data.manifest"]:
        values["evaluation.baselines"] = False
    if values.get("privacy.placement") == "distributed":
        values.update(DISTRIBUTED)
    if values["privacy.unit"] != "patient":
        values["privacy.reference_epsilon"] = None
    if values.get("privacy.placement") == "distributed" or values["canaries.count"]:
        values["federation.sent_share"] = 1.0
    if values["federation.patience"]:
        values.update({"federation.shared": "all", "privacy.evaluation_epsilon": None})
    return load(None, values)


@given(chosen=_any_settings())
@settings(max_examples=60, deadline=None)
def test_settings_survive_the_run_record(chosen: Settings):
    assert Settings.model_validate_json(chosen.model_dump_json()) == chosen


@given(chosen=_any_settings())
@settings(max_examples=40, deadline=None)
def test_settings_survive_a_yaml_file(chosen: Settings, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("yaml") / "settings.yaml"
    path.write_text(yaml.safe_dump(chosen.model_dump(mode="json")))
    assert load(path, {}) == chosen


def test_the_defaults_are_the_documented_job():
    chosen = load(None, {})
    assert chosen == Settings()
    assert chosen.configuration == "dp+secure"
    assert (chosen.privacy.epsilon, chosen.privacy.delta) == (8.0, 1e-5)
    assert chosen.privacy.unit == "patient"
    assert not chosen.privacy.seeded_noise


@pytest.mark.parametrize(
    ("dp", "secure", "name"),
    [
        (False, False, "plain"),
        (True, False, "dp"),
        (False, True, "secure"),
        (True, True, "dp+secure"),
    ],
)
def test_two_switches_make_the_four_configurations(dp: bool, secure: bool, name: str):
    chosen = load(None, {"privacy.dp": dp, "secure_aggregation.enabled": secure})
    assert chosen.configuration == name


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().privacy.epsilon = 100.0  # type: ignore[misc]


def test_every_setting_explains_itself_and_every_number_has_limits():
    for key, field in LEAVES.items():
        assert field.description, key
        numbers = {int, float} & {field.annotation, *get_args(field.annotation)}
        if numbers:
            assert len(_limits(field)) == 2, key


# ---- precedence ------------------------------------------------------------------------------


def test_the_command_line_lies_over_the_file_and_the_file_over_the_defaults(tmp_path: Path):
    path = tmp_path / "settings.yaml"
    path.write_text("privacy:\n  epsilon: 2\n  clip_norm: 0.5\nseed: 3\n")
    chosen = load(path, {"privacy.epsilon": 4.0, "data.phantom.patients": 20})
    assert chosen.privacy.epsilon == 4.0
    assert chosen.privacy.clip_norm == 0.5
    assert chosen.seed == 3
    assert chosen.data.phantom.patients == 20
    assert chosen.federation == Settings().federation


def test_a_file_of_comments_changes_nothing(tmp_path: Path):
    path = tmp_path / "settings.yaml"
    path.write_text("# nothing yet\n")
    assert load(path, {}) == Settings()


# ---- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", " \n\n"])
def test_an_empty_file_is_not_taken_for_the_defaults(content: str, tmp_path: Path):
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"settings\.yaml is empty") as refused:
        load(path, {})
    assert "configs/default.yaml" in str(refused.value.hint)


@pytest.mark.parametrize("key", sorted(LEAVES))
def test_a_value_of_the_wrong_type_is_refused_by_its_key(key: str, tmp_path: Path):
    *sections, name = key.split(".")
    values: dict[str, Any] = {name: {"nested": 1}}
    for section in reversed(sections):
        values = {section: values}
    assert str(_refused(values, tmp_path)).startswith(f"{key}: ")


@pytest.mark.parametrize(
    "key", sorted(key for key, field in LEAVES.items() if len(_limits(field)) == 2)
)
def test_a_number_outside_its_limits_is_refused_by_its_key(key: str):
    limits = _limits(LEAVES[key])
    low, high = _ends(limits)
    integer = int in {LEAVES[key].annotation, *get_args(LEAVES[key].annotation)}
    beyond = [high if "lt" in limits else high + 1, low if "gt" in limits else low - 1]
    not_numbers = [] if integer else [float("nan"), float("inf")]
    for value in [*(int(value) if integer else value for value in beyond), *not_numbers]:
        with pytest.raises(ConfigurationError) as refused:
            load(None, {key: value})
        assert str(refused.value).startswith(f"{key}: ")
        assert f"got {value!r}" in str(refused.value)
        assert refused.value.hint


@pytest.mark.parametrize(
    ("values", "key", "known"),
    [
        ({"privcy": {}}, "privcy", "privacy"),
        ({"privacy": {"epsilonn": 1}}, "privacy.epsilonn", "epsilon"),
        ({"data": {"phantom": {"patient": 3}}}, "data.phantom.patient", "test_patients"),
        ({"secure_aggregation": {"threshold": 1}}, "secure_aggregation.threshold", "value_range"),
    ],
)
def test_an_unknown_key_is_refused_and_its_siblings_are_named(
    values: dict[str, Any], key: str, known: str, tmp_path: Path
):
    error = _refused(values, tmp_path)
    assert str(error).startswith(f"unknown key {key} ")
    assert known in str(error.hint)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"privacy": {"dp": "yes"}}, "privacy.dp"),
        ({"privacy": {"dp": 1}}, "privacy.dp"),
        ({"privacy": {"epsilon": "8"}}, "privacy.epsilon"),
        ({"federation": {"rounds": 2.0}}, "federation.rounds"),
        ({"federation": {"rounds": True}}, "federation.rounds"),
        ({"federation": {"strategy": "FedAvg"}}, "federation.strategy"),
        ({"model": {"encoder": "resnet50"}}, "model.encoder"),
        ({"model": {"query": "T1"}}, "model.query"),
        ({"model": {"context": []}}, "model.context"),
        ({"model": {"context": ["a", "b", "c", "d", "e", "f"]}}, "model.context"),
        ({"data": {"manifest": 3}}, "data.manifest"),
        ({"privacy": None}, "privacy"),
        ({"privacy": [1]}, "privacy"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({1: 2}, "1"),
    ],
)
def test_no_value_is_bent_into_another_type(values: dict[Any, Any], key: str, tmp_path: Path):
    assert str(_refused(values, tmp_path)).startswith(f"{key}: ")


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"federation": {"clients": 3, "clients_per_round": 4}}, "federation.clients_per_round"),
        ({"federation": {"clients": 3, "minimum_clients": 4}}, "federation.minimum_clients"),
        (
            {"federation": {"clients": 5, "clients_per_round": 3, "minimum_clients": 4}},
            "federation.minimum_clients",
        ),
        ({"federation": {"clients": 2}}, "secure_aggregation.allow_two_party"),
        ({"federation": {"clients_per_round": 2}}, "secure_aggregation.allow_two_party"),
        (
            {"data": {"manifest": "m.csv"}, "evaluation": {"baselines": True}},
            "evaluation.baselines",
        ),
        (
            {
                "federation": {"clients": 80, "clients_per_round": 70},
                "secure_aggregation": {"graph": "sparse"},
            },
            "secure_aggregation.graph",
        ),
        ({"federation": {"clients": 1001}}, "secure_aggregation.graph"),
        ({"model": {"encoder": "resnet18"}}, "model.initialisation"),
        (
            {
                "model": {
                    "encoder": "compact3d",
                    "initialisation": "random",
                    "train_encoders": True,
                },
                "privacy": {"unit": "image"},
            },
            "privacy.unit",
        ),
        ({"model": {"encoder": "compact3d"}}, "model.train_encoders"),
        (
            {
                "model": {
                    "initialisation": "random",
                    "train_encoders": True,
                    "weights": ["a.safetensors"],
                }
            },
            "model.initialisation",
        ),
        ({"model": {"query": "mri"}}, "model.context"),
        ({"model": {"context": ["pet", "pet"]}}, "model.context"),
        ({"model": {"initialisation": "random"}}, "model.initialisation"),
        ({"federation": {"shared": "all"}}, "federation.shared"),
    ],
)
def test_contradictions_are_refused_by_key_with_the_way_out(
    values: dict[str, Any], key: str, tmp_path: Path
):
    assert str(_refused(values, tmp_path)).startswith(f"{key}: ")


@pytest.mark.parametrize(
    "values",
    [
        {"federation": {"clients": 2}, "secure_aggregation": {"allow_two_party": True}},
        {"federation": {"clients": 2}, "secure_aggregation": {"enabled": False}},
        {"federation": {"clients": 10_000}, "secure_aggregation": {"graph": "sparse"}},
        {"federation": {"clients": 10_000}, "secure_aggregation": {"enabled": False}},
        {"federation": {"clients": 10_000, "clients_per_round": 1000}},
        {"evaluation": {"baselines": True}},
        {
            "data": {"manifest": "m.csv"},
            "evaluation": {"baselines": True},
            "privacy": {"dp": False},
        },
        RESNET,
        {**RESNET, "federation": {"shared": "all"}},
        {"federation": {"clients": 3, "clients_per_round": 3, "minimum_clients": 3}},
    ],
)
def test_what_only_looks_like_a_contradiction_is_accepted(values: dict[str, Any], tmp_path: Path):
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(values))
    chosen = load(path, {}).model_dump(mode="json")
    for section, keys in values.items():
        assert keys.items() <= chosen[section].items()


def test_an_override_below_a_plain_value_is_refused_by_the_path_of_that_value(tmp_path: Path):
    path = tmp_path / "settings.yaml"
    path.write_text("data:\n  phantom: 3\n")
    with pytest.raises(
        ConfigurationError, match=r"^data\.phantom must be a section of keys, got 3"
    ):
        load(path, {"data.phantom.patients": 10})
    with pytest.raises(ConfigurationError, match=r"^seed must be a section of keys, got 3$"):
        load(None, {"seed": 3, "seed.x": 1})


def test_a_value_that_was_typed_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("federation: {rounds: 3}\n")
    with pytest.raises(ConfigurationError, match=r"federation\.rounds: .*, got -1$"):
        load(path, {"federation.rounds": -1})
    with pytest.raises(ConfigurationError, match=r"run\.yaml and the command line together"):
        load(path, {"federation.clients": 2})
    path.write_text("federation: {rounds: -1}\n")
    with pytest.raises(ConfigurationError, match=r"got -1 \(in .*run\.yaml\)"):
        load(path, {"seed": 1})


# ---- a batch or a rate -----------------------------------------------------------------------


def test_a_rate_alone_takes_the_place_of_the_default_batch():
    assert load(None, {}).training.sampling == Batch(100)
    chosen = load(None, {"training.sample_rate": 0.25})
    assert (chosen.training.batch_size, chosen.training.sampling) == (None, Rate(0.25))


@pytest.mark.parametrize(
    ("batch", "rate", "told"),
    [(100, 0.25, "both say"), (1, 1.0, "both say"), (None, None, "neither says")],
)
def test_a_batch_and_a_rate_never_contradict_each_other(batch, rate, told):
    with pytest.raises(ConfigurationError, match=told):
        load(None, {"training.batch_size": batch, "training.sample_rate": rate})


@pytest.mark.parametrize("rate", [0.0, -1.0, 1.5, float("nan")])
def test_a_rate_is_a_probability(rate):
    with pytest.raises(ConfigurationError, match=r"training\.sample_rate"):
        load(None, {"training.sample_rate": rate})


def test_nobody_may_have_to_declare_more_patients_than_fit():
    small = {"secure_aggregation.max_patients": 50}
    with pytest.raises(ConfigurationError, match=r"training\.sample_rate: one over 0\.01 is"):
        load(None, {**small, "training.sample_rate": 0.01})
    assert load(None, {**small, "training.sample_rate": 0.02}).training.sample_rate == 0.02

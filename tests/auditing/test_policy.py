"""A policy is data: read strictly, refused with the place, and never without controls."""

import re

import pytest
import yaml

from attacks.policy import DEFAULT as DEFAULT_FILE
from securefed.auditing.policy import read_policy
from securefed.errors import ConfigurationError

DEFAULT = read_policy()


@pytest.fixture
def changed(tmp_path):
    """Write the default policy after a change and load it."""

    def load(change):
        content = yaml.safe_load(DEFAULT_TEXT)
        change(content)
        path = tmp_path / "policy.yaml"
        path.write_text(yaml.safe_dump(content))
        return read_policy(path)

    return load


DEFAULT_TEXT = yaml.safe_dump(DEFAULT.model_dump(by_alias=True, exclude_none=False))


# The gates of the specification, by hand: a change of the file has to be a change here too.
HONEST = "honest releases, 120 simulations"
GATES = {
    ("inversion", "plain, one image, reference LeNet 32x32", "psnr_db"): ("at_least", 18),
    ("inversion", "plain, one image, reference LeNet 32x32", "psnr_over_mean_colour_db"): (
        "at_least",
        6,
    ),
    ("inversion", "norm-matched noise gradient", "psnr_over_mean_colour_db"): ("at_most", 1),
    ("inversion", "under DP, clip 1, sigma 1", "psnr_over_mean_colour_db"): ("at_most", 1),
    ("head leakage", "plain, batch 4 or less, one client", "cosine"): ("at_least", 0.99),
    ("head leakage", "a wrong patient's feature", "cosine"): ("at_most", 0.25),
    ("membership", "plain, overfit fixture, 16 shadows", "auc"): ("at_least", 0.85),
    ("membership", "plain, overfit fixture, 16 shadows", "tpr at fpr 0.01"): ("at_least", 0.15),
    ("membership", "random labels", "auc_rise"): ("at_least", 0.01),
    ("membership", "permuted membership", "auc"): ("holds", 0.5),
    ("membership", "plain, rounds pooled", "auc"): ("at_least", 0.9),
    ("membership", "plain, rounds pooled", "tpr at fpr 0.01"): ("at_least", 0.5),
    ("membership", "rounds of other patients", "auc"): ("holds", 0.5),
    ("source inference", "plain, updates in the clear", "auc"): ("at_least", 0.9),
    ("source inference", "sums of changing cohorts", "auc"): ("at_least", 0.75),
    ("source inference", "patients of nobody", "auc"): ("holds", 0.5),
    ("head leakage", "plain, batch 12, one client", "cosine"): ("at_least", 0.99),
    ("head leakage", "imprint spread over rounds", "told apart"): ("at_least", 0.6),
    ("head leakage", "patients of no round", "told apart"): ("at_most", 0.05),
    ("membership", "plain, records planted", "auc"): ("at_least", 0.97),
    ("membership", "plain, records planted", "auc_rise"): ("at_least", 0.005),
    ("membership", "planted for patients of nobody", "auc"): ("holds", 0.5),
    ("property inference", "positives one in five, and four in five", "mean error"): (
        "at_most",
        0.2,
    ),
    ("property inference", "bright CT one in five, and four in five", "mean error"): (
        "at_most",
        0.2,
    ),
    ("property inference", "noise as long as the updates", "mean error"): ("at_least", 0.25),
    ("epsilon", "true epsilon 0, 500 simulations", "share of bounds above the truth"): (
        "at_most",
        0.05,
    ),
    ("epsilon", "true epsilon 2", "share of bounds above the truth"): ("at_most", 0.05),
    ("epsilon", "true epsilon 8", "share of bounds above the truth"): ("at_most", 0.05),
    ("direct tests", HONEST, "largest surprise"): ("at_most", 6),
    ("direct tests", HONEST, "share of surprises over 2"): ("at_most", 0.02),
    ("direct tests", "half the noise", "least surprise"): ("at_least", 4),
    ("direct tests", "half the noise, patients unknown", "least surprise"): ("at_least", 4),
    ("direct tests", "patients drawn twice as often", "least surprise"): ("at_least", 4),
    ("direct tests", "patients not clipped", "least surprise"): ("at_least", 4),
    **{
        ("epsilon", f"{bound}, true epsilon {epsilon}", "share of bounds above the truth"): (
            "at_most",
            most,
        )
        for bound, most, epsilons in (("gaussian pair", 0.03, "028"), ("noise", 0.004, "28"))
        for epsilon in epsilons
    },
    ("epsilon", "gaussian pair, half the noise of epsilon 8", "share contradicted"): (
        "at_least",
        0.95,
    ),
    ("epsilon", "noise, half the noise of epsilon 8", "share contradicted"): ("at_least", 0.99),
    ("epsilon", "patients as often as claimed", "share of surprises over 2"): ("at_most", 0.02),
    ("epsilon", "patients as often as claimed", "largest surprise"): ("at_most", 6),
    ("epsilon", "patients twice as often", "least surprise"): ("at_least", 4),
    # "Also audit a run with sigma halved: where power allows it must be caught."
    ("epsilon", "half the noise of epsilon 8", "share contradicted"): ("at_least", 0.6),
}


def test_the_default_policy_holds_every_gate_of_the_specification():
    found = {}
    for gate in DEFAULT.gates:
        condition = next(
            name for name in ("at_least", "at_most", "holds") if getattr(gate, name) is not None
        )
        found[gate.attack, gate.control, gate.metric] = (condition, getattr(gate, condition))
    assert found == GATES


def test_a_policy_survives_being_written_and_read(changed):
    assert changed(lambda content: None) == DEFAULT


def set_path(*path, value):
    def change(content):
        for part in path[:-1]:
            content = content[part]
        content[path[-1]] = value

    return change


def drop_gates(attack, kind):
    def change(content):
        content["gates"] = [
            g for g in content["gates"] if (g["attack"], g["kind"]) != (attack, kind)
        ]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_path("confidense", value=0.9), "confidense: .*no attack family"),
        (set_path("confidence", value=1.0), "confidence: Input should be less than 1"),
        (set_path("confidence", value="0.95"), "confidence: Input should be a valid number"),
        (set_path("schema", value=2), "schema: Input should be 1"),
        (set_path("thresholds", 0, "at_most", value=float("nan")), "thresholds.0.at_most"),
        (set_path("thresholds", 0, "attack", value="astrology"), "attack: .*no attack family"),
        (set_path("astrology", value={"minimum_power": 0.5}), "astrology: .*no attack family"),
        (set_path("thresholds", 0, "reason", value=""), "thresholds.0.reason"),
        (set_path("thresholds", 0, "scene", value="easy"), "thresholds.0.scene"),
        (set_path("gates", 0, "at_most", value=3.0), "gates.0: .*exactly one of"),
        (set_path("gates", 0, "at_least", value=None), "gates.0: .*exactly one of"),
        (set_path("epsilon", "minimum_power", value=1.5), "epsilon.minimum_power"),
        (set_path("primary", "astrology", value="lira"), "primary.astrology"),
        (lambda c: c["thresholds"].append(c["thresholds"][0]), "membership / auc .* twice"),
        (lambda c: c["gates"].append(c["gates"][0]), "psnr_db twice"),
        (lambda c: c.pop("set_by"), "set_by: Field required"),
        (drop_gates("membership", "null"), "membership is judged without a null control"),
        (drop_gates("inversion", "positive"), "inversion is judged without a positive control"),
    ],
)
def test_a_wrong_policy_is_refused_with_the_place(changed, change, message):
    with pytest.raises(ConfigurationError, match=message) as refusal:
        changed(change)
    assert refusal.value.exit_code == 2
    assert refusal.value.hint


def test_every_threshold_and_gate_must_say_why(changed):
    for part, count in (("thresholds", len(DEFAULT.thresholds)), ("gates", len(DEFAULT.gates))):
        for i in range(count):
            with pytest.raises(ConfigurationError, match="reason: Field required"):
                changed(lambda content, part=part, i=i: content[part][i].pop("reason"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema: 1\nname: a\nname: b\n", "the key name stands there twice.*line 3"),
        ("a: [1, 2", "not valid YAML"),
        ("? [1, 2]\n: 3\n", "not valid YAML"),
        ("a: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("[" * 1200, "not valid YAML"),
        ("", "policy .* is empty"),
        ("# nothing yet", "Field required"),
        ("- 1", "must hold keys and values"),
    ],
)
def test_what_is_no_policy_at_all_is_refused(tmp_path, text, message):
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_policy(path)


def test_a_missing_or_huge_file_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot read"):
        read_policy(tmp_path / "none.yaml")
    path = tmp_path / "huge.yaml"
    path.write_bytes(b"#" * (2 << 20))
    with pytest.raises(ConfigurationError, match="larger than"):
        read_policy(path)


@pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("0.001", 1e-3), ("1", 1.0)])
def test_a_threshold_is_a_number_however_it_is_written(tmp_path, text, value):
    path = tmp_path / "policy.yaml"
    path.write_text(re.sub("at_most: 0.60", f"at_most: {text}", DEFAULT_FILE.read_text()))
    threshold = read_policy(path).threshold("membership", "auc", "as configured")
    assert threshold is not None
    assert threshold.at_most == value


def test_what_the_policy_does_not_name_has_no_threshold():
    usual = DEFAULT.threshold("membership", "auc", "as configured")
    worst = DEFAULT.threshold("membership", "auc", "worst case")
    assert usual is not None
    assert usual.at_most == 0.60
    assert worst is not None
    assert worst.at_most is None
    assert DEFAULT.threshold("membership", "accuracy", "as configured") is None

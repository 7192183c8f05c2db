"""`securefed budget` as a user types it; figures are compared with the accountant's and a run's."""

import json
import math
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from securefed.budget import plan_budget
from securefed.cli.app import cli
from securefed.config import Settings, load
from securefed.data.phantom import PhantomSpec
from securefed.data.phantom_files import write_phantoms
from securefed.errors import ConfigurationError, DataError, PrivacyError, SecureFedError
from securefed.privacy.accounting import Event, epsilon, solve_noise_multiplier
from securefed.privacy.counts import declaration_noise
from securefed.privacy.sampling import Batch, Rate, Sampling, expected
from securefed.simulation.patients import load_data
from securefed.training.mechanism import build_mechanism
from securefed.wire.description import JobDescription


def budget(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["budget", *map(str, arguments)], catch_exceptions=False)


def as_json(*arguments: object) -> dict[str, object]:
    shown = budget(*arguments, "--json")
    assert shown.exit_code == 0
    value: dict[str, object] = json.loads(shown.stdout)
    return value


def hospitals(plan: dict[str, object]) -> list[dict[str, object]]:
    found = plan["hospitals"]
    assert isinstance(found, list)
    return found


def declared(budget: float = 8.0) -> Event:
    """What a hospital declares of its patients by default, out of the same budget."""
    noise = declaration_noise(0.5, budget, 1e-5, "prv", "patient")
    assert noise is not None
    return noise.event


def test_without_options_it_plans_the_default_run() -> None:
    plan, default = as_json(), load(None, {})
    assert plan["question"] == "noise"
    assert plan["target_epsilon"] == default.privacy.epsilon
    (each,) = hospitals(plan)
    assert each["records"] == default.data.phantom.patients
    assert each["steps"] == default.federation.rounds * default.training.local_steps
    rate = default.training.sampling.rate(default.data.phantom.patients)
    rounds = Event(float(str(each["noise_multiplier"])), rate, default.federation.rounds)
    history = [declared(), rounds]
    assert each["epsilon"] == epsilon(history, default.privacy.delta, "prv")
    assert each["epsilon_rdp"] == epsilon(history, default.privacy.delta, "rdp")


def test_noise_alone_asks_for_epsilon() -> None:
    plan = as_json("--noise-multiplier", 1.5, "--rounds", 10, "--patients", 200)
    assert plan["question"] == "epsilon"
    assert plan["target_epsilon"] is None
    (each,) = hospitals(plan)
    assert each["epsilon"] == epsilon([declared(), Event(1.5, 0.5, 10)], 1e-5, "prv")


def test_noise_and_epsilon_together_ask_for_rounds_that_every_hospital_can_afford() -> None:
    plan = as_json("--noise-multiplier", 4, "--epsilon", 3, "--patients", "300,120")
    assert plan["question"] == "rounds"
    large, small = hospitals(plan)
    affordable = (large["affordable_rounds"], small["affordable_rounds"])
    assert affordable[0] > affordable[1] > 0  # type: ignore[operator]
    assert plan["rounds"] == affordable[1]
    for each, rate in ((large, 1 / 3), (small, 100 / 120)):
        history = [declared(3.0), Event(4.0, rate, affordable[1])]  # type: ignore[arg-type]
        assert each["epsilon"] == epsilon(history, 1e-5, "prv")
        assert float(str(each["epsilon"])) <= 3


def test_hospitals_of_different_size_get_a_line_each_and_their_own_noise() -> None:
    shown = budget("--patients", "300,120,80", "--epsilon", 2, "--rounds", 20)
    assert shown.exit_code == 0
    lines = [line for line in shown.stdout.splitlines() if "hospital-" in line]
    rows = [re.findall(r"[\d.]+", line) for line in lines if line.startswith(" hospital-")]
    assert [row[1] for row in rows] == ["300", "120", "80"]
    noises = [float(row[4]) for row in rows]
    assert noises == sorted(noises)
    assert noises[0] < noises[-1]
    assert "sampling hides nobody" in " ".join(shown.stdout.split())  # 80 patients, batch 100


def test_every_epsilon_stands_with_what_it_means() -> None:
    text = " ".join(budget("--epsilon", 4, "--rounds", 8).stdout.split())
    for part in ("delta 1e-05", "per patient", "add/remove adjacency", "poisson", "PRV", "RDP"):
        assert part in text


def test_shown_epsilons_are_rounded_up_never_down() -> None:
    plan = as_json("--noise-multiplier", 2, "--rounds", 7, "--patients", 333)
    exact = float(str(hospitals(plan)[0]["epsilon"]))
    text = budget("--noise-multiplier", 2, "--rounds", 7, "--patients", 333).stdout
    (shown,) = re.findall(r"largest: epsilon ([\d.]+)", text)
    assert exact <= float(shown) < exact + 0.001


def test_both_accountants_stand_side_by_side_and_one_decides() -> None:
    by_prv = hospitals(as_json("--epsilon", 4, "--rounds", 10))[0]
    by_rdp = hospitals(as_json("--epsilon", 4, "--rounds", 10, "--accountant", "rdp"))[0]
    assert by_rdp["noise_multiplier"] > by_prv["noise_multiplier"]  # type: ignore[operator]
    assert by_rdp["epsilon_rdp"] == by_rdp["epsilon"]
    assert float(str(by_rdp["epsilon_prv"])) < float(str(by_rdp["epsilon_rdp"])) <= 4


@pytest.mark.parametrize(("name", "start"), [("b.svg", b"<?xml"), ("b.PNG", b"\x89PNG")])
def test_the_plot_is_a_picture_with_its_meaning(name: str, start: bytes, tmp_path: Path) -> None:
    shown = budget("--rounds", 6, "--patients", "300,120", "--plot", tmp_path / name)
    assert shown.exit_code == 0
    picture = (tmp_path / name).read_bytes()
    assert picture.startswith(start)
    if name.endswith("svg"):
        for part in ("hospital-2, PRV", "hospital-1, RDP", "delta 1e-05 per patient", "at most 8"):
            assert part in picture.decode()


def test_the_plot_does_not_change_the_plan(tmp_path: Path) -> None:
    assert as_json("--rounds", 6) == as_json("--rounds", 6, "--plot", tmp_path / "b.svg")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--patients", "3x"), ConfigurationError, "'3x'"),
        (("--patients", "300,"), ConfigurationError, "'300,'"),
        (("--patients", "0"), ConfigurationError, "at least 1"),
        (("--patients", "300", "--data", "x.csv"), ConfigurationError, "give one of them"),
        (("--data", "missing.csv"), DataError, "missing.csv"),
        (("--delta", "0.5"), PrivacyError, "1 / 300"),
        (("--epsilon", "-1"), ConfigurationError, "privacy.epsilon"),
        (("--epsilon", "0.001"), ConfigurationError, "cannot be reached"),
        (("--noise-multiplier", "nan"), ConfigurationError, "noise_multiplier"),
        (("--noise-multiplier", "0.6", "--epsilon", "0.2"), ConfigurationError, "one round"),
        (
            ("--noise-multiplier", "1", "--epsilon", "2", "--rounds", "3"),
            ConfigurationError,
            "leave one of the three out",
        ),
        (("--plot", "budget.pdf"), ConfigurationError, ".svg or .png"),
        (("--plot", "missing/b.svg", "--rounds", "2"), ConfigurationError, "missing/b.svg"),
        (("--config", "missing.yaml"), ConfigurationError, "missing.yaml"),
    ],
)
def test_wrong_input_is_refused_with_a_way_out(
    arguments: tuple[str, ...], error: type[SecureFedError], message: str
) -> None:
    with pytest.raises(error) as refused:
        budget(*arguments)
    assert message in f"{refused.value} {refused.value.hint}"
    assert refused.value.hint


def test_a_manifest_is_counted_as_the_run_would_divide_it(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "mine", PhantomSpec(image_size=32), 2, 12, seed=1)
    data = {"partition": "dirichlet", "manifest": str(tmp_path / "mine" / "manifest.csv")}
    config = tmp_path / "c.yaml"
    config.write_text(
        yaml.safe_dump(
            {"data": data, "model": {"image_size": 32}, "federation": {"clients": 3}, "seed": 3}
        )
    )
    expected = {each.name: len(each.train) for each in load_data(load(config, {})).hospitals}
    plan = as_json("--config", config, "--batch-size", 2, "--rounds", 3)
    assert {each["name"]: each["records"] for each in hospitals(plan)} == expected
    assert len(set(expected.values())) > 1


def test_the_unit_image_counts_slices(tmp_path: Path) -> None:
    settings = load(
        None,
        {
            "privacy.unit": "image",
            "privacy.delta": 1e-4,
            "data.phantom": {"patients": 4, "test_patients": 2},
            "model.image_size": 32,
            "training.batch_size": 4,
            "training.max_slices": 3,
            "federation.rounds": 2,
        },
    )
    plan = plan_budget(settings)
    assert len(plan.hospitals) == 4
    assert {each.training.records for each in plan.hospitals} == {12}  # 4 patients, 3 slices kept
    assert plan.dearest.guarantee.unit == "image"


def shared(**privacy: object) -> Settings:
    return load(
        None,
        {
            "privacy": {"placement": "distributed", "delta": 1e-4, "epsilon": 6.0, **privacy},
            "data.phantom": {"patients": 20, "test_patients": 2},
            "model.image_size": 32,
            "training.batch_size": 5,
            "federation": {"rounds": 10, "clients": 5},
        },
    )


def test_shared_noise_is_planned_as_the_run_calibrates_it() -> None:
    settings = shared()
    data = load_data(settings)
    smallest = min(len(each.train) for each in data.hospitals)
    noise = JobDescription(settings, "run", (), smallest).shared_noise
    plan = plan_budget(settings)
    assert noise is not None
    assert plan.shared_noise is not None
    assert plan.shared_noise.noise_multiplier == noise.noise_multiplier
    assert plan.shared_noise.counted == noise.counted
    assert plan.shared_noise.share == noise.share_sigma / noise.clip_steps
    assert plan.dearest.guarantee.counted <= 6.0


def test_shared_noise_is_that_of_the_smallest_hospital_and_costs_the_others_less() -> None:
    plan = plan_budget(shared(), sizes={"a": 20, "b": 40, "c": 30, "d": 20, "e": 90})
    assert len({each.noise_multiplier for each in plan.hospitals}) == 1
    epsilons = {each.training.name: each.guarantee.counted for each in plan.hospitals}
    assert epsilons["a"] == max(epsilons.values()) == plan.dearest.guarantee.counted
    assert epsilons["e"] < epsilons["b"] < epsilons["c"] < epsilons["a"] <= 6.0


def test_the_command_tells_the_share_of_each_hospital(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("privacy: {placement: distributed}\nmodel: {image_size: 32}\n")
    text = " ".join(budget("--config", config, "--patients", "50,60,70,80,90").stdout.split())
    # Of five asked, four have to answer, and one of them may collude.
    assert "each of 5 hospitals adds a share of" in text
    assert "epsilon counts on 3 of them" in text


def test_noise_of_the_mean_is_told_where_it_is_the_hospitals_own() -> None:
    (own,) = hospitals(as_json("--noise-multiplier", 2, "--rounds", 2))
    assert own["noise_of_mean"] == pytest.approx(0.02)  # 2 over a batch of 100
    assert "mean gradient of its step: 0.0200" in budget("--noise-multiplier", 2).stdout
    (dealt,) = plan_budget(shared()).as_json()["hospitals"]
    assert dealt["noise_of_mean"] is None


def test_rounds_without_noise_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="noise multiplier"):
        plan_budget(load(None, {}), solve_rounds=True)


def test_what_a_run_would_refuse_is_said() -> None:
    plan = plan_budget(load(None, {}), sizes={"large": 20_000})
    assert any("max_patients: 20000" in note for note in plan.notes)


def test_the_pages_figures_are_what_the_command_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "budget.md").read_text()
    rows = {
        "batch 100, 80 rounds": {},
        "batch 100, 20 rounds": {"federation.rounds": 20},
        "batch 30, 80 rounds": {"training.batch_size": 30},
    }
    for name, changes in rows.items():
        each = plan_budget(load(None, changes)).dearest
        assert f"| {name} | {each.noise_multiplier:.4f} | {each.noise_of_mean:.4f} |" in page
    small = plan_budget(load(None, {"privacy.epsilon": 2.0}), sizes={"a": 300, "b": 80}).hospitals
    assert f"patients need a noise multiplier of {small[0].noise_multiplier:.4f}" in page
    assert f"80 patients {small[1].noise_multiplier:.4f}" in page
    dealt = plan_budget(load(None, {"privacy.placement": "distributed"})).shared_noise
    assert dealt is not None
    assert dealt.counted == 2
    assert f"that is {dealt.share:.3f} clipping norms, two of which count" in page


def test_noise_of_cohorts_is_for_the_rounds_of_the_plan_that_a_run_keeps_to() -> None:
    """4 of 10 hospitals: 32 of 80 rounds each, a noise multiplier of 1.39 instead of 1.98."""
    asked = {"privacy.dp": True, "federation.clients": 10, "federation.clients_per_round": 4}
    some, everybody = load(None, asked), load(None, {**asked, "federation.clients_per_round": None})
    (each,), (always,) = plan_budget(some).hospitals, plan_budget(everybody).hospitals
    assert (each.rounds, always.rounds) == (32, 80)
    assert round(each.noise_multiplier, 2) == 1.39
    assert round(always.noise_multiplier, 2) == 1.98
    names = tuple(f"site-{number}" for number in range(10))
    mechanism = build_mechanism(JobDescription(some, "run", names), "site-3", 300)
    event = mechanism.event(1 / 3, 1)
    assert event is not None
    assert event.noise_multiplier == each.noise_multiplier


def test_rounds_that_a_noise_pays_for_are_those_until_somebody_is_asked_too_often() -> None:
    settings = load(None, {"federation.clients": 10, "federation.clients_per_round": 4})
    plan = plan_budget(settings, noise_multiplier=1.3933, solve_rounds=True)
    assert (plan.rounds, plan.dearest.rounds) == (80, 32)  # somebody has a 33rd turn in the next
    sizes = {"north": 300, "south": 100, "east": 300, "west": 300, "far": 300}
    uneven = plan_budget(settings, sizes=sizes, noise_multiplier=2.0, solve_rounds=True)
    assert uneven.dearest.training.name == "south"
    assert uneven.dearest.guarantee.counted <= 8.0


UNLIKE = (60, 300, 300, 300)


def noise_by_hand(sampling: Sampling, placement: str) -> float:
    """Of the mean gradient of four hospitals at epsilon 8 over 80 rounds, from the formulas.

    Shared out, two of four shares have to do (three survivors, one of whom may collude).
    """
    declared_sizes = [max(each, sampling.least) for each in UNLIKE]
    solved = [
        solve_noise_multiplier(8.0, 1e-5, sampling.rate(each), 80, "prv", [declared()])
        for each in declared_sizes
    ]
    batches = [expected(sampling, each) for each in declared_sizes]
    if placement == "distributed":
        return math.sqrt(4 / 2) * max(solved) / sum(batches)
    noised = [n * s / b for n, s, b in zip(declared_sizes, solved, batches, strict=True)]
    return math.hypot(*noised) / sum(declared_sizes)


def test_both_placements_are_compared_and_a_rate_is_what_shared_noise_wants() -> None:
    sizes = {f"hospital-{place}": size for place, size in enumerate(UNLIKE, start=1)}
    found = {}
    for sampling, asked in (
        (Batch(100), {}),
        (Rate(1 / 3), {"training.sample_rate": 1 / 3}),
    ):
        for placement in ("local", "distributed"):
            settings = load(None, {**asked, "privacy.dp": True, "privacy.placement": placement})
            plan = plan_budget(settings, sizes=sizes)
            assert next(iter(plan.noise_of_update)) == placement
            for each, noise in plan.noise_of_update.items():
                # Rounding to ring steps adds less than two thousandths to shared noise.
                assert noise == pytest.approx(noise_by_hand(sampling, each), rel=2e-3)
                found[str(sampling), each] = f"{noise:.4f}"
            sets = any("sets everybody's noise" in note for note in plan.notes)
            assert sets == (placement == "distributed" and sampling == Batch(100))
            assert plan.quieter == ("local" if sampling == Batch(100) else "distributed")
    assert found == {
        ("batch 100", "local"): "0.0116",
        ("batch 100", "distributed"): "0.0191",
        ("rate 0.3333", "local"): "0.0124",
        ("rate 0.3333", "distributed"): "0.0088",
    }
    page = Path("docs/distributed-noise.md").read_text()
    assert all(noise in page for noise in found.values())


def test_why_there_is_no_comparison_is_told() -> None:
    two = plan_budget(load(None, {"training.local_steps": 2}))
    assert (list(two.noise_of_update), two.quieter) == (["local"], None)
    assert any("distributed needs training.local_steps: 1, got 2" in note for note in two.notes)
    shown = budget("--local-steps", 2)
    assert shown.exit_code == 0
    assert "with local noise\n" in shown.stdout


def test_a_rate_is_planned_as_a_batch_is_and_both_are_refused() -> None:
    told = as_json("--patients", "60,300", "--sample-rate", 0.25)
    assert told["batch_size"] is None
    assert [each["sample_rate"] for each in hospitals(told)] == [0.25, 0.25]
    assert "rate 0.25" in budget("--sample-rate", 0.25).stdout
    both = CliRunner().invoke(cli, ["budget", "--sample-rate", "0.25", "--batch-size", "10"])
    assert isinstance(both.exception, ConfigurationError)
    assert "both say how many patients a step draws" in str(both.exception)

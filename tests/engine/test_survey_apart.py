"""A survey among hospitals in folders of their own, as one agreement and one job."""

import shutil
import threading
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from securefed.cli.app import cli
from securefed.errors import ConfigurationError, RoundAborted, RunError
from securefed.hospital import policy as policy_file
from securefed.hospital import site as site_file
from securefed.record import memberships
from securefed.record.noised_scores import SurveyAnswer
from securefed.record.summary import Summary
from securefed.record.survey import SurveyFile
from securefed.wire import agreement as agreement_file
from securefed.wire.hello import Presence, encode_presence, is_hello
from securefed.wire.messages import decode_request
from securefed.wire.transport import Handler
from tests.engine.four_sites import NAMES, PATIENTS, Four, make_four, settings, survey_of

EPSILON = 2.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("patients")


@pytest.fixture
def four(tmp_path: Path, data: Path) -> Four:
    """Four sites that have accepted an agreement on a survey, beside one on training."""
    training = make_four(tmp_path / "training", data)
    return survey_of(training, tmp_path / "survey", EPSILON)


def test_the_server_has_one_noised_sum_and_each_ledger_has_paid_for_it(four: Four) -> None:
    summary = four.play()
    assert summary is not None
    assert (summary.rounds, summary.epsilon, summary.noise) == (0, None, "seeded")
    found = SurveyFile.read(four.server)
    assert found.hospitals == NAMES
    assert found.simulation == "phantom"
    # A deviation of 2.9 patients on each of six cells: within seven of them but for 1e-11.
    assert abs(found.patients["all"].value - 4 * PATIENTS) < 7 * found.deviation * 6**0.5
    for site in four.sites.values():
        (event,) = site.ledger().history()
        assert (event.sample_rate, event.noise_from) == (1.0, 3)
        joined = memberships.read(site.jobs(four.agreement.run))
        assert [each.outcome for each in joined] == ["joined", "finished"]
    assert "counted with noise; spent here" in four.told["west"][-1]
    assert four.serve({}) == summary  # finished: nobody is asked again


def test_without_one_hospital_nobody_is_counted(four: Four) -> None:
    members = four.members("east", "north", "south")
    handlers: dict[str, Handler] = {name: each.handle for name, each in members.items()}
    away = encode_presence(Presence("refused", "policy.hours"))
    with pytest.raises(RunError, match="3 of 4 hospitals are ready"):
        four.serve({**handlers, "west": lambda data: away})
    for each in members.values():
        each.close()
    assert not (four.server / Summary.NAME).exists()
    assert all(site.ledger().history() == [] for site in four.sites.values())


def test_who_was_lost_on_the_way_answers_the_same_in_another_job(four: Four) -> None:
    members = four.members()
    handlers: dict[str, Handler] = {name: each.handle for name, each in members.items()}
    alive, dead = handlers["west"], threading.Event()

    def dies_with_its_answer(data: bytes) -> bytes:
        reply = alive(data)
        if not is_hello(data) and decode_request(data).stage == "work":
            dead.set()
        if dead.is_set():
            raise ConnectionError
        return reply

    handlers["west"] = dies_with_its_answer
    with pytest.raises(RoundAborted):
        four.serve(handlers)
    for each in members.values():
        each.close()
    answered = {
        name: SurveyAnswer.read(site.run(four.agreement.run)) for name, site in four.sites.items()
    }
    assert four.play() is not None
    for name, site in four.sites.items():
        assert SurveyAnswer.read(site.run(four.agreement.run)) == answered[name]
        assert len(site.ledger().history()) == 1


def test_an_answer_that_is_lost_is_not_drawn_again(four: Four) -> None:
    four.play()
    west, run = four.sites["west"], four.agreement.run
    shutil.rmtree(four.server)
    (four.server).mkdir()
    shutil.copy(four.folder / "agreement.yaml", four.server)
    (west.run(run) / SurveyAnswer.NAME).unlink()
    with pytest.raises(RunError, match="3 of 4 hospitals are ready"):
        four.play()
    assert any("has paid for this survey" in line for line in four.told["west"])
    assert len(west.ledger().history()) == 1


def test_a_site_s_policy_holds_for_a_survey_too(four: Four) -> None:
    west = four.sites["west"]
    path = west.folder / policy_file.NAME
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "run_epsilon": 1.0}))
    four.sites["west"] = site_file.open_site(west.folder)
    with pytest.raises(RunError, match=r"west refused: policy\.run_epsilon"):
        four.play()
    assert west.ledger().history() == []


def test_an_agreement_says_that_it_is_a_survey(four: Four, tmp_path: Path) -> None:
    path = four.folder / "agreement.yaml"
    assert "survey: true" in path.read_text()
    shown = CliRunner().invoke(cli, ["agreement", "show", str(path)]).stdout
    assert "nothing is trained" in shown
    assert "every patient here at most epsilon 2" in shown
    training = agreement_file.read(tmp_path / "training" / "agreement.yaml")
    assert ("survey", True, False) in agreement_file.read(path).differences(training)
    assert "survey" not in (tmp_path / "training" / "agreement.yaml").read_text()
    (tmp_path / "odd.yaml").write_text(path.read_text().replace("survey: true", "survey: 1"))
    with pytest.raises(ConfigurationError, match="no agreement"):
        agreement_file.read(tmp_path / "odd.yaml")
    with pytest.raises(ConfigurationError, match="a sum over everybody"):
        agreement_file.make("s", settings(), training.roster.keys, None, survey=True)


def test_it_is_made_by_an_option(four: Four, tmp_path: Path) -> None:
    lines = [f"{name}={key.hex()}" for name, key in four.agreement.roster.keys.items()]
    chosen = [word for line in lines for word in ("--hospital", line)]
    out = tmp_path / "made.yaml"
    made = CliRunner().invoke(
        cli, ["agreement", "make", str(out), "--name", "s", "--survey", "0.5", *chosen]
    )
    assert made.exit_code == 0, made.output
    assert "4 hospitals, a survey" in made.stdout
    found = agreement_file.read(out)
    assert (found.survey, found.settings.privacy.epsilon) == (True, 0.5)
    assert found.settings.federation.minimum_clients == 4

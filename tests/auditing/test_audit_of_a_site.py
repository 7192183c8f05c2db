"""A hospital on a machine of its own audits itself, from its own folder and nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from securefed.auditing.audit import audit
from securefed.auditing.exposures import exposures_of, observers_of
from securefed.errors import ConfigurationError, RunError
from securefed.evidence import checks
from securefed.playback.observers import Observers
from securefed.playback.recorded import RecordedRun
from securefed.privacy import ledger_file
from securefed.record import egress, memberships, recording
from securefed.record.run_file import RunFile
from securefed.run_directory import Run
from securefed.verdict import Verdict
from tests.engine.four_sites import NAMES, ROUNDS, Four, make_four

LACKS = "does not apply: needs"


@pytest.fixture
def site(played: Four, tmp_path: Path) -> Run:
    """East's part of the run, a copy."""
    return Run.open(played.copied("east", tmp_path))


def test_a_hospital_audits_what_it_sent_and_says_for_what_it_needs_others(site: Run) -> None:
    file = audit(site, effort="quick", attacks=("direct tests", "membership", "source inference"))
    assert file.evidence == ()
    assert file.verdict is not Verdict.FAIL
    assert [each.observer for each in file.exposures] == ["peer", "coalition", "outsider"]
    measured = {(f.attack, f.observer) for f in file.findings if f.value is not None}
    assert measured == {("direct tests", "peer"), ("direct tests", "coalition")}
    rest = [each for each in file.judgements if each.attack in ("membership", "source inference")]
    assert len(rest) == 3 * 5  # observers, and what the policy asks
    assert all(each.verdict is None and each.reason.startswith(LACKS) for each in rest)
    assert Run.open(site.path).audit == file


def test_an_audit_of_what_cannot_be_tried_here_says_so_and_decides_nothing(site: Run) -> None:
    file = audit(site, effort="quick", attacks=("membership",))
    assert {each.verdict for each in file.judgements} == {None}
    assert file.verdict is Verdict.INCONCLUSIVE
    assert checks.mismatches(Run.open(site.path)) == ()


def test_what_a_site_says_others_have_of_it_is_what_they_have(played: Four, site: Run) -> None:
    folders = {name: played.run_of(name) for name in NAMES}
    everything = Observers(RecordedRun(played.server, site.job, folders))
    alone = site.observers()
    for one, other in (
        (alone.coalition("east"), everything.coalition("east")),
        (alone.peer("east"), everything.peer("east")),
    ):
        assert len(one.rounds) == len(other.rounds) == ROUNDS
        assert one.members == other.members
        for mine, theirs in zip(one.rounds, other.rounds, strict=True):
            assert np.array_equal(mine.shared, theirs.shared)
            assert np.array_equal(mine.updates["east"], theirs.updates["east"])
    assert all(view.survivors == NAMES for view in alone.peer("east").rounds)


def test_what_was_masked_the_server_has_not_and_a_site_does_not_say_it_has(site: Run) -> None:
    assert "server" not in observers_of(site)
    with pytest.raises(ConfigurationError, match="what the server of this run saw is not in"):
        exposures_of(site, ["server"])
    with pytest.raises(RunError, match="the messages of east alone"):
        site.observers().server()
    with pytest.raises(RunError, match="what north kept is not in"):
        site.observers().peer("north")


@pytest.mark.slow  # a federation of its own
def test_in_the_clear_the_server_has_each_update_and_the_site_audits_that(tmp_path: Path) -> None:
    from tests.engine.four_sites import settings

    plain = settings(privacy={"dp": False}, secure_aggregation={"enabled": False})
    policy = {"differential_privacy": False, "secure_aggregation": False}
    four = make_four(tmp_path / "parties", tmp_path / "patients", plain, policy)
    four.play()
    run = Run.open(four.run_of("west"))
    assert observers_of(run) == ("server", "peer", "coalition", "outsider")
    seen = exposures_of(run, ["server"])["server"]
    theirs = Observers(RecordedRun(four.server, run.job, {})).server()
    for mine, other in zip(seen.rounds, theirs.rounds, strict=True):
        assert np.array_equal(mine.updates["west"], other.updates["west"])
    file = audit(run, effort="quick", attacks=("inversion",))
    assert file.evidence == ()
    assert {each.observer for each in file.judgements} == set(observers_of(run))


def _edited_line(run: Run) -> None:
    path = run.path / egress.NAME
    first, *rest = path.read_text().splitlines(keepends=True)
    path.write_text(json.dumps({**json.loads(first), "sha256": "0" * 64}) + "\n" + "".join(rest))


def _lost_line(run: Run) -> None:
    path = run.path / egress.NAME
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def _lost_message(run: Run) -> None:
    """The last one that left, with its request."""
    path = run.exposures / recording.INDEX
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))


def _other_settings(run: Run) -> None:
    path = run.path / RunFile.NAME
    path.write_text(path.read_text().replace('"clip_norm": 1.0', '"clip_norm": 2.0'))


def _no_ledger(run: Run) -> None:
    for each in run.ledger("east").parent.glob(f"{ledger_file.NAME}*"):
        each.unlink()


@pytest.mark.parametrize(
    ("edit", "file"),
    [
        (_edited_line, egress.NAME),
        (_lost_line, egress.NAME),
        (_lost_message, f"exposures/{recording.INDEX}"),
        (_other_settings, RunFile.NAME),
        (_no_ledger, ledger_file.NAME),
        (lambda run: (run.jobs / memberships.NAME).unlink(), memberships.NAME),
        (lambda run: shutil.rmtree(run.exposures), f"exposures/{recording.INDEX}"),
    ],
)
def test_what_contradicts_the_rest_is_named_and_nothing_is_attacked(
    site: Run, edit: Callable[[Run], None], file: str
) -> None:
    assert checks.mismatches(site) == ()
    edit(site)
    found = audit(Run.open(site.path), effort="quick", attacks=("direct tests",))
    assert found.verdict is Verdict.FAIL
    assert found.findings == ()
    assert file in {each.file for each in found.evidence}


def test_a_run_that_is_not_finished_says_how_it_goes_on(site: Run) -> None:
    (site.path / "summary.json").unlink()
    with pytest.raises(RunError, match="is not finished") as caught:
        audit(Run.open(site.path), effort="quick")
    assert "securefed client" in str(caught.value.hint)

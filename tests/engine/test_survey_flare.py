"""A survey among real processes, over mutual TLS: one dies with its answer, and comes back."""

from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

from securefed.record import memberships
from securefed.record.noised_scores import SurveyAnswer
from securefed.record.survey import SurveyFile
from tests.engine.four_sites import NAMES, PATIENTS, make_four, survey_of

if find_spec("nvflare") is None:
    pytest.skip("nvflare is not installed (extra `engine`)", allow_module_level=True)

from tests.engine.machines import Orders, connect, everybody, served, wait_until

pytestmark = pytest.mark.slow


def test_a_survey_comes_to_its_end_though_a_hospital_dies_with_its_answer(tmp_path: Path) -> None:
    four = survey_of(make_four(tmp_path / "training", tmp_path / "data"), tmp_path / "survey", 2.0)
    connect(four)
    orders = Orders(tmp_path / "orders")
    environment = orders.environment
    orders.give("kill.masking")
    with ExitStack() as programs:
        everybody(four, programs, environment=environment)
        server = served(four, programs)
        wait_until(lambda: orders.obeyed("kill.masking"), "a hospital's death")
        answered = {name: four.run_of(name) / SurveyAnswer.NAME for name in NAMES}
        kept = {name: path.read_bytes() for name, path in answered.items() if path.exists()}
        assert server.process.wait(300) == 0, server.text
    found = SurveyFile.read(four.server)
    assert found.hospitals == NAMES
    assert abs(found.patients["all"].value - 4 * PATIENTS) < 7 * found.deviation * 6**0.5
    assert memberships.newest(four.server) == 2
    assert kept
    assert {name: answered[name].read_bytes() for name in kept} == kept
    for name, site in four.sites.items():
        assert len(site.ledger().history()) == 1, name

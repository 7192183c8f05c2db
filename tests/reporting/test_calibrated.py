"""What is said of a model's probabilities: no figure that no patients could give."""

import pytest

from securefed.model.calibration import Calibration
from securefed.reporting.calibrated import calibration_in_words


def found(error: float, loss: float) -> Calibration:
    return Calibration(
        patients=20,
        temperature=None,
        why_not="held-out patients of both labels are needed",
        loss_before=loss,
        loss_after=None,
        error_before=error,
        error_after=None,
        error_by_chance=1.1,
    )


def test_figures_without_a_temperature_are_told() -> None:
    told = calibration_in_words(found(0.277, 0.946))
    assert "not calibrated: held-out patients of both labels are needed" in told
    assert "Calibration error 0.277, log loss 0.946." in told


@pytest.mark.parametrize(("error", "loss"), [(1.501, 0.4), (0.3, -1.555)])
def test_what_only_noise_can_give_is_not_told(error: float, loss: float) -> None:
    told = calibration_in_words(found(error, loss))
    assert "not calibrated" in told
    assert "Noise in their counts hides how far they are off" in told
    assert str(error) not in told
    assert str(loss) not in told

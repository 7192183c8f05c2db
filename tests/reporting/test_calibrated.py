"""What is said of a model's probabilities: no figure that no patients could give."""

import msgspec
import pytest

from securefed.model.calibration import Calibration, Temperature
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


@pytest.mark.parametrize(("loss_after", "hidden"), [(0.3, False), (-0.1, True)])
def test_a_temperature_is_told_also_where_noise_hides_the_rest(
    loss_after: float, hidden: bool
) -> None:
    fitted = Temperature(
        value=1.5, ci95=(1.2, 1.9), slope=0.7, shift=0.0, covariance=(0.01, 0.0, 0.01)
    )
    told = calibration_in_words(
        msgspec.structs.replace(
            found(0.2, 0.4),
            temperature=fitted,
            why_not="",
            loss_after=loss_after,
            error_after=0.1,
        )
    )
    assert told.startswith("Calibrated by temperature 1.500 (95% 1.200 to 1.900).")
    assert ("Noise in their counts hides" in told) == hidden
    assert ("log loss 0.400 before" in told) != hidden

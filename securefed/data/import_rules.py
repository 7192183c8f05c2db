"""The choices that an import of scans leaves to the operator, whatever format they are in."""

from dataclasses import dataclass, field

from pydicom.datadict import tag_for_keyword

from securefed.data.dicom.grey_values import WINDOWS
from securefed.data.pairing import PairingRules
from securefed.data.series_rules import SeriesRules
from securefed.errors import ConfigurationError


@dataclass(frozen=True)
class ImportRules:
    """The choices of an import; public.

    Attributes:
        site: name of the hospital in the manifest.
        window: CT window, one of WINDOWS.
        image_size: edge of the written images, 16 to 1024 pixels.
        max_gap_days: scans further apart are not paired (all are kept); None where none has a date.
        allow_burned_in: accept secondary captures and declared burned-in text.
        allow_unregistered: pair in scanner coordinates what could not be registered.
        label_attribute: keyword of the DICOM element that holds a patient's label; "" where labels
            are listed elsewhere.
        label_report: the concept of structured reports that has it, likewise; one of the two.
        classes: that labels are of, as for `parse_label`; none for 0 and 1.
        series: which modalities are imported, and which series are theirs.
    """

    site: str = "site-1"
    window: str = "brain"
    image_size: int = 256
    max_gap_days: int | None = 30
    allow_burned_in: bool = False
    allow_unregistered: bool = False
    label_attribute: str = ""
    label_report: str = ""
    classes: tuple[str, ...] = ()
    series: SeriesRules = field(default_factory=SeriesRules)

    def __post_init__(self) -> None:
        if self.window not in WINDOWS:
            raise ConfigurationError(
                f"unknown CT window {self.window!r}", hint=f"choose one of {', '.join(WINDOWS)}"
            )
        if not 16 <= self.image_size <= 1024:
            raise ConfigurationError(
                f"image size must be 16 to 1024 pixels, got {self.image_size}",
                hint="256 keeps what a head scan shows",
            )
        if self.label_attribute and tag_for_keyword(self.label_attribute) is None:
            raise ConfigurationError(
                f"DICOM has no attribute of the name {self.label_attribute!r}",
                hint="its keyword, as in PatientComments (PS3.6)",
            )
        if self.series.labels and not (self.label_attribute or self.label_report):
            raise ConfigurationError(
                "labels of --rules are words of headers and reports, and labels are elsewhere",
                hint="leave them out, or give --label-attribute or --label-report",
            )
        if self.max_gap_days is not None and self.max_gap_days < 0:
            raise ConfigurationError(
                f"max gap must be 0 days or more, got {self.max_gap_days}", hint="30 is common"
            )

    @property
    def pairing(self) -> PairingRules:
        """How the scans of a patient are put together."""
        return PairingRules(
            self.window, self.image_size, self.max_gap_days, self.allow_unregistered
        )

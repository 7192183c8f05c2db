"""What a run does so that it can be measured and audited."""

from pydantic import Field

from securefed.config.section import MOST_HOSPITALS, Section


class ExposureSettings(Section):
    """Recording of what each observer saw, the material of an audit."""

    record: bool = Field(True, description="Keep the messages of the run in exposures/.")
    limit_mb: int = Field(
        256, ge=1, le=1_000_000, description="Beyond it only sizes are kept, megabytes."
    )


class EvaluationSettings(Section):
    """What is measured besides the global model."""

    baselines: bool = Field(
        False,
        description="Also train each hospital and each modality alone, and report them.",
    )


class CanarySettings(Section):
    """Made-up records among one hospital's patients, so that an audit can test its epsilon."""

    count: int = Field(
        0, ge=0, le=100_000, description="Canaries that get a coin each; 0 for a run without."
    )
    hospital: int = Field(
        1, ge=1, le=MOST_HOSPITALS, description="Whose records they join: hospitals counted from 1."
    )

"""Which layout a run's contributions have: it follows from public settings."""

from securefed.config import Settings
from securefed.privacy.ring_code import RingCode
from securefed.wire.contribution import ContributionLayout
from securefed.wire.shared_noise import DistributedLayout

Layout = ContributionLayout | DistributedLayout


def build_layout(settings: Settings, parameters: int, ring: RingCode | None) -> Layout:
    """How contributions of `parameters` values are encoded; with `ring`, noise and all."""
    if ring:
        return DistributedLayout(
            code=ring,
            clients=settings.federation.clients,
            max_patients=settings.secure_aggregation.max_patients,
            batch_size=settings.training.batch_size,
            learning_rate=settings.training.learning_rate,
        )
    return ContributionLayout(
        parameters=parameters,
        clients=settings.federation.clients,
        value_range=settings.secure_aggregation.value_range,
        max_patients=settings.secure_aggregation.max_patients,
    )

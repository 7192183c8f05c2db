"""The settings of a run: one pydantic model per section, strict, with unknown keys refused.

What is used elsewhere is imported from here.
"""

from securefed.config.audit import CanarySettings, EvaluationSettings, ExposureSettings
from securefed.config.data import DataSettings, PhantomSettings, Scanners
from securefed.config.federation import FederationSettings, SecureAggregationSettings
from securefed.config.loading import load
from securefed.config.model import (
    VOLUME_ENCODERS,
    ClassName,
    Encoder,
    File,
    ModelSettings,
    TaskSettings,
)
from securefed.config.paths import PATHS
from securefed.config.privacy import PrivacySettings
from securefed.config.section import MOST_HOSPITALS, Modality, OneOf, Section
from securefed.config.settings import Configuration, Settings
from securefed.config.training import TrainingSettings

__all__ = [
    "MOST_HOSPITALS",
    "PATHS",
    "VOLUME_ENCODERS",
    "CanarySettings",
    "ClassName",
    "Configuration",
    "DataSettings",
    "Encoder",
    "EvaluationSettings",
    "ExposureSettings",
    "FederationSettings",
    "File",
    "Modality",
    "ModelSettings",
    "OneOf",
    "PhantomSettings",
    "PrivacySettings",
    "Scanners",
    "Section",
    "SecureAggregationSettings",
    "Settings",
    "TaskSettings",
    "TrainingSettings",
    "load",
]

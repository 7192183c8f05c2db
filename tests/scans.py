"""Patients made of given pictures."""

from dataclasses import replace

import numpy as np

from securefed.data.samples import Images, Patient


def patient_of(name: str, site: str, label: int, **images: Images) -> Patient:
    """All slices of all modalities are there."""
    together = np.stack(list(images.values()))
    present = np.ones(together.shape[:2], dtype=np.bool_)
    return Patient(name, site, label, tuple(images), together, present)


def with_images(patient: Patient, patient_id: str | None = None, **images: Images) -> Patient:
    """The same patient with other pictures, and perhaps another name."""
    changed = patient.images.copy()
    for name, values in images.items():
        changed[patient.modalities.index(name)] = values
    return replace(patient, patient_id=patient_id or patient.patient_id, images=changed)

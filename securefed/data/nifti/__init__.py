"""Volumes in NIfTI files: read with limits, and brought to the frame of the DICOM reader."""

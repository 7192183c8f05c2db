"""Scans of an archive that speaks DICOMweb, fetched for import."""

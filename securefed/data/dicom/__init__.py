"""A hospital's DICOM files: found, told apart, grouped, chosen, and read as volumes."""

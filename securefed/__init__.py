"""SecureFed: federated learning on paired CT and MRI scans, with its leaks measured.

The command line is `securefed`; see docs/ for the threat model and its limits.
"""

__version__ = "0.1.0"

"""Writes docs/schemas/report.schema.json from the types of the report.

    python docs/generate_report_schema.py

A test compares the file with what this script would write, so it cannot drift from the code.
"""

import json
from pathlib import Path

from securefed.reporting.facts import json_schema

SCHEMA = Path(__file__).resolve().parent / "schemas" / "report.schema.json"


def text() -> str:
    """The text of docs/schemas/report.schema.json."""
    return json.dumps(json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA.parent.mkdir(exist_ok=True)
    SCHEMA.write_text(text())
    print(f"wrote docs/schemas/{SCHEMA.name}")

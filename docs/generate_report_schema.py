"""Writes docs/schemas/*.schema.json from the types of reports, evaluations and model cards.

    python docs/generate_report_schema.py

A test compares the files with what this script would write, so they cannot drift from the code.
"""

import json
from pathlib import Path

from securefed.record.evaluation import EvaluationFile
from securefed.record.model_card import ModelCard
from securefed.reporting import facts, site_facts

SCHEMAS = Path(__file__).resolve().parent / "schemas"


def texts() -> dict[str, str]:
    """The text of each file, by its name."""
    schemas = {
        "report.schema.json": facts.json_schema(),
        "site-report.schema.json": site_facts.json_schema(),
        "evaluation.schema.json": facts.schema_of(EvaluationFile, "SecureFed evaluation, schema 1"),
        "model-card.schema.json": facts.schema_of(ModelCard, "SecureFed model card, schema 1"),
    }
    return {name: json.dumps(each, indent=2) + "\n" for name, each in schemas.items()}


if __name__ == "__main__":
    SCHEMAS.mkdir(exist_ok=True)
    for name, text in texts().items():
        (SCHEMAS / name).write_text(text)
        print(f"wrote docs/schemas/{name}")

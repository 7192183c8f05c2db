"""The table of the report this project starts from, as printed there.

Two hospitals, 10,000 pairs of CT and MRI slices of 240x240 pixels, 80 rounds, Adam at 0.001. It
stands beside a comparison so that readers of that report find their figures again, and it is not
comparable with ours: another data set, another model, slices instead of patients, no intervals, no
privacy. One thing it does show: its global model was worse than the hospitals' own.
"""

from securefed.record.comparison import StartingReport, StartingRow

# AUC and accuracy 0 to 1, megabytes and minutes as printed.
STARTING_REPORT = StartingReport(
    note="another data set, another model, no differential privacy: not comparable",
    hospitals=2,
    pairs=10_000,
    image_size=240,
    rounds=80,
    optimizer="Adam, learning rate 0.001",
    rows=(
        StartingRow(name="client 1 alone", accuracy=0.84, auc=0.87),
        StartingRow(name="client 2 alone", accuracy=0.85, auc=0.86),
        StartingRow(name="aggregated", accuracy=0.81, auc=0.78),
        StartingRow(name="fusion", accuracy=0.81, auc=0.82),
    ),
    accuracy_with_partial_modalities=0.885,
    megabytes_per_client_round=55,
    client_minutes_per_round=1.3,
    aggregate_minutes_per_round=0.5,
)

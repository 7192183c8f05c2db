"""What one hospital does with its own patients: train, and score held-out ones."""

"""What Flower runs in benchmarks/deployment.py."""

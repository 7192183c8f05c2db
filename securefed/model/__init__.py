"""The diagnostic network: two encoders, cross-attention fusion, a feed-forward head."""

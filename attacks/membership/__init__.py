"""Was this patient in the training set? Shadow models, LiRA, RMIA and simpler scores."""

NAME = "membership"

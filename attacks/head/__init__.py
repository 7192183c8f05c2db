"""Head leakage: features, label counts and images from the classifier's update, in closed form."""

NAME = "head leakage"

"""What should hold: limits and identities computed without training, to hold a trained predictor against."""

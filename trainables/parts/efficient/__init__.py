"""What resource-efficient models are trained on and scored with: training-set sizes, folds, languages, costs."""

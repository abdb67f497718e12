"""Training data: registry corpora, synthetic scenes and examples of the 21 tasks."""

"""Training: one visible loop per stage (`vae`, `dit`), recipes that hold every setting, exact resume."""

"""AlphaLayers: layered training data made from foreground cut-outs (paper, §3.4 and Appendix B)."""

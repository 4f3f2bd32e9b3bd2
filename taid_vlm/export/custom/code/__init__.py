"""What lies beside the weights of a ``custom`` checkpoint: modelling code that needs torch and transformers, and nothing of ours.

Whoever loads the checkpoint runs these files, so they import timm and open_clip only where the encoder needs them.
"""

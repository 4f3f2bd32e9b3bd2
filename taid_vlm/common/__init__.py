"""What every room may use: errors, exact-name registries, safe file writing, pinned assets.

Standard library only, and nothing of ours is imported from here, so that the evaluation package
can use it without the training side.
"""

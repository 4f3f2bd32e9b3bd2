"""Checkpoints in InternVL2's own layout (``model_type: internvl_chat``) as the stock class InternVL: a renaming, no arithmetic.

The released ones bring their model as code for transformers 4.37. It is not run here: ``original.py`` reads the configs, ``language_models.py``
and ``tensors.py`` say what each tensor is called in the stock class, ``tokenizer.py`` makes a fast tokenizer, ``pictures.py`` the processor,
``convert.py`` writes the folder, ``cached.py`` does so on the way, once, where such a checkpoint is named.
"""

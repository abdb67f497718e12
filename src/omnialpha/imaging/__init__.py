"""Pictures with alpha: files, layers, masks. Knows nothing of models.

``rgba`` reads and writes pictures, ``layers`` stacks them, ``masks`` derives guides from an alpha channel;
``decode`` and ``files`` are what ``rgba`` is built on.
"""

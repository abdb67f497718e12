"""Nodes for ComfyUI; `omnialpha comfyui COMFYUI` makes them known to an installation.

Pictures enter and leave as ComfyUI has them (`convert`); between the nodes that only this package understands travel
pipelines and layer stacks. Without ComfyUI the nodes still load and run (`host`), which the tests use.
"""

"""Triton kernels: device code only. The launches are in `kan_fast/backends/triton/`.

Nothing here knows torch or kan_fast; importing a module compiles nothing.
"""

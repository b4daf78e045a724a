#!/usr/bin/env python3
"""Writes deploy/colab/filmgate-comfyui.ipynb, whose one cell is deploy/colab/cell.py."""
import json
import pathlib

folder = pathlib.Path(__file__).resolve().parent.parent / "deploy/colab"
cell = (folder / "cell.py").read_text()
notebook = {
    "cells": [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "filmgate",
            "metadata": {},
            "outputs": [],
            "source": cell.rstrip("\n").splitlines(keepends=True),
        }
    ],
    "metadata": {
        "accelerator": "GPU",
        "colab": {"gpuType": "T4", "name": "filmgate-comfyui.ipynb"},
        "kernelspec": {"display_name": "Python 3", "name": "python3"},
        "language_info": {"name": "python"},
    },
    "nbformat": 4,
    "nbformat_minor": 5,
}
(folder / "filmgate-comfyui.ipynb").write_text(json.dumps(notebook, indent=1) + "\n")

"""Models that leave the store: as a folder, ONNX or TorchScript, and back into a store."""

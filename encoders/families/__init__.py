"""Published encoder families: how their checkpoints become vectors, as rows of one table, run by torch or by ONNX."""

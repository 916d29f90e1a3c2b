"""ONNX as data: reading and writing, an index over the graph, sessions, sections, the door to onnx-graphsurgeon."""

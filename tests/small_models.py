"""Small models that fastembed runs like any other, made here since there is no hub."""

import shutil
from pathlib import Path
from typing import Any

# Models that fastembed knows. What is in their folders here is ours.
CROSS_ENCODER = "Xenova/ms-marco-MiniLM-L-6-v2"
COLBERT = "colbert-ir/colbertv2.0"
SPLADE = "prithivida/Splade_PP_en_v1"
BM42 = "Qdrant/bm42-all-minilm-l6-v2-attentions"
_COLBERT_SIZE = 128
_VOCABULARY = 30_522


def cross_encoder_folder(folder: Path, embedding_model: Path) -> Path:
    """A folder with a cross-encoder that counts the tokens which question and text share.

    Args:
        folder: Where to make it.
        embedding_model: The folder of a BERT, whose tokenizer it has.
    """
    import onnx
    from onnx import TensorProto, helper

    # The question's tokens have the type 0 and the text's 1; each is compared with each other.
    nodes = [
        helper.make_node("Cast", ["token_type_ids"], ["type"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["type", "mask"], ["text"]),
        helper.make_node("Sub", ["mask", "text"], ["question"]),
        helper.make_node("Unsqueeze", ["input_ids", "second"], ["columns"]),
        helper.make_node("Unsqueeze", ["input_ids", "third"], ["rows"]),
        helper.make_node("Equal", ["rows", "columns"], ["equal"]),
        helper.make_node("Cast", ["equal"], ["same"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["text", "third"], ["of_text"]),
        helper.make_node("MatMul", ["same", "of_text"], ["in_text"]),
        helper.make_node("Unsqueeze", ["question", "second"], ["of_question"]),
        helper.make_node("MatMul", ["of_question", "in_text"], ["shared"]),
        helper.make_node("Squeeze", ["shared", "third"], ["logits"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])]
    constants = [
        helper.make_tensor(name, TensorProto.INT64, [1], [axis])
        for name, axis in (("second", 1), ("third", 2))
    ]
    graph = helper.make_graph(nodes, "overlap", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    (folder / "onnx").mkdir(parents=True)
    onnx.save(model, folder / "onnx" / "model.onnx")
    _copy_tokenizer(embedding_model, folder)
    return folder


def splade_folder(folder: Path, embedding_model: Path) -> Path:
    """A folder with a sparse model: each token of a text weighs the same.

    Args:
        folder: Where to make it.
        embedding_model: The folder of a BERT, whose tokenizer it has.
    """
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("OneHot", ["input_ids", "vocabulary", "values"], ["logits"]),
        helper.make_node("Identity", ["attention_mask"], ["mask"]),
    ]
    constants = [
        helper.make_tensor("vocabulary", TensorProto.INT64, [1], [_VOCABULARY]),
        helper.make_tensor("values", TensorProto.FLOAT, [2], [0.0, 1.0]),
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "tokens", None])
    return _sparse_folder(folder, embedding_model, nodes, constants, output)


def bm42_folder(folder: Path, embedding_model: Path) -> Path:
    """A folder with a sparse model: each token of a text is paid the same attention."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "axes"], ["attention_6"]),
    ]
    constants = [helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])]
    shape = ["batch", 1, 1, "tokens"]
    output = helper.make_tensor_value_info("attention_6", TensorProto.FLOAT, shape)
    made = _sparse_folder(folder, embedding_model, nodes, constants, output)
    (made / "stopwords.txt").write_text("a\nthe\nin\n")
    return made


def _sparse_folder(
    folder: Path, embedding_model: Path, nodes: list[Any], constants: list[Any], output: Any
) -> Path:
    import onnx
    from onnx import TensorProto, helper

    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    graph = helper.make_graph(nodes, "sparse", inputs, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    _copy_tokenizer(embedding_model, folder)
    return folder


def colbert_folder(folder: Path, embedding_model: Path) -> Path:
    """A folder with a late-interaction model: the token vectors of an embedding model, shortened.

    Args:
        folder: Where to make it.
        embedding_model: The folder of a BERT whose output is the vectors of the tokens.
    """
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(embedding_model / "model.onnx")
    graph = model.graph
    [output] = graph.output
    types = next(each for each in graph.input if each.name == "token_type_ids")
    graph.input.remove(types)  # which fastembed's ColBERT does not give; they are all 0
    zeros = helper.make_node("Sub", ["input_ids", "input_ids"], ["token_type_ids"])
    graph.node.insert(0, zeros)
    bounds = {"from": 0, "to": _COLBERT_SIZE, "axis": 2}
    graph.initializer.extend(
        helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in bounds.items()
    )
    graph.node.append(helper.make_node("Slice", [output.name, *bounds], ["shortened"]))
    shape = ["batch", "tokens", _COLBERT_SIZE]
    graph.output.remove(output)
    graph.output.append(helper.make_tensor_value_info("shortened", TensorProto.FLOAT, shape))
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    _copy_tokenizer(embedding_model, folder)
    return folder


def _copy_tokenizer(source: Path, folder: Path) -> None:
    for file in source.glob("*.json"):
        shutil.copyfile(file, folder / file.name)

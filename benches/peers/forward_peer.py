"""Does a forward pass of PyTorch, ONNX Runtime or OpenVINO for each line `run`; see turns.py.

    forward_peer.py pytorch FOLDER BATCH LENGTH
    forward_peer.py onednn FOLDER BATCH LENGTH
    forward_peer.py published FOLDER BATCH LENGTH RATIO ARCHITECTURE
    forward_peer.py onnx FOLDER BATCH LENGTH fp32|int8
    forward_peer.py openvino FOLDER BATCH LENGTH fp32|bf16|int8

FOLDER holds a dense classifier (for `published`: the same weights, masked). `logits` answers with them.
"""

import json
import os
import pathlib
import sys

import turns


def input_ids(batch, length):
    """The same tokens as `forward_server.rs`."""
    import torch

    ids = [1000 + 7919 * i % 20000 for i in range(batch * length)]
    return torch.tensor(ids).reshape(batch, length)


def load(folder):
    import transformers.utils.logging
    from transformers import AutoModelForSequenceClassification

    transformers.utils.logging.disable_progress_bar()
    return AutoModelForSequenceClassification.from_pretrained(folder).eval()


def pytorch(model, ids):
    """Hugging Face's model with its own choice of attention: sdpa where it has that."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    @torch.inference_mode()
    def forward():
        return model(ids).logits

    return forward


def onednn(folder, ids):
    """The same with linear layers by oneDNN, which chooses its kernels by a processor's flags, where MKL
    goes by its maker."""
    from torch.utils import mkldnn

    return pytorch(mkldnn.to_mkldnn(load(folder)), ids)


def published(folder, ids, ratio, architecture):
    """The deployed layer of the published code: two low-rank products, a product with the kept rows
    written by index to a buffer that is kept for the shape, and a sum."""
    import torch

    import models

    class Deployed(torch.nn.Module):
        def __init__(self, layer, kept, left, right, sparse):
            super().__init__()
            self.kept, self.left, self.right = kept, left.contiguous(), right.contiguous()
            self.sparse = sparse.contiguous()
            self.bias, self.d_output, self.buffer = layer.bias, layer.weight.shape[0], None

        def forward(self, x):
            linear = torch.nn.functional.linear
            shape = (*x.shape[:-1], self.d_output)
            if self.buffer is None or self.buffer.shape != shape:
                self.buffer = torch.zeros(shape)
            self.buffer[..., self.kept] = linear(x, self.sparse)
            return linear(linear(x, self.right), self.left, self.bias) + self.buffer

    model, compressed = models.make(float(ratio) / 100, architecture)
    for name, (kept, left, right, sparse) in compressed.items():
        parent, child = name.rsplit(".", 1)
        layer = Deployed(model.get_submodule(name), kept, left, right, sparse)
        setattr(model.get_submodule(parent), child, layer)
    return pytorch(model, ids)


def onnx(folder, ids, kind):
    """ONNX Runtime with its defaults, but for the number of threads."""
    import onnxruntime

    batch, length = ids.shape
    path = pathlib.Path(folder) / "onnx" / f"{batch}x{length}-{kind}.onnx"
    if not path.exists():
        export(folder, ids, path.parent)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: ids.numpy()}
    return lambda: session.run(None, inputs)[0]


def logits_of(model):
    """The model as a module from tokens to logits alone."""
    import torch

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids):
            return self.model(input_ids).logits

    return Logits().eval()


def export(folder, ids, out):
    """The dense model in ONNX, and quantized dynamically to int8."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    import onnx as onnx_package

    out.mkdir(parents=True, exist_ok=True)
    fp32, int8 = (out / f"{ids.shape[0]}x{ids.shape[1]}-{kind}.onnx" for kind in ("fp32", "int8"))
    program = torch.onnx.export(
        logits_of(load(folder)), (ids,), input_names=["input_ids"], dynamo=True, verbose=False
    )
    program.save(str(fp32))
    plain = onnx_package.load(str(fp32))
    # Shapes of values before the exporter's optimizations, which the quantizer stumbles over.
    del plain.graph.value_info[:]
    quantize_dynamic(plain, str(int8), weight_type=QuantType.QInt8)


def openvino(folder, ids, kind):
    """OpenVINO with its hint for latency; int8 by NNCF's quantization after training."""
    import openvino

    path = pathlib.Path(folder) / "openvino" / f"{'int8' if kind == 'int8' else 'fp32'}.xml"
    if not path.exists():
        export_openvino(folder, ids, path.parent)
    core = openvino.Core()
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": int(os.environ["OMP_NUM_THREADS"]),
        "INFERENCE_PRECISION_HINT": "bf16" if kind == "bf16" else "f32",
    }
    model = core.read_model(path)
    model.reshape([*ids.shape])
    compiled = core.compile_model(model, "CPU", options)
    request, inputs = compiled.create_infer_request(), ids.numpy()
    return lambda: request.infer({0: inputs})[0]


def export_openvino(folder, ids, out):
    """The dense model in OpenVINO's format, and quantized to int8 with random tokens to calibrate on."""
    import nncf
    import openvino
    import torch

    out.mkdir(parents=True, exist_ok=True)
    with torch.inference_mode():
        converted = openvino.convert_model(logits_of(load(folder)), example_input=ids)
    openvino.save_model(converted, out / "fp32.xml", compress_to_fp16=False)
    generator = torch.Generator().manual_seed(7)
    examples = [torch.randint(1000, 21000, ids.shape, generator=generator) for _ in range(32)]
    quantized = nncf.quantize(
        converted,
        nncf.Dataset(examples, lambda ids: {0: ids.numpy()}),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(examples),
    )
    openvino.save_model(quantized, out / "int8.xml")


def commands():
    kind, folder, batch, length, *rest = sys.argv[1:]
    ids = input_ids(int(batch), int(length))
    if kind == "pytorch":
        forward = pytorch(load(folder), ids)
    else:
        makers = {"onednn": onednn, "published": published, "onnx": onnx, "openvino": openvino}
        forward = makers[kind](folder, ids, *rest)

    def run():
        wall, cpu, _ = turns.timed(forward)
        return f"{wall} {cpu}"

    def logits():
        import torch

        return json.dumps([float(x) for x in torch.as_tensor(forward()).flatten()])

    return {"run": run, "logits": logits}


if __name__ == "__main__":
    turns.serve(commands)

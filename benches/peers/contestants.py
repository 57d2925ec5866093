"""What can be measured: each has `run() -> (wall ms, CPU ms)` and `logits() -> list`."""

import json
import os
import pathlib
import subprocess
import tempfile
import time

import torch

import models


def input_ids(batch, length):
    """The same tokens as `examples/forward_server.rs`."""
    ids = [1000 + 7919 * i % 20000 for i in range(batch * length)]
    return torch.tensor(ids).reshape(batch, length)


class Timed:
    """A contestant in this process."""

    def run(self):
        wall, cpu = time.perf_counter(), time.process_time()
        self.forward()
        return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)

    def logits(self):
        return [float(x) for x in torch.as_tensor(self.forward()).flatten()]

    def close(self):
        pass


class PyTorch(Timed):
    """Hugging Face's model with its own choice of attention: sdpa where it has that."""

    def __init__(self, model, ids):
        self.model, self.ids = model.eval(), ids

    @torch.inference_mode()
    def forward(self):
        return self.model(self.ids).logits


class Deployed(torch.nn.Module):
    """The deployed layer of the published code: two low-rank products, a product with the kept rows
    written by index to a buffer that is kept for the shape, and a sum."""

    def __init__(self, layer, kept, left, right, sparse):
        super().__init__()
        linear = torch.nn.functional.linear
        self.linear, self.kept = linear, kept
        self.left, self.right, self.sparse = left.contiguous(), right.contiguous(), sparse.contiguous()
        self.bias, self.d_output, self.buffer = layer.bias, layer.weight.shape[0], None

    def forward(self, x):
        shape = (*x.shape[:-1], self.d_output)
        if self.buffer is None or self.buffer.shape != shape:
            self.buffer = torch.zeros(shape)
        self.buffer[..., self.kept] = self.linear(x, self.sparse)
        return self.linear(self.linear(x, self.right), self.left, self.bias) + self.buffer


def deployed(ratio, architecture, ids):
    model, compressed = models.make(ratio, architecture)
    for name, (kept, left, right, sparse) in compressed.items():
        parent, child = name.rsplit(".", 1)
        layer = model.get_submodule(name)
        setattr(model.get_submodule(parent), child, Deployed(layer, kept, left, right, sparse))
    return PyTorch(model, ids)


class OnnxRuntime(Timed):
    def __init__(self, path, ids, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Waiting threads would take the next contestant's time.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        self.inputs = {self.session.get_inputs()[0].name: ids.numpy()}

    def forward(self):
        return self.session.run(None, self.inputs)[0]


def export_onnx(model, ids, folder):
    """The dense model in ONNX, and quantized dynamically to int8."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids):
            return self.model(input_ids).logits

    fp32, int8 = folder / "dense.onnx", folder / "dense-int8.onnx"
    program = torch.onnx.export(Logits().eval(), (ids,), input_names=["input_ids"], dynamo=True)
    program.save(str(fp32))
    try:
        plain = onnx.load(str(fp32))
        # Shapes of values before the exporter's optimizations, which the quantizer stumbles over.
        del plain.graph.value_info[:]
        quantize_dynamic(plain, str(int8), weight_type=QuantType.QInt8)
    except Exception as error:  # Said, and left out.
        print(f"int8: {error}")
        int8 = None
    return fp32, int8


class Ours:
    """This crate, in a process of its own that waits for its turn."""

    def __init__(self, server, folder, batch, length, threads):
        environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
        command = [str(server), str(folder), str(batch), str(length)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=environment
        )
        assert self.process.stdout.readline().strip() == "ready"

    def ask(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def run(self):
        wall, cpu = self.ask("run").split()
        return float(wall), float(cpu)

    def logits(self):
        return json.loads(self.ask("logits"))

    def memory(self):
        return float(self.ask("memory"))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def all_of(args, batch, ids):
    """Contestants by name, in order; the first is what others are compared to."""
    folder, threads = pathlib.Path(args.models), args.threads
    made = {"PyTorch dense": PyTorch(models.make(1, args.architecture)[0], ids)}
    if "deployed" in args.contestants:
        for ratio in args.ratios:
            made[f"published form {ratio}%"] = deployed(ratio / 100, args.architecture, ids)
    if "onnx" in args.contestants:
        temporary = pathlib.Path(tempfile.mkdtemp())
        fp32, int8 = export_onnx(made["PyTorch dense"].model, ids, temporary)
        made["ONNX Runtime fp32"] = OnnxRuntime(fp32, ids, threads)
        if int8:
            made["ONNX Runtime int8"] = OnnxRuntime(int8, ids, threads)
    if "ours" in args.contestants:
        names = {"ours dense": "dense"} if "dense" in args.contestants else {}
        names |= {f"ours {ratio}%": f"compact-{ratio}" for ratio in args.ratios}
        for name, path in names.items():
            made[name] = Ours(args.server, folder / path, batch, args.length, threads)
    return made

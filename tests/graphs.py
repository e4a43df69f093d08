"Small graphs that tests write: TFLite by LiteRT's own schema, ONNX by the package onnx."
import numpy as np


def schema():
    from ai_edge_litert import schema_py_generated
    return schema_py_generated


class TfliteMaker:
    "Writes a TFLite graph, operator by operator."
    def __init__(self, *inputs):
        "Each input is a name and a shape, -1 for an open batch."
        S = self.S = schema()
        self.model, self.graph = S.ModelT(), S.SubGraphT()
        self.model.version, self.model.subgraphs, self.model.operatorCodes = 3, [self.graph], []
        self.model.buffers = [S.BufferT()]
        self.graph.tensors, self.graph.operators, self.graph.inputs = [], [], []
        for name, shape in inputs: self.graph.inputs.append(self.tensor(name, shape))

    def tensor(self, name='', shape=(), kind='FLOAT32', data=None):
        t = self.S.TensorT()
        t.name, t.type = (name or f't{len(self.graph.tensors)}').encode(), getattr(self.S.TensorType, kind)
        t.shape, t.buffer = [max(d, 1) for d in shape], 0
        if -1 in shape: t.shapeSignature = [*shape]
        if data is not None:
            buffer = self.S.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            t.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(t)
        return len(self.graph.tensors)-1

    def const(self, a):
        a = np.asarray(a)
        a = a.astype({'f': np.float32, 'i': np.int32, 'b': bool}[a.dtype.kind]) if a.dtype != np.float16 else a
        kind = {'float32': 'FLOAT32', 'int32': 'INT32', 'bool': 'BOOL', 'float16': 'FLOAT16'}[a.dtype.name]
        return self.tensor(shape=a.shape, kind=kind, data=a)

    def op(self, name, *inputs, outputs=1, kind='FLOAT32', out='', shape=(), options=None, **settings):
        "Add an operator; arrays among its inputs become constants. `options` names the class of its settings."
        S, op, code = self.S, self.S.OperatorT(), self.S.OperatorCodeT()
        code.builtinCode = getattr(S.BuiltinOperator, name)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        op.opcodeIndex = len(self.model.operatorCodes)
        self.model.operatorCodes.append(code)
        if options:
            op.builtinOptions, op.builtinOptionsType = getattr(S, f'{options}T')(), getattr(S.BuiltinOptions, options)
            for k, v in settings.items(): setattr(op.builtinOptions, k, v)
        op.inputs = [i if isinstance(i, int) else self.const(i) for i in inputs]
        op.outputs = [self.tensor(out if n == 0 else '', shape, kind=kind) for n in range(outputs)]
        self.graph.operators.append(op)
        return op.outputs[0] if outputs == 1 else op.outputs

    def scale(self, i, scale, zero=0):
        "Have whole numbers stand for others."
        q = self.graph.tensors[i].quantization = self.S.QuantizationParametersT()
        q.scale, q.zeroPoint, q.quantizedDimension = np.float32([scale]), np.int64([zero]), 0

    def sign(self, key, inputs, outputs, subgraph=0):
        "Give names to inputs and outputs, which are dicts of numbers."
        signature = self.S.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = key.encode(), subgraph
        for side, named in (('inputs', inputs), ('outputs', outputs)):
            maps = [self.S.TensorMapT() for _ in named]
            for m, (name, i) in zip(maps, named.items()): m.name, m.tensorIndex = name.encode(), i
            setattr(signature, side, maps)
        self.model.signatureDefs = [*(self.model.signatureDefs or []), signature]

    def save(self, path, *outputs, labels=None):
        import flatbuffers
        import zipfile
        self.graph.outputs = [*outputs]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b'TFL3')
        path.write_bytes(bytes(builder.Output()))
        if labels:
            with zipfile.ZipFile(path, 'a') as archive: archive.writestr('labels.txt', '\n'.join(labels))
        return path


def litert(path, x, names=None):
    "What LiteRT says of a batch, window by window: its outputs."
    from ai_edge_litert.interpreter import Interpreter
    it = Interpreter(str(path), num_threads=1)
    it.allocate_tensors()
    at, outputs = it.get_input_details()[0], it.get_output_details()
    rows = []
    for row in x:
        it.set_tensor(at['index'], row.reshape(at['shape']))
        it.invoke()
        rows.append([it.get_tensor(o['index']) for o in outputs])
    return [np.concatenate([np.atleast_1d(r) for r in o]) for o in zip(*rows)]


def spectrogram_tflite(path, rng, *, samples=4000, length=400, hop=160, block=80, fft=512, bands=12,
                       magnitude=True, batch=True, move=False, classes=5, labels=None):
    "A graph with frames, a Fourier transform, bands, two convolutions, an embedding and classes."
    shape = [-1, samples] if batch else [samples]
    m = TfliteMaker(('waves', shape))
    x, front = 0, 1 if batch else 0
    if move:  # the signal to -1 … 1, as BirdNET does
        low = m.op('REDUCE_MIN', x, np.array([1]), options='ReducerOptions', keepDims=True)
        x = m.op('SUB', x, low, options='SubOptions')
        high = m.op('REDUCE_MAX', x, np.array([1]), options='ReducerOptions', keepDims=True)
        x = m.op('DIV', x, m.op('ADD', high, np.float32(1e-6), options='AddOptions'), options='DivOptions')
        x = m.op('MUL', m.op('SUB', x, np.float32(.5), options='SubOptions'), np.float32(2), options='MulOptions')
    count = (samples-length)//hop+1
    lead = [-1] if batch else []
    blocks = m.op('RESHAPE', x, np.array(lead+[samples//block, block]), options='ReshapeOptions')
    table = np.arange(count)[:, None]*(hop//block)+np.arange(length//block)
    frames = m.op('GATHER', blocks, table, options='GatherOptions', axis=front)
    frames = m.op('RESHAPE', frames, np.array(lead+[count, length]), options='ReshapeOptions')
    window = (.5-.5*np.cos(2*np.pi*np.arange(length)/length)).astype(np.float32)
    frames = m.op('MUL', frames, window, options='MulOptions')
    if fft > length:
        frames = m.op('PAD', frames, np.array([[0, 0]]*front+[[0, 0], [0, fft-length]]), options='PadOptions')
    frames = m.op('RESHAPE', frames, np.array(lead+[count, 1, fft]), options='ReshapeOptions')
    spectrum = m.op('RFFT2D', frames, np.array([1, fft]), kind='COMPLEX64', options='Rfft2dOptions')
    spectrum = m.op('RESHAPE', spectrum, np.array(lead+[count, fft//2+1]), kind='COMPLEX64', options='ReshapeOptions')
    real = m.op('COMPLEX_ABS', spectrum) if magnitude else m.op('CAST', spectrum, options='CastOptions',
                                                                inDataType=m.S.TensorType.COMPLEX64,
                                                                outDataType=m.S.TensorType.FLOAT32)
    weights = np.abs(rng.standard_normal((bands, fft//2+1))).astype(np.float32)/fft
    weights[:, :3] = 0
    mel = m.op('FULLY_CONNECTED', real, weights, -1, options='FullyConnectedOptions', keepNumDims=True)
    if magnitude: mel = m.op('LOG', m.op('ADD', mel, np.float32(.01), options='AddOptions'))
    else: mel = m.op('POW', m.op('MUL', mel, mel, options='MulOptions'), np.float32(.23), options='PowOptions')
    image = m.op('RESHAPE', mel, np.array([-1 if batch else 1, count, bands, 1]), options='ReshapeOptions')
    S = m.S
    conv = dict(options='Conv2DOptions', strideW=2, strideH=2, dilationWFactor=1, dilationHFactor=1)
    y = m.op('CONV_2D', image, rng.standard_normal((6, 3, 3, 1)).astype(np.float32)*.3,
             rng.standard_normal(6).astype(np.float32)*.1, padding=S.Padding.SAME, **conv)
    y = m.op('MUL', y, m.op('LOGISTIC', y), options='MulOptions')
    y = m.op('DEPTHWISE_CONV_2D', y, rng.standard_normal((1, 3, 3, 6)).astype(np.float32)*.3,
             np.zeros(6, np.float32), options='DepthwiseConv2DOptions', padding=S.Padding.SAME, strideW=1,
             strideH=1, depthMultiplier=1,
             dilationWFactor=1, dilationHFactor=1, fusedActivationFunction=S.ActivationFunctionType.RELU)
    pooled = m.op('MEAN', y, np.array([1, 2]), options='ReducerOptions', out='embedding')
    logits = m.op('FULLY_CONNECTED', pooled, rng.standard_normal((classes, 6)).astype(np.float32),
                  rng.standard_normal(classes).astype(np.float32), options='FullyConnectedOptions', out='classes')
    return m.save(path, logits, pooled, labels=labels)


def onnx_graph(path, nodes, inputs, outputs, constants=None, notes=None, kind=None):
    "Write an ONNX graph; inputs and outputs are shapes by name, with a text for an open size."
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    kind = kind or TensorProto.FLOAT
    def port(name, shape):
        is_int = isinstance(shape, tuple) and shape[:1] == ('int',)
        return helper.make_tensor_value_info(name, TensorProto.INT64 if is_int else kind, [*shape][is_int:])
    graph = helper.make_graph([helper.make_node(op, [*ins], [*outs], **more) for op, ins, outs, more in nodes], 'graph', [port(k, s) for k, s in inputs.items()], [port(k, s) for k, s in outputs.items()],
                              [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    if notes: helper.set_model_props(model, notes)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def pooling_onnx(path, rng, samples, dim, classes, *, inputs='inputs', embedding='embedding', label='label',
                 half=False, divides=False, batch='n', extra=(), notes=None):
    "A graph `(n, samples)` to an embedding `(n, dim)` of the sound's levels, and classes; `divides`: by its loudest sample."
    from onnx import TensorProto
    dtype = np.float16 if half else np.float32
    block = 32000 if samples % 32000 == 0 else 100
    w = (rng.standard_normal((block, dim))/np.sqrt(block)).astype(dtype)
    v = (rng.standard_normal((dim, classes))/np.sqrt(dim)).astype(dtype)
    nodes = []
    x = inputs
    if divides:
        nodes += [('Abs', [x], ['abs'], {}), ('ReduceMax', ['abs'], ['most'], dict(axes=[1], keepdims=1)),
                  ('Div', [x, 'most'], ['even'], {})]
        x = 'even'
    nodes += [('Reshape', [x, 'shape'], ['blocks'], {}), ('MatMul', ['blocks', 'w'], ['tokens'], {}),
              ('Relu', ['tokens'], ['positive'], {}),
              ('ReduceMean', ['positive'], [embedding], dict(axes=[1], keepdims=0)),
              ('MatMul', [embedding, 'v'], [label], {})]
    outputs = {embedding: [batch, dim], label: [batch, classes]}
    for name, shape in extra: nodes, outputs = nodes+[('Identity', ['positive'], [name], {})], outputs | {name: shape}
    return onnx_graph(path, nodes, {inputs: [batch, samples]}, outputs, {'shape': np.array([-1 if isinstance(batch, str) else batch, samples//block, block]), 'w': w, 'v': v}, notes, TensorProto.FLOAT16 if half else None)


# Graphs with a defect each: levels of tenths of a second at 8 kHz, right but for what is said

def levels_onnx(path, *, samples=16000, before=(), after=(), constants=None, batch='n', tokens=True, shape=None):
    """A graph `(n, samples)` to tokens `(n, tenths, 8)` and their mean; `samples=None` takes any number.
    `before` and `after` are nodes that make `heard` of `waves`, and `given` of `tokens`."""
    rng = np.random.default_rng(0)
    nodes = [*(before or [('Identity', ['waves'], ['heard'], {})]),
             ('Reshape', ['heard', 'shape'], ['blocks'], {}), ('MatMul', ['blocks', 'w'], ['linear'], {}),
             ('Relu', ['linear'], ['tokens'], {}),
             *(after or [('Identity', ['tokens'], ['given'], {})]),
             ('ReduceMean', ['given'], ['pooled'], dict(axes=[1], keepdims=0))]
    made = {'shape': np.array(shape or [0, -1, 800]),
            'w': (rng.standard_normal((800, 8))/np.sqrt(800)).astype(np.float32), **(constants or {})}
    outputs = {'pooled': [batch, 8], **({'given': [batch, 'tokens', 8]} if tokens else {})}
    return onnx_graph(path, nodes, {'waves': [batch, samples or 'samples']}, outputs, made)


def over_batch(path, **settings):
    return levels_onnx(path, after=[('ReduceMax', ['tokens'], ['most'], dict(keepdims=0)),
                                    ('Div', ['tokens', 'most'], ['given'], {})], **settings)


def by_place(path, **settings):
    "What a sound is multiplied by depends on its place in the batch."
    after = [('Shape', ['tokens'], ['sizes'], {}), ('Gather', ['sizes', 'zero'], ['count'], {}),
             ('Range', ['zero', 'count', 'one'], ['places'], {}), ('Cast', ['places'], ['numbers'], dict(to=1)),
             ('Add', ['numbers', 'first'], ['factors'], {}), ('Reshape', ['factors', 'column'], ['each'], {}),
             ('Mul', ['tokens', 'each'], ['given'], {})]
    return levels_onnx(path, after=after, constants={'zero': np.array(0), 'one': np.array(1),
                                                     'first': np.float32(1), 'column': np.array([-1, 1, 1])},
                       **settings)


def one_at_a_time(path, **settings): return levels_onnx(path, shape=[1, 20, 800], **settings)


def drawn(path, **settings):
    return levels_onnx(path, after=[('RandomNormalLike', ['tokens'], ['noise'], {}),
                                    ('Add', ['tokens', 'noise'], ['given'], {})], **settings)


def deaf(path, **settings):
    return levels_onnx(path, after=[('Mul', ['tokens', 'nothing'], ['given'], {})],
                       constants={'nothing': np.float32(0)}, **settings)


def _cut(n):
    return [('Slice', ['waves', 'start', 'end', 'axis'], ['heard'], {})], {'start': np.array([0]), 'end': np.array([n]), 'axis': np.array([1])}


def cut_short(path, n=8000, **settings):
    before, constants = _cut(n)
    return levels_onnx(path, before=before, constants=constants, **settings)


def filled_up(path, n=40000, **settings):
    "Fills each sound up to five seconds."
    before, constants = _cut(n)
    before = [('Pad', ['waves', 'more'], ['filled'], {}), (before[0][0], ['filled', *before[0][1][1:]], *before[0][2:])]
    return levels_onnx(path, before=before, constants={**constants, 'more': np.array([0, 0, 0, n])}, **settings)


def short_table(path, tokens=50, **settings):
    "Adds to each token what stands for its place in a table of so many."
    after = [('Shape', ['tokens'], ['sizes'], {}), ('Gather', ['sizes', 'one'], ['count'], {}),
             ('Range', ['zero', 'count', 'one'], ['places'], {}),
             ('Gather', ['table', 'places'], ['where'], {}), ('Add', ['tokens', 'where'], ['given'], {})]
    return levels_onnx(path, after=after, constants={'zero': np.array(0), 'one': np.array(1),
                                                     'table': np.zeros((tokens, 8), np.float32)}, **settings)

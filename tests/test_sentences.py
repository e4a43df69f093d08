"sentence-transformers: what a pipeline answers in its place, and the chain as a module that its trainer trains."
import copy
import pickle
import threading

import numpy as np
import pytest
import torch
from kit import Loudness, noise
from tiny_models import architectures, seeded_encoder

from auditus import AudioInputError, AudioNotFoundError, AudioPipeline, ModelNotFoundError, SettingError
from auditus.models.base import load_model
from auditus.models.device import tracking_gradients
from auditus.models.learnt import find_network, learnt_file, open_trainable

st = pytest.importorskip('sentence_transformers')
from sentence_transformers.sentence_transformer import evaluation, losses  # noqa: E402
from sentence_transformers.sentence_transformer.modules import Dense, Pooling  # noqa: E402

precisions = ('float32', 'int8', 'uint8', 'binary', 'ubinary')


@pytest.fixture(scope='module')
def files(sounds):
    return [sounds/'chirp.ogg', sounds/'speech_like.wav', sounds/'music_like.wav', sounds/'telephone.mp3']


def items_of(pipe, files): return [{'array': pipe.windows(f).waves[0][:32000], 'sampling_rate': pipe.sr} for f in files]


# In its place

@pytest.mark.parametrize('asked', [dict(output_value=None), dict(output_value=None, truncate_dim=8),
                                   dict(precision=None), dict(task='query'),
                                   *(dict(precision=p) for p in precisions)], ids=str)
def test_encode_gives_what_theirs_gives(asked, checkpoint, files):
    theirs, ours = st.SentenceTransformer(str(checkpoint('ast')), device='cpu'), AudioPipeline(checkpoint('ast'))
    items = items_of(ours, files)
    a, b = (m.encode(items, show_progress_bar=False, **asked) for m in (theirs, ours))
    assert type(a) is type(b) and len(a) == len(b)
    rows = [(x, y) for x, y in zip(a, b)] if asked.get('output_value', '') is not None else [(x[k], y[k]) for x, y in zip(a, b) for k in ('sentence_embedding', 'token_embeddings')]
    for x, y in rows:
        assert type(x) is type(y) and x.shape == y.shape and x.dtype == y.dtype
        apart = np.abs(np.asarray(x, float)-np.asarray(y, float))
        # a number at the edge of two steps may fall to either side
        assert apart.max() < 1e-5 if asked.get('precision') in (None, 'float32') else apart.max() <= 1 or (apart > 0).mean() < .02
    one = ours.encode(items[0], **{k: v for k, v in asked.items() if k != 'precision'})
    assert isinstance(one, dict) == ('output_value' in asked and asked['output_value'] is None)


def test_frames_in_fewer_bits(checkpoint, files):
    from sentence_transformers.util import quantize_embeddings
    pipe, frames = AudioPipeline(checkpoint('hubert-layer')), AudioPipeline(checkpoint('hubert-layer'), pooling=None)
    for precision in ('int8', 'ubinary'):
        found = pipe.encode(files, output_value='token_embeddings', precision=precision)
        for a, b in zip(found, quantize_embeddings([np.asarray(f) for f in frames(files)], precision), strict=True):
            assert type(a) is np.ndarray and np.array_equal(a, b)
        assert np.array_equal(pipe.encode(files[0], output_value='token_embeddings', precision=precision),
                              quantize_embeddings(frames(files[0]), precision))


@pytest.mark.parametrize('precision', precisions)
def test_nothing_in_any_precision(precision, checkpoint):
    pipe = AudioPipeline(checkpoint('ast'), truncate_dim=12)
    some = pipe.encode([(np.ones(16000, np.float32)*.1, 16000), (np.ones(16000, np.float32)*.2, 16000)],
                       precision=precision)
    none = pipe.encode([], precision=precision)
    assert none.shape == (0, some.shape[1]) and none.dtype == some.dtype
    tensors = pipe.encode([], precision=precision, convert_to_tensor=True)
    assert tensors.shape == none.shape and str(tensors.dtype) == f'torch.{none.dtype}'
    assert pipe.encode([], precision=precision, convert_to_numpy=False) == []
    assert pipe.encode(iter([]), output_value='token_embeddings', precision=precision) == []
    assert pipe.encode([], output_value=None) == []


def test_processes_give_the_same(checkpoint, files):
    pipe = AudioPipeline(checkpoint('hubert-group'))
    many = files*3
    alone = pipe.encode(many)
    assert np.abs(pipe.encode(many, device=['cpu', 'cpu'])-alone).max() < 1e-6
    pool = pipe.start_multi_process_pool(['cpu', 'cpu'])
    try:
        assert np.abs(pipe.encode(many, pool=pool, chunk_size=5)-alone).max() < 1e-6
        assert np.abs(pipe.encode(files[0], pool=pool)-alone[0]).max() < 1e-6
        assert pipe.encode([], pool=pool, precision='binary').shape == (0, 4)
        frames = pipe.encode(many, pool=pool, output_value='token_embeddings')
        assert all((f-g).abs().max() < 1e-5 for f, g in zip(frames, pipe.encode(many, output_value='token_embeddings'), strict=True))
        unit = pipe.encode(many, pool=pool, normalize_embeddings=True, truncate_dim=8, convert_to_tensor=True)
        assert unit.shape == (12, 8) and torch.allclose(unit.norm(dim=1), torch.ones(12))
        with pytest.raises(AudioNotFoundError) as e: pipe.encode([*many, 'gone.wav'], pool=pool, chunk_size=4)
        assert e.value.index == 12
    finally: pipe.stop_multi_process_pool(pool)
    with pytest.raises(SettingError, match='start_multi_process_pool'): pipe.encode(many, pool={'input': None})


def test_pool_of_a_model_that_can_not_travel(rng):
    class Local(Loudness): lock = None
    Local.lock = threading.Lock()
    with pytest.raises(SettingError, match='can not be sent to other processes'):
        AudioPipeline(Local()).encode([(noise(rng, 1., 1000), 1000)], device=['cpu'])


def test_other_methods_are_theirs(checkpoint, files):
    folder = str(checkpoint('ast'))
    theirs, ours = st.SentenceTransformer(folder, device='cpu', truncate_dim=10), AudioPipeline(folder, truncate_dim=10)
    items = items_of(ours, files)
    assert theirs.get_embedding_dimension() == ours.get_embedding_dimension() == ours.get_sentence_embedding_dimension() == ours.dim == 10
    a, b = theirs.encode(items), ours.encode(items)
    assert a.shape == b.shape == (4, 10) and np.abs(a-b).max() < 1e-5
    for name in ('encode_query', 'encode_document'):
        assert np.abs(getattr(ours, name)(items, batch_size=1)-getattr(theirs, name)(items)).max() < 1e-5
    with pytest.warns(DeprecationWarning): assert np.array_equal(ours.encode(sentences=items), b)
    assert theirs.similarity_fn_name == ours.similarity_fn_name
    for name, others in (('similarity', b[:2]), ('similarity_pairwise', b[::-1])):
        for kind in (np.asarray, torch.tensor, list):
            given = kind(np.ascontiguousarray(others))
            x, y = getattr(theirs, name)(b, given), getattr(ours, name)(b, given)
            assert x.shape == y.shape and torch.allclose(x, y, atol=1e-6)
    for wrong in (dict(task='poem'), dict(chunk_size=0), dict(output_value=None, precision='int8'), dict(batchsize=3)):
        with pytest.raises(SettingError): ours.encode(items, **wrong)


def test_cut_vectors_are_told_apart(checkpoint, files, tmp_path):
    pipe = AudioPipeline(checkpoint('ast'), truncate_dim=10)
    pipe.save(tmp_path/'saved')
    assert AudioPipeline.load(tmp_path/'saved').truncate_dim == 10
    from auditus.collection.run import run_settings
    assert run_settings(pipe)['truncate_dim'] == 10
    assert 'truncate_dim' not in run_settings(AudioPipeline(checkpoint('ast')))
    [row] = pipe.stream(files[0])
    assert row.vector.shape == (10,)


# The chain as a module

def module_pipe(name, checkpoint, tmp_path, **settings):
    if name == 'birdnet':
        pytest.importorskip('ai_edge_litert')
        return AudioPipeline('birdnet', **settings)
    if name != 'clmr': return AudioPipeline(checkpoint(name), **settings)
    from safetensors.torch import save_file
    save_file(seeded_encoder(), tmp_path/'clmr.safetensors')
    return AudioPipeline('clmr', checkpoint=tmp_path/'clmr.safetensors', **settings)


@pytest.mark.parametrize('name', [*architectures, 'birdnet', 'clmr'])
def test_what_a_module_gives_hangs_together_with_its_network(name, checkpoint, tmp_path, rng):
    "The slope along a random direction is the gradient's."
    pipe = module_pipe(name, checkpoint, tmp_path)
    sounds = [(noise(rng, s, pipe.sr), pipe.sr) for s in (3.1, 5.7)]
    module = pipe.as_module().eval()
    features = module.preprocess(sounds)
    with torch.no_grad(): assert np.abs(module(features)['sentence_embedding'].numpy()-pipe(sounds)).max() < 2e-5
    weights = torch.randn(2, pipe.dim, generator=torch.Generator().manual_seed(0))/pipe.dim**.5
    def value(): return (module(features)['sentence_embedding']*weights).sum()
    value().backward()
    moved = [p for p in module.parameters() if p.grad is not None and p.grad.abs().max() > 0]
    assert len(moved) > 3 and all(p.grad.isfinite().all() for p in moved)
    size = sum((p.grad.double()**2).sum() for p in moved).sqrt().item()
    def after(step):
        with torch.no_grad():
            for p in moved: p.add_(p.grad, alpha=step/size)
            found = value().item()
            for p in moved: p.sub_(p.grad, alpha=step/size)
        return found
    # a network bends over long steps, and float32 rounds short ones away
    slopes = [(after(step)-after(-step))/(2*step)
              for step in (.02/size, .004/size, .0008/size, .00016/size, .00003/size)]
    assert min(abs(s/size-1) for s in slopes) < .1


def test_gradients_are_those_of_transformers(checkpoint, rng):
    import transformers as tf
    folder, wave = checkpoint('hubert-group'), noise(rng, 1., 16000)
    theirs = tf.AutoModel.from_pretrained(folder).eval()
    inputs = tf.AutoFeatureExtractor.from_pretrained(folder)(wave, sampling_rate=16000, return_tensors='pt')
    theirs(**inputs).last_hidden_state.mean(1).square().sum().backward()
    module = AudioPipeline(folder).as_module().eval()
    module(module.preprocess([(wave, 16000)]))['sentence_embedding'].square().sum().backward()
    found = dict(module.network.named_parameters())
    compared = [(p.grad, found[k].grad) for k, p in theirs.named_parameters() if p.grad is not None]
    assert len(compared) > 20
    for a, b in compared: assert (a-b).abs().max() < 1e-4*max(1., a.abs().max().item())


def test_frames_for_a_pooling_of_theirs(checkpoint, rng):
    pipe = AudioPipeline(checkpoint('hubert-layer'))
    sounds = [(noise(rng, s, 16000), 16000) for s in (2.5, .7, 1.1)]
    frames = AudioPipeline(checkpoint('hubert-layer'), pooling=None)
    model = st.SentenceTransformer(modules=[frames.as_module(), Pooling(pipe.dim, 'mean'),
                                            Dense(pipe.dim, 5)], device='cpu')
    assert model.get_embedding_dimension() == 5 and model.encode(sounds).shape == (3, 5)
    pooled = st.SentenceTransformer(modules=[frames.as_module(), Pooling(pipe.dim, 'mean')], device='cpu')
    assert np.abs(pooled.encode(sounds)-pipe(sounds)).max() < 1e-5
    assert [tuple(f.shape) for f in pooled.encode(sounds, output_value='token_embeddings')] == [f.shape for f in frames(sounds)]


def test_losses_in_parts_give_the_same_gradients(checkpoint, rng):
    model = st.SentenceTransformer(modules=[AudioPipeline(checkpoint('hubert-layer')).as_module()], device='cpu').eval()
    pairs = [[(noise(rng, s, 16000), 16000) for s in (1., .5, 2.)] for _ in range(2)]
    found = []
    for loss in (losses.MultipleNegativesRankingLoss(model),
                 losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=2)):
        model.zero_grad()
        loss([model.preprocess(p) for p in pairs], None).backward()
        found.append({k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None})
    assert len(found[0]) > 20 and found[0].keys() == found[1].keys()
    for k, g in found[0].items(): assert (g-found[1][k]).abs().max() < 1e-5+1e-3*g.abs().max()


def test_its_trainer_trains_saves_and_goes_on(checkpoint, rng, tmp_path):
    datasets = pytest.importorskip('datasets')
    pytest.importorskip('accelerate')
    import soundfile
    def tone(hz): return (.3*np.sin(2*np.pi*hz*np.arange(16000)/16000)+noise(rng, 1., 16000)*.2).astype(np.float32)
    names, kinds = [], []
    for i in range(16):
        names.append(str(tmp_path/f'{i}.wav'))
        kinds.append(i % 2)
        soundfile.write(names[-1], tone((300, 3000)[i % 2]), 16000)
    pipe = AudioPipeline(checkpoint('hubert-layer'), pooling='meanstd')
    before = pipe(names)
    model = st.SentenceTransformer(modules=[pipe.as_module()], device='cpu')
    data = datasets.Dataset.from_dict({'sound': names, 'label': kinds})
    evaluator = evaluation.TripletEvaluator(anchors=names[:8:2], positives=names[2:10:2],
                                            negatives=names[1:9:2], name='tones')
    arguments = st.SentenceTransformerTrainingArguments(output_dir=str(tmp_path/'run'), num_train_epochs=3,
                                                        per_device_train_batch_size=8, learning_rate=3e-3,
                                                        use_cpu=True, report_to='none',
                                                        disable_tqdm=True, save_strategy='epoch',
                                                        eval_strategy='epoch', load_best_model_at_end=True,
                                                        metric_for_best_model='eval_tones_cosine_accuracy',
                                                        logging_strategy='epoch',
                                                        batch_sampler='group_by_label', seed=1)
    trainer = st.SentenceTransformerTrainer(model=model, args=arguments, train_dataset=data,
                                            loss=losses.BatchSemiHardTripletLoss(model), evaluator=evaluator)
    trainer.train()
    assert trainer.state.global_step == 6
    assert 'eval_tones_cosine_accuracy' in trainer.state.log_history[-2] | trainer.state.log_history[-3]
    now = model.encode(names)
    assert np.abs(now-before).max() > 1e-3 and np.abs(pipe(names)-before).max() == 0
    model.save_pretrained(str(tmp_path/'trained'))
    again = st.SentenceTransformer(str(tmp_path/'trained'), trust_remote_code=True, device='cpu')
    assert np.abs(again.encode(names)-now).max() < 1e-5
    trained = AudioPipeline.load(tmp_path/'trained')
    assert trained.pooling == 'meanstd' and np.abs(trained(names)-now).max() < 1e-5
    assert trained.model.weights_hash() == model[0].pipe.model.weights_hash() != pipe.model.weights_hash()
    # and from there on
    more = st.SentenceTransformer(modules=[trained.as_module()], device='cpu')
    assert np.abs(more.encode(names)-now).max() < 1e-5


@pytest.mark.parametrize('name', ['birdnet', 'whisper', 'clap-fusion', 'clmr'])
def test_copies_of_a_module(name, checkpoint, tmp_path, rng):
    pipe = module_pipe(name, checkpoint, tmp_path)
    sounds = [(noise(rng, 3., pipe.sr), pipe.sr)]
    module = pipe.as_module()
    with torch.no_grad():
        for p in module.parameters(): p.mul_(1.01)
    def embed(m):
        with torch.no_grad(): return m(m.preprocess(sounds))['sentence_embedding']
    now = embed(module.eval())
    assert (now-torch.from_numpy(pipe(sounds))).abs().max() > 1e-5
    module.train()
    first = next(p for p in module.parameters() if p.requires_grad).requires_grad_(False)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert twin.training
        assert {p.requires_grad for p in twin.parameters()} == {p.requires_grad for p in module.parameters()}
        assert torch.equal(embed(twin.eval()), now)
        assert not {id(p) for p in twin.parameters()} & {id(p) for p in module.parameters()}
    assert not first.requires_grad


def test_a_module_encodes_in_processes(checkpoint, rng):
    model = st.SentenceTransformer(modules=[AudioPipeline(checkpoint('hubert-layer')).as_module()], device='cpu')
    with torch.no_grad():
        for p in model.parameters(): p.mul_(1.01)
    sounds = [{'array': noise(rng, 1., 16000), 'sampling_rate': 16000} for _ in range(4)]
    assert np.abs(model.encode(sounds, device=['cpu'])-model.encode(sounds)).max() < 1e-5


def test_what_makes_no_module(checkpoint, rng):
    with pytest.raises(SettingError, match='needs a copy'): AudioPipeline(Loudness()).as_module()
    for settings in (dict(window=1), dict(layer=[0, 1]), dict(layer=[0, 1], pooling=None),
                     dict(mono=False, pooling=None)):
        with pytest.raises(SettingError): AudioPipeline(checkpoint('hubert-layer'), **settings).as_module()
    net = torch.nn.Sequential(torch.nn.Conv1d(1, 4, 400, 160), torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten())
    with pytest.raises(SettingError, match='a network of your own'):
        AudioPipeline(net, target_sr=16000, name='mine').as_module()
    module = AudioPipeline(checkpoint('hubert-layer')).as_module()
    with pytest.raises(AudioInputError) as e:
        module.preprocess([(noise(rng, 1., 16000), 16000), (np.full(16000, np.nan, np.float32), 16000)])
    assert e.value.index == 1
    module.network = copy.deepcopy(module.network)
    with pytest.raises(SettingError, match='CUDA_VISIBLE_DEVICES'):
        module(module.preprocess([(noise(rng, 1., 16000), 16000)]))


# What was learnt

def test_a_graph_of_onnx_is_not_trained(checkpoint, tmp_path):
    pytest.importorskip('onnxruntime')
    load_model(checkpoint('hubert-group')).export(tmp_path/'net.onnx')
    with pytest.raises(SettingError, match='can not be trained'): AudioPipeline(tmp_path/'net.onnx').as_module()


def test_settings_of_the_original_come_along(checkpoint, tmp_path, rng):
    "Another feature extractor, and other layers."
    pipe = AudioPipeline(checkpoint('ast'), feature_kwargs={'mean': -3.}, layer=1)
    sounds = [(noise(rng, 2., 16000), 16000)]
    model = st.SentenceTransformer(modules=[pipe.as_module()], device='cpu')
    model.save(str(tmp_path/'saved'))
    again = AudioPipeline.load(tmp_path/'saved')
    assert again.layer == 1 and np.abs(again(sounds)-pipe(sounds)).max() < 1e-5
    assert np.abs(AudioPipeline(checkpoint('ast'), layer=1)(sounds)-pipe(sounds)).max() > 1e-3
    assert np.abs(pickle.loads(pickle.dumps(again))(sounds)-again(sounds)).max() == 0
    again.save(tmp_path/'twice')
    assert np.abs(AudioPipeline.load(tmp_path/'twice')(sounds)-pipe(sounds)).max() < 1e-5


def test_damaged_weights(checkpoint, tmp_path):
    model = open_trainable({'name': str(checkpoint('hubert-layer'))})
    model.save(tmp_path)
    file = tmp_path/learnt_file
    whole = file.read_bytes()
    file.write_bytes(whole[:len(whole)//2])
    with pytest.raises(ModelNotFoundError): load_model(file)
    file.unlink()
    with pytest.raises(ModelNotFoundError): load_model(file)
    other = open_trainable({'name': str(checkpoint('hubert-group'))})
    from safetensors.torch import save_file
    import json
    save_file({k: v.clone() for k, v in find_network(other).state_dict().items()}, file,
              metadata={'auditus': json.dumps({'name': '{folder}'})})
    with pytest.raises(ModelNotFoundError, match='do not fit'): load_model(file)
    for about in ({'name': '{folder}/../elsewhere'}, {'name': 3}, 'words'):
        save_file({'a': torch.zeros(1)}, file, metadata={'auditus': json.dumps(about)})
        with pytest.raises(ModelNotFoundError): load_model(file)


def test_other_threads_infer_meanwhile(checkpoint, rng):
    from concurrent.futures import ThreadPoolExecutor
    model = open_trainable({'name': str(checkpoint('hubert-layer'))})
    waves = [noise(rng, 1., 16000)]
    with tracking_gradients(), ThreadPoolExecutor(1) as other:
        assert model.forward(waves).frames.requires_grad
        assert not other.submit(model.forward, waves).result().frames.requires_grad
    assert not model.forward(waves).frames.requires_grad


# On real sounds

@pytest.mark.slow
def test_training_finds_more_of_the_same_kind_among_real_sounds(tmp_path):
    "The comparison of nbs/tutorial_similarity.ipynb: Sonic Pi's samples, half to learn from and half to be found."
    from collections import Counter
    from pathlib import Path

    import soundfile
    datasets = pytest.importorskip('datasets')
    pytest.importorskip('ai_edge_litert')
    folder = Path('/usr/share/sonic-pi/samples')
    if not folder.is_dir(): pytest.skip('needs the Debian package sonic-pi-samples')
    short = [p for p in sorted(folder.glob('*.flac')) if soundfile.info(p).duration <= 3]
    counts = Counter(p.name.split('_')[0] for p in short)
    files = [str(p) for p in short if counts[p.name.split('_')[0]] >= 6]
    kinds, rng = np.array([Path(f).name.split('_')[0] for f in files]), np.random.default_rng(0)
    train = np.sort(np.concatenate([(at := rng.permutation(np.flatnonzero(kinds == k)))[:len(at)//2]
                                    for k in sorted({*kinds})]))
    test = np.setdiff1d(np.arange(len(files)), train)
    model = st.SentenceTransformer(modules=[AudioPipeline('birdnet').as_module()], device='cpu')

    def precision():
        "Mean average precision, each sound against all others."
        v, y, found = model.encode([files[i] for i in test], normalize_embeddings=True), kinds[test], []
        for i, s in enumerate(v@v.T):
            same = (y == y[i])[[j for j in np.argsort(-s) if j != i]]
            found.append((np.cumsum(same)/np.arange(1, len(same)+1))[same].mean())
        return np.mean(found)
    before, rng = precision(), np.random.default_rng(0)
    pairs = [(files[i], files[j]) for i in train
             for j in rng.permutation([j for j in train if kinds[j] == kinds[i] and j != i])[:2]]
    arguments = st.SentenceTransformerTrainingArguments(output_dir=str(tmp_path/'run'), num_train_epochs=2,
                                                        per_device_train_batch_size=16, learning_rate=1e-4,
                                                        use_cpu=True, report_to='none',
                                                        disable_tqdm=True, save_strategy='no',
                                                        batch_sampler='no_duplicates', seed=0)
    data = datasets.Dataset.from_dict({'anchor': [a for a, _ in pairs], 'positive': [b for _, b in pairs]})
    st.SentenceTransformerTrainer(model, arguments, train_dataset=data,
                                  loss=losses.MultipleNegativesRankingLoss(model)).train()
    assert len(files) == 116 and .3 < before < .4 and precision() > before+.05

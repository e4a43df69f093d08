"""Make the documentation site out of the notebooks and the docstrings: python tools/site.py [--out _docs] [--check]

Notebooks are shown with the outputs that were committed: nothing is run. What nbdev's directives hide is hidden here.
Pages are written in Markdown into a folder that is thrown away, and mkdocs makes the site of them.
"""
import argparse, ast, json, os, posixpath, re, shutil, subprocess, sys, tempfile, textwrap
from importlib import import_module
from pathlib import Path

import yaml

root = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(root), str(root/'tools')]  # the library beside this file, not another that is installed

import auditus, links, reference
from readme import directives, fenced, merged, output, relinked, text

hidden = {'hide', 'default_exp'}
exported = {'export', 'exporti', 'exports'}
long_code = 40  # lines of an exported cell; longer ones are folded, so that the story stays in sight


folders = {'tutorial_': 'tutorials', 'guide_': 'guides', 'transform_': 'transforms'}  # of notebooks by the beginning of their names
sections = {'tutorials': ('Tutorials', 'From a task to its result, step by step.'),
            'guides': ('Guides', 'What each part can do, and where it ends.'),
            'transforms': ('Transforms', 'One page for each.')}
files = {'benchmarks/RESULTS.md': 'benchmarks.md', 'CHANGELOG.md': 'changelog.md', 'CONTRIBUTING.md': 'contributing.md'}
wide = '---\nhide: [navigation]\n---\n\n'  # a page that stands alone in the navigation needs no column for it


# A notebook's cells

def defines(source):
    "The names that a cell of exported code defines, methods as `Class.method`."
    names = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef): names.append(node.name)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            patched = any(ast.unparse(d).startswith('patch') for d in node.decorator_list)
            names.append(f'{ast.unparse(node.args.args[0].annotation)}.{node.name}' if patched else node.name)
        elif isinstance(node, ast.Assign):
            names += [n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return names


def folded(source):
    "Exported code under the names that it defines; open where it is short."
    names = defines(source)
    if names == ['_all_']: return ''  # only nbdev reads it
    mark = '???+' if names and source.count('\n') < long_code else '???'
    title = ', '.join(f'`{n}`' for n in names) or 'Imports'
    return f'{mark} code "{title}"\n\n' + textwrap.indent(fenced('python', source), '    ')


def shown(o):
    "An output in Markdown: HTML and pictures as they are, or else its text."
    data = o.get('data', {})
    if 'text/html' in data:
        made = text(data['text/html'])
        if '<style>' in made: made = f'<template shadowrootmode="open">{made}</template>'  # out of the theme's reach
    elif 'image/svg+xml' in data: made = text(data['image/svg+xml'])
    elif image := next((k for k in data if k.startswith('image/')), ''):
        made = f'<img alt="what the code above draws" src="data:{image};base64,{text(data[image]).strip()}">'
    else: return re.sub(r'^(`+)text\n', r'\1{.text .output}\n', output(o))
    return f'<div class="output">{made.strip()}</div>'


def code(cell):
    "A code cell's blocks: its source, then its outputs."
    said, source = directives(text(cell['source']))
    if hidden & said.keys() or said.get('include') == 'false': return []
    source = '\n'.join(line for line in source.split('\n') if not re.search(r'#\s*\|\s*hide_line\s*$', line))
    blocks = []
    if source and said.get('echo') != 'false' and 'hide_input' not in said:
        blocks.append(folded(source) if exported & said.keys() else fenced('python', source))
    if said.get('output') != 'false' and 'hide_output' not in said: blocks += map(shown, merged(cell['outputs']))
    return blocks


def notebook(path):
    "A notebook as Markdown."
    blocks = []
    for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
        if cell['cell_type'] == 'code': blocks += code(cell)
        elif cell['cell_type'] == 'markdown': blocks.append(text(cell['source']).strip())
    return '\n\n'.join(b for b in blocks if b) + '\n'


def title(page): return m[1] if (m := re.search(r'^# (.*)', page, re.MULTILINE)) else None


def sentence(page): return m[1] if (m := re.match(r'# .*\n+> (.*)', page)) else ''


# Links

def outside_code(change, page):
    "A page whose prose is changed; blocks of code, outputs and headings stay as they are."
    lines, fence = page.split('\n'), ''
    for i, line in enumerate(lines):
        mark = m[1] if (m := re.match(r'\s*(`{3,})', line)) else ''
        if fence: fence = '' if line.strip() == fence else fence
        elif mark: fence = mark
        elif not re.match(r'#|\?\?\?|<div class="output">', line): lines[i] = change(line)
    return '\n'.join(lines)


def with_links(page, at, source, places, names, copied):
    "A page at `at` of the site, made of the file `source`: links to files and names in backticks lead to pages."
    def to(place): return posixpath.relpath(place, posixpath.dirname(at) or '.')
    def moved(path, anchor):
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if file in places: return to(places[file]) + anchor.lower()  # notebooks keep a heading's capitals in its anchor
        if (root/file).is_file() and not file.startswith('..'):
            copied.add(file)
            return to(f'files/{file}') + anchor
    def named(m):
        place = names.get(m[1]) or places.get(m[1])
        return f'[{m[0]}]({to(place)})' if place else m[0]
    def prose(line): return re.sub(r'\[[^\]]*\]\([^)]*\)|(?<!>)`([\w./ -]+)(?:\(\))?`', named, line)
    return outside_code(prose, relinked(page, moved))


def unambiguous(modules):
    """Where names lead: whole ones, and short ones that have a single home and are no parameters anywhere.

    A short name of the commands' module leads nowhere: it is that of a command, and of a function elsewhere."""
    names, short, parameters = {}, {}, set()
    for at, (page, anchors) in modules.items():
        names |= {title(page): at} | {f'{title(page)}.{name}': f'{at}#{name}' for name in anchors}
        parameters |= {*re.findall(r'^\| `(\w+)` \|', page, re.MULTILINE)}
        for name in anchors: short.setdefault(name, []).append(f'{at}#{name}')
    commands = reference_of('auditus.cli')
    # of several, a name of the package's own front door is the one that is meant
    front = {name: f'{at}#{name}' for name, home in auditus._home.items() if (at := reference_of(f'auditus.{home}')) in modules and name in modules[at][1]}
    return names | front | {name: where[0] for name, where in short.items()
                            if len(where) == 1 and name not in parameters and not where[0].startswith(commands)}


# The pages

def rooms(numbered):
    "The groups that CONTRIBUTING.md divides notebooks into: name, what is there, notebooks."
    table = (root/'CONTRIBUTING.md').read_text(encoding='utf-8')
    found = re.findall(r'^\| (\d+)[^|]*\| (\w+) \| (.*?) \|', table, re.MULTILINE)
    if not found: raise SystemExit('CONTRIBUTING.md must have a table of rooms (numbers | room | what is there), got none')
    def inside(first): return max(i for i, (number, *_) in enumerate(found) if int(number) <= first)
    room_of = {p: inside(int(re.match(r'\d+', p.name)[0])) for p in numbered}
    return [(name.capitalize(), f'{what[0].upper()}{what[1:]}.', [p for p in numbered if room_of[p] == i])
            for i, (_, name, what) in enumerate(found) if i in room_of.values()]


def place(path):
    "Where a notebook's page is on the site."
    for prefix, folder in folders.items():
        if path.stem.startswith(prefix): return f'{folder}/{path.stem.removeprefix(prefix)}.md'
    return 'index.md' if path.stem == 'index' else f'how/{path.stem.partition("_")[2]}.md'


def reference_of(module): return f'reference/{module.removeprefix("auditus.")}.md'


def exported_to(path):
    "The module that a numbered notebook exports to."
    if m := re.search(r'#\s*\|\s*default_exp\s+([\w.]+)', path.read_text(encoding='utf-8')): return m[1]
    raise SystemExit(f'{path.name} has a number, so it must export to a module, and has no `#| default_exp`')


def below_title(page, line):
    "A page with a line more beneath its title and sentence."
    return re.sub(r'\A# .*\n+(?:> .*\n+)?', lambda m: f'{m[0]}{line}\n\n', page)


def overview(name, folder, groups, extra):
    "A page that lists others in groups, and the part of the navigation that holds them all."
    blocks, entries = [f'# {name}'], [f'{folder}/index.md', *extra]
    for group, what, pages in groups:
        titles = {at: title(page).removeprefix('auditus.') for at, page in pages.items()}
        blocks += [f'## {group}'] if group else []
        blocks += [what, '\n'.join(f'- [{titles[at]}]({at.partition("/")[2]}): {sentence(page)}' for at, page in pages.items())]
        here = [{titles[at]: at} for at in pages]
        entries += [{group: here}] if group else here
    return '\n\n'.join(blocks) + '\n', {name: entries}


def make_pages():
    "All pages in Markdown by their place on the site, the navigation, and the files that they link to."
    notebooks = sorted((root/'nbs').glob('*.ipynb'))
    places = {f'nbs/{p.name}': place(p) for p in notebooks}
    places |= {file: at for file, at in files.items() if (root/file).is_file()}
    sources = {at: file for file, at in places.items()}
    pages = {at: notebook(root/file) if file.endswith('.ipynb') else (root/file).read_text(encoding='utf-8')
             for file, at in places.items()}
    nav, defined = [{'Home': 'index.md'}], {}
    for folder, (name, what) in sections.items():
        if here := {at: page for at, page in pages.items() if at.startswith(f'{folder}/')}:
            pages[f'{folder}/index.md'], entry = overview(name, folder, [('', what, here)], [])
            nav.append(entry)

    numbered = {p: f'auditus.{exported_to(p)}' for p in notebooks if p.name[0].isdigit()}
    public = {p: m for p, m in numbered.items() if import_module(m).__all__}  # the others are of use within only
    for path, module in numbered.items():
        at, there = place(path), reference_of(module)
        if path not in public: continue
        page, anchors = reference.page(module, numbered.values())
        pages[there] = below_title(page, f'[How it works, step by step](../{at})')
        pages[at] = below_title(pages[at], f'[All names and their parameters](../{there})')
        defined[there] = page, anchors
    commands = 'reference/commands.md'
    pages[commands], anchors = reference.commands()
    names = unambiguous(defined) | {f'auditus {name}': f'{commands}#{anchor}' for name, anchor in anchors.items()}
    for name, folder, what, kept, extra in (
            ('How it works', 'how', 'The notebooks that the library is written in. A module imports only from those above it.',
             {p: place(p) for p in numbered}, []),
            ('Reference', 'reference', f'From `auditus` itself: {", ".join(f"`{n}`" for n in auditus.__all__)}.',
             {p: reference_of(m) for p, m in public.items()}, [{'Commands': commands}])):
        groups = [(room, there, {kept[p]: pages[kept[p]] for p in inside if p in kept}) for room, there, inside in rooms(numbered)]
        groups = [g for g in groups if g[2]]
        pages[f'{folder}/index.md'], entry = overview(name, folder, [('', what, {}), *groups], extra)
        nav.append(entry)
    nav += [{at.removesuffix('.md').capitalize(): at} for at in files.values() if at in pages]
    copied = set()
    pages = {at: with_links(page, at, sources.get(at, at), places, names, copied) for at, page in pages.items()}
    alone = {at for entry in nav for at in entry.values() if isinstance(at, str)}
    return {at: wide*(at in alone) + page for at, page in pages.items()}, nav, copied


# The site

def build(out):
    "Make the site in the folder `out`; what was there goes."
    out = Path(out).resolve()
    if out.exists() and any(out.iterdir()) and not (out/'search'/'search_index.json').exists():
        raise SystemExit(f'{out} must be empty or an older site, and holds something else: choose another with --out')
    pages, nav, copied = make_pages()
    with tempfile.TemporaryDirectory() as work:
        docs, config = Path(work)/'docs', yaml.safe_load((root/'tools'/'mkdocs.yml').read_text(encoding='utf-8'))
        for at, page in pages.items():
            (docs/at).parent.mkdir(parents=True, exist_ok=True)
            (docs/at).write_text(page, encoding='utf-8')
        for file in copied:
            (docs/'files'/file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root/file, docs/'files'/file)
        shutil.copy(root/'tools'/'site.css', docs)
        settings = Path(work)/'mkdocs.yml'
        settings.write_text(yaml.safe_dump({**config, 'nav': nav, 'docs_dir': str(docs)}), encoding='utf-8')
        command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--quiet', '-f', settings, '-d', out]
        quiet = {**os.environ, 'NO_MKDOCS_2_WARNING': '1'}  # the theme's advertisement for its successor
        if subprocess.run(command, env=quiet).returncode: raise SystemExit('mkdocs could not build the site, see above')
    return len(pages)


def main():
    parser = argparse.ArgumentParser(description='Make the documentation site out of notebooks and docstrings.')
    parser.add_argument('--out', default=root/'_docs', type=Path, help='the folder of the site; what was there goes')
    parser.add_argument('--check', action='store_true', help='fail where a link leads nowhere')
    parser.add_argument('--external', action='store_true', help='try the links to other hosts too')
    said = parser.parse_args()
    print(f'{build(said.out)} pages in {said.out}')
    found = links.faults(said.out) if said.check or said.external else []
    if said.external: found += links.unanswered(links.external(said.out))
    if found: sys.exit('\n'.join([*found, f'{len(found)} links lead nowhere']))


if __name__ == '__main__': main()

"The documentation site: everything is on it, what is hidden is not, and no link leads nowhere."
import html
import importlib
import inspect
import json
import posixpath
import re
import subprocess
import sys

import pytest
from kit import copy_tree, module_number, notebooks, read, root, run

import auditus
from auditus.sound.explained import written_doc

pytest.importorskip('mkdocs', reason='needs mkdocs: pip install "auditus[docs]"')
pytest.importorskip('material', reason='needs mkdocs-material: pip install "auditus[docs]"')
sys.path.append(str(root/'tools'))
from links import external, faults, read_site  # noqa: E402
from readme import directives, text  # noqa: E402

numbered = [p for p in notebooks if p.name[0].isdigit()]
# the others have no page of reference
modules = sorted(m for m in module_number() if importlib.import_module(m).__all__)


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The site as the project is."
    out = tmp_path_factory.mktemp('site')
    run(sys.executable, root/'tools'/'site.py', '--out', out, '--check', cwd=out)
    return out


@pytest.fixture(scope='module')
def pages(site): return {p.relative_to(site).as_posix(): page for p, page in read_site(site)[1].items()}


def page_of(path):
    "Where a notebook is on the site: said here once more, since others link there."
    kind, _, name = path.stem.partition('_')
    folder = {'tutorial': 'tutorials', 'guide': 'guides', 'transform': 'transforms'}.get(kind, 'how')
    return f'{folder}/{name}.html' if name else 'index.html'


def words(path):
    "What a reader sees of a page, with single spaces."
    told = re.sub(r'<(script|style)\b.*?</\1>', '', read(path), flags=re.DOTALL)
    return ' '.join(html.unescape(re.sub(r'<[^>]*>', '', told)).split())


# What is there

@pytest.mark.parametrize('path', [pytest.param(p, id=p.stem) for p in notebooks])
def test_notebook_is_there_without_its_hidden_cells(path, site):
    "Every cell that is to be seen is looked for by the same means as those that are not."
    seen, kept = words(site/page_of(path)), {True: [], False: []}
    for cell in json.loads(read(path))['cells']:
        if cell['cell_type'] != 'code': continue
        said, source = directives(text(cell['source']))
        if not source or source.startswith('_all_') or said.get('echo') == 'false': continue
        kept['hide' in said or 'default_exp' in said].append(' '.join(source.split()))
    assert all(s in seen for s in kept[False])
    assert not [s for s in kept[True] if s in seen and not any(s in shown for shown in kept[False])]
    assert '#|' not in seen


def test_some_cell_is_hidden():
    assert any('hide' in directives(text(c['source']))[0] for p in numbered for c in json.loads(read(p))['cells'])


@pytest.mark.parametrize('module', modules)
def test_public_names_are_there(module, pages):
    thing = importlib.import_module(module)
    for name in thing.__all__:
        value = getattr(thing, name)
        # what is handed on is on the page of its home; of a value, unlike a function, nothing says where that is
        homes = [value.__module__] if inspect.isclass(value) or inspect.isroutine(inspect.unwrap(value)) else modules
        homes = [m for m in homes if m in modules and getattr(importlib.import_module(m), name, None) is value] or [module]
        assert any(name in pages[f'reference/{m.removeprefix("auditus.")}.html'].anchors for m in homes)


@pytest.mark.parametrize('module', modules)
def test_methods_are_there(module, pages):
    "Those that a module patches onto another's class are on its own page."
    loaded = [importlib.import_module(m) for m in modules]
    classes = {c for m in loaded for n in m.__all__ if inspect.isclass(c := getattr(m, n))}
    methods = {f'{c.__name__}.{n}' for c in classes for n, m in vars(c).items()
               if inspect.isfunction(m) and m.__module__ == module and n[0] != '_'}
    assert methods <= pages[f'reference/{module.removeprefix("auditus.")}.html'].anchors


def test_names_of_the_package_are_linked(pages):
    linked = {link.partition('#')[2] for link in pages['reference/index.html'].links}
    assert {*auditus.__all__} <= linked


def test_reference_says_what_a_name_takes_and_gives(site):
    seen = words(site/'reference'/'signal.html')
    assert "Windowing(window, hop=None, pad=None)" in seen
    assert written_doc(auditus.Windowing) in seen
    assert 'hop float | None None seconds from one start to the next; None: windows touch' in seen
    assert 'returns Iterator[Window]' in seen  # of a method that was patched on


def test_no_type_is_made_up(site):
    "A parameter without an annotation may take other types than its default's."
    assert "window 'auto' 'auto', seconds, or None" in words(site/'reference'/'pipeline.pipeline.html')


def test_fields_and_constants_are_told(site):
    assert 'mask Any (n, tokens), true where a token stands for real audio' in words(site/'reference'/'models.base.html')
    assert "default_model 'MIT/ast-finetuned-audioset-10-10-0.4593'" in words(site/'reference'/'pipeline.embedding.html')


def test_commands_are_there(site):
    seen = words(site/'reference'/'commands.html')
    for command in 'embed', 'classify', 'search': assert f'auditus {command} [OPTIONS]' in seen
    assert '--time-budget' in seen


def test_pictures_players_and_tables(site):
    show = read(site/'how'/'show.html')
    assert re.search(r'<img[^>]*src="data:image/png;base64,\w', show)
    assert re.search(r'<audio controls[^>]*src="data:audio/flac;base64,\w', show)
    assert '<td>Siren_Siren</td>' in read(site/'how'/'classify.html')


def test_all_pages_are_in_the_navigation(pages):
    def target(page, link): return posixpath.normpath(posixpath.join(posixpath.dirname(page), link.partition('#')[0]))
    from_home = {target('index.html', link) for link in pages['index.html'].links}
    seen = from_home | {target(page, link) for page in from_home & pages.keys() for link in pages[page].links}
    assert pages.keys() - seen == {'404.html'}


def test_search_finds_names_with_no_other_host(site):
    index = json.loads(read(site/'search'/'search_index.json'))['docs']
    assert 'reference/signal.html#Windowing' in {entry['location'] for entry in index}


def test_prose_leads_to_names(pages):
    assert '../reference/core.html#AudioArray' in pages['how/show.html'].links
    assert 'contributing.html' in pages['index.html'].links  # `CONTRIBUTING.md`


# Links

@pytest.mark.parametrize('link, fault', [
    ('<a href="b.html">', None),
    ('<a href="b.html#here">', None),
    ('<a href="#x"></a><p id="x">', None),
    ('<a href="sub/">', None),
    ('<a href="/b.html">', None),
    ('<a href="mailto:a@b.c">', None),
    ('<img src="data:image/png;base64,aGk=">', None),
    ('<a href="https://example.org/x">', None),
    ('<a href="c.html">', 'a.html: c.html leads to no file'),
    ('<a href="b.html#there">', 'a.html: b.html#there leads to no anchor'),
    ('<a href="#there">', 'a.html: #there leads to no anchor'),
    ('<a href="../a.html">', 'a.html: ../a.html leads to no file'),
    ('<img src="x.png">', 'a.html: x.png leads to no file'),
    ('<link rel="stylesheet" href="x.css">', 'a.html: x.css leads to no file'),
    ('<script src="https://example.org/x.js">', 'a.html: https://example.org/x.js is fetched from another host'),
    ('<link href="//example.org/x.css">', 'a.html: //example.org/x.css is fetched from another host'),
    ('<a href="https://exa mple">', 'a.html: https://exa mple is no address'),
])
def test_faults(link, fault, tmp_path):
    (tmp_path/'sub').mkdir()
    for name, page in (('a.html', link), ('b.html', '<p id="here">'), ('sub/index.html', '')):
        (tmp_path/name).write_text(page)
    assert faults(tmp_path) == ([fault] if fault else [])


def test_no_site_to_check(tmp_path):
    with pytest.raises(SystemExit, match='build the site first'): faults(tmp_path)


def test_external_links_are_listed(site): assert 'https://arxiv.org/abs/2103.09410' in external(site)


# Pages that are made up

def cell(source, *outputs, kind='code'):
    return {'cell_type': kind, 'source': source, 'metadata': {}, 'outputs': outputs}


# what the pages that are made up lead to
kept = {'nbs/050_signal.ipynb', 'nbs/100_load.ipynb', 'nbs/410_pipeline.pipeline.ipynb', 'LICENSE'}


@pytest.fixture
def small(tmp_path):
    "`small(name=cells, ...)` builds the site of a tree with a few notebooks, to these names, and gives how that ended."
    def made(path):
        return str(path) in kept or path.parts[0] in ('auditus', 'tools') or path.name == 'CONTRIBUTING.md'
    def build(**pages):
        copy_tree(tmp_path, made)
        for p in (tmp_path/'nbs').iterdir():  # their links lead to notebooks that are not there
            nb = json.loads(read(p))
            nb['cells'] = [c for c in nb['cells'] if c['cell_type'] == 'code' or '](' not in text(c['source'])]
            p.write_text(json.dumps(nb), encoding='utf-8')
        for name, cells in pages.items():
            (tmp_path/'nbs'/f'{name}.ipynb').write_text(json.dumps({'cells': cells}), encoding='utf-8')
        return subprocess.run([sys.executable, 'tools/site.py', '--out', 'made', '--check'], cwd=tmp_path,
                              capture_output=True, text=True)
    return build


home = [cell('# auditus\n\n> A sentence', kind='markdown')]


def test_directives_and_links(small, tmp_path):
    def printed(s): return {'output_type': 'stream', 'name': 'stdout', 'text': s}
    done = small(index=home, transform_made=[
        cell('# Made up\n\n> A sentence', kind='markdown'),
        cell('#| hide\nhidden_cell = 1'), cell('#| echo: false\nhidden_source = 1', printed('output alone')),
        cell('#| output: false\nshown_source = 1', printed('hidden output')),
        cell('#| eval: false\nnot_evaluated = 1\nhidden_line = 1 #| hide_line'),
        cell('#| export\ndef f(): pass'),
        cell('f()', {'output_type': 'execute_result',
                     'data': {'text/plain': '<Thing>', 'text/html': '<b>bold\n\nthing</b>'}}),
        cell('[n](050_signal.ipynb) [l](../LICENSE) [a](100_load.ipynb#AudioLoader)', kind='markdown'),
        cell('`AudioPipeline()`, `Windowing.one`, `auditus embed`, `no_such_name`', kind='markdown')])
    assert not done.returncode, done.stdout + done.stderr
    path = tmp_path/'made'/'transforms'/'made.html'
    seen, links = words(path), read_site(tmp_path/'made')[1][path].links
    for part in 'output alone', 'shown_source = 1', 'not_evaluated = 1', 'def f(): pass': assert part in seen
    for part in 'hidden', '#|': assert part not in seen
    assert '<b>bold\n\nthing</b>' in read(path) and '<details class="code" open' in read(path)
    assert {'../how/signal.html', '../how/load.html#audioloader', '../files/LICENSE'} <= {*links}
    assert {'../reference/pipeline.pipeline.html#AudioPipeline', '../reference/signal.html#Windowing.one',
            '../reference/commands.html#auditus-embed'} <= {*links} and not any('no_such_name' in link for link in links)
    assert 'Made up: A sentence' in words(tmp_path/'made'/'transforms'/'index.html')
    assert 'Transforms' in words(tmp_path/'made'/'index.html')


def test_a_folder_of_other_things_is_kept(tmp_path):
    (tmp_path/'mine.txt').write_text('x')
    done = subprocess.run([sys.executable, root/'tools'/'site.py', '--out', tmp_path], capture_output=True, text=True)
    assert done.returncode and 'choose another' in done.stderr and (tmp_path/'mine.txt').exists()


@pytest.mark.parametrize('link', ['nowhere.ipynb', '050_signal.ipynb#nowhere'])
def test_a_broken_link_is_named(link, small):
    done = small(index=home, tutorial_broken=[cell(f'# Broken\n\n> A sentence\n\n[x]({link})', kind='markdown')])
    said = done.stdout + done.stderr
    assert done.returncode and 'tutorials/broken' in said and 'nowhere' in said, said

"""Find links that lead nowhere in a folder of HTML: links between its pages, their anchors, pictures, scripts and styles.

A page that needs another host to look right is a fault too: the site must be whole with no network.
"""
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

seconds_to_answer = 20


class Page(HTMLParser):
    "The anchors of an HTML page, and what it links to or fetches."
    def __init__(self, html):
        super().__init__()
        self.anchors, self.links, self.fetched = set(), [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = {k: v or '' for k, v in attrs}
        self.anchors |= {attrs[k] for k in ('id', 'name') if k in attrs}
        if 'src' in attrs: self.fetched.append(attrs['src'])
        if 'href' in attrs: (self.fetched if tag == 'link' else self.links).append(attrs['href'])


def read_site(site):
    "All pages of the site in a folder, by their path."
    site = Path(site).resolve()
    pages = {p: Page(p.read_text(encoding='utf-8')) for p in sorted(site.rglob('*.html'))}
    if not pages: raise SystemExit(f'{site} must be a folder of HTML, got none in it: build the site first')
    return site, pages


def faults(site):
    "A line for each link that leads nowhere: the page, the link, and what is wrong."
    site, pages = read_site(site)
    def wrong(page, link, fetched):
        url = urlsplit(link)
        if url.scheme in ('data', 'mailto', 'javascript'): return
        if url.scheme or url.netloc:
            if fetched: return 'is fetched from another host'
            return None if re.fullmatch(r'https?://[\w-]+(\.[\w-]+)+\S*', link) else 'is no address'
        target = page
        if url.path:
            start = site if url.path.startswith('/') else page.parent
            target = (start/unquote(url.path).lstrip('/')).resolve()
            if target.is_dir(): target /= 'index.html'
            if site not in target.parents or not target.is_file(): return 'leads to no file'
        anchor = unquote(url.fragment)
        if anchor and target in pages and anchor not in pages[target].anchors: return 'leads to no anchor'
    found = []
    for path, page in pages.items():
        for links, fetched in ((page.links, False), (page.fetched, True)):
            found += [f'{path.relative_to(site).as_posix()}: {link} {what}' for link in dict.fromkeys(links)
                      if (what := wrong(path, link, fetched))]
    return found


def external(site):
    "The addresses outside of the site that its pages link to."
    return sorted({link.partition('#')[0] for page in read_site(site)[1].values() for link in page.links
                   if link.startswith(('http://', 'https://'))})


def unanswered(addresses):
    "A line for each address that can't be opened."
    found = []
    for address in addresses:
        try: urlopen(Request(address, headers={'User-Agent': 'Mozilla/5.0'}), timeout=seconds_to_answer).close()
        except OSError as e: found.append(f'{address}: {e}')
    return found

'use strict';
(() => {
const $ = id => document.getElementById(id);
const data = JSON.parse($('data').textContent), snippets = JSON.parse($('snippets').textContent);
const n = data.x.length, canvas = $('map'), ctx = canvas.getContext('2d');

// Okabe and Ito's colours, which people tell apart however they see red and green; the last one is the ink
const palette = ['#0072B2', '#E69F00', '#009E73', '#D55E00', '#CC79A7', '#56B4E9', '#F0E442', ''];
const shapes = 4, bins = 24, radius = 4.5;
// viridis at nine places, and a ring of colours for hours of all the day: two hours apart are told apart, however red and green are seen
const ramp = ['#440154', '#472d7b', '#3b528b', '#2c728e', '#21918c', '#28ae80', '#5ec962', '#addc30', '#fde725'];
const ring = ['#453a5a', '#8a1f33', '#dd5a2c', '#f7a823', '#f7e27a', '#b9e0ee', '#6aaee8', '#2f6fd0', '#453a5a'];

const view = {x: 0, y: 0, k: 1, w: 1, h: 1}; // the middle, pixels a unit, and the size of the canvas: to ask for that takes time
const selected = new Set(), off = new Set();
let column = 0, current = -1, mode = 'pan', needle = '', lasso = null, waiting = false, ink = '#000', soft = '#888', playing = null;
let groups = [], shown = new Uint8Array(n);

// values in words

const two = v => String(v).padStart(2, '0');
function clock(hours) { const m = Math.round(hours*60) % 1440; return `${two(Math.floor(m/60))}:${two(m % 60)}` }
function date(seconds) { return new Date(seconds*1000).toISOString().slice(0, 19).replace('T', ' ') }
function inWords(c, v) {
  if (v === null || v === undefined || c.kind === 'names' && v < 0) return '';
  if (c.kind === 'names') return c.names[v];
  if (c.kind === 'hour') return clock(v);
  return c.kind === 'time' ? date(v) : String(Number(v.toPrecision(4)));
}
function when(i) {
  const a = data.start[i], b = data.end[i];
  if (a === null && b === null) return '';
  return `${(a || 0).toFixed(2)} s to ${b === null ? 'the end' : b.toFixed(2)+' s'}`;
}
const fileOf = i => data.files[data.file[i]];
function facts(i) {
  return [['file', fileOf(i)], ['seconds', when(i)], ...data.columns.map(c => [c.name, inWords(c, c.values[i])])].filter(f => f[1] !== '');
}

// colours

function mix(colours, share) {
  const at = Math.min(Math.max(share, 0), 1)*(colours.length-1), i = Math.min(Math.floor(at), colours.length-2);
  const part = (c, k) => parseInt(c.slice(1+2*k, 3+2*k), 16);
  return `rgb(${[0, 1, 2].map(k => Math.round(part(colours[i], k)*(1-at+i)+part(colours[i+1], k)*(at-i))).join()})`;
}
const quiet = 8; // hours of the clock without a sound, after which hours need not begin again
// hours of a part of the day are a ramp from its first to its last, which tells them apart better than a ring
function partOfDay(values) {
  const heard = new Array(24).fill(false);
  for (const v of values) if (v !== null) heard[Math.floor(v) % 24] = true;
  let best = 0, begin = 0;
  for (let h = 0; h < 24; h++) {
    let gap = 0;
    while (gap < 24 && !heard[(h+gap) % 24]) gap++;
    if (gap > best) { best = gap; begin = (h+gap) % 24 }
  }
  return best < quiet || best === 24 ? null : {begin, hours: 24-best};
}
// where the values of a column lie in its colours, from 0 to 1, and what stands at both ends
function scaleOf(c) {
  if (c.scale) return c.scale;
  if (c.kind === 'hour') {
    const part = partOfDay(c.values), {begin, hours} = part || {begin: 0, hours: 24};
    const ends = [clock(begin), part ? clock(begin+hours) : '24:00'];
    return c.scale = {colours: part ? ramp : ring, ends, at: v => ((v-begin+24) % 24)/hours};
  }
  let lo = Infinity, hi = -Infinity;
  for (const v of c.values) if (v !== null) { lo = Math.min(lo, v); hi = Math.max(hi, v) }
  const wide = lo < hi ? hi-lo : 1;
  return c.scale = {colours: ramp, ends: [inWords(c, lo), inWords(c, hi)], at: v => (v-lo)/wide};
}
// points of one colour and shape are drawn at once; a group is {colour, shape, rows}
function regroup() {
  const c = data.columns[column], found = new Map();
  const scale = c && c.kind !== 'names' ? scaleOf(c) : null;
  for (let i = 0; i < n; i++) {
    const v = c ? c.values[i] : 0;
    shown[i] = c && c.kind === 'names' && off.has(v) || needle && !words[i].includes(needle) ? 0 : 1;
    if (!shown[i]) continue;
    const none = c && (v === null || v < 0 && c.kind === 'names');
    const key = none ? -1 : !c || c.kind === 'names' ? v : Math.min(bins-1, Math.floor(scale.at(v)*bins));
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(i);
  }
  groups = [...found].sort((a, b) => a[0]-b[0]).map(([key, rows]) => ({rows, ...look(c, key)}));
}
function look(c, key) {
  if (key < 0) return {colour: soft, shape: 0};
  if (!c || c.kind === 'names') return {colour: palette[key % palette.length] || ink, shape: Math.floor(key/palette.length) % shapes};
  return {colour: mix(scaleOf(c).colours, (key+.5)/bins), shape: 0};
}
const words = data.file.map((f, i) => facts(i).map(t => t[1]).join('\n').toLowerCase());

// drawing

const across = i => (data.x[i]-view.x)*view.k+view.w/2;
const down = i => (view.y-data.y[i])*view.k+view.h/2;
function measure() { view.w = canvas.clientWidth; view.h = canvas.clientHeight }
function trace(path, x, y, shape, r) {
  if (shape === 0) { path.moveTo(x+r, y); path.arc(x, y, r, 0, 7) }
  else if (shape === 1) path.rect(x-.88*r, y-.88*r, 1.76*r, 1.76*r);
  else if (shape === 2) { path.moveTo(x, y-1.2*r); path.lineTo(x+1.1*r, y+.8*r); path.lineTo(x-1.1*r, y+.8*r); path.closePath() }
  else { path.moveTo(x, y-1.3*r); path.lineTo(x+1.3*r, y); path.lineTo(x, y+1.3*r); path.lineTo(x-1.3*r, y); path.closePath() }
}
// a mark is drawn once, and then stamped: thousands of outlines would take too long
function stampOf(g, dpr) {
  if (g.stamp && g.dpr === dpr) return g.stamp;
  const stamp = g.stamp = document.createElement('canvas'), pen = stamp.getContext('2d'), half = Math.ceil(1.5*radius*dpr);
  g.dpr = dpr;
  stamp.width = stamp.height = 2*half;
  pen.setTransform(dpr, 0, 0, dpr, half, half);
  pen.fillStyle = g.colour;
  pen.beginPath();
  trace(pen, 0, 0, g.shape, radius);
  pen.fill();
  // the ends of a ramp are near the colour of the paper, by day or by night
  pen.strokeStyle = soft;
  pen.globalAlpha = .55;
  pen.lineWidth = .8;
  pen.stroke();
  return stamp;
}
function draw() {
  waiting = false;
  measure();
  const dpr = window.devicePixelRatio || 1, {w, h} = view;
  if (canvas.width !== Math.round(w*dpr) || canvas.height !== Math.round(h*dpr)) { canvas.width = Math.round(w*dpr); canvas.height = Math.round(h*dpr) }
  ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
  ctx.clearRect(0, 0, w, h);
  ctx.globalAlpha = .85;
  for (const g of groups) {
    const stamp = stampOf(g, dpr), half = stamp.width/dpr/2;
    for (const i of g.rows) {
      const x = across(i), y = down(i);
      if (x > -9 && y > -9 && x < w+9 && y < h+9) ctx.drawImage(stamp, x-half, y-half, 2*half, 2*half);
    }
  }
  ctx.globalAlpha = 1;
  ctx.strokeStyle = ink;
  ctx.lineWidth = 1.5;
  ctx.beginPath();
  for (const i of selected) if (shown[i]) trace(ctx, across(i), down(i), 0, radius+2.5);
  ctx.stroke();
  if (current >= 0) {
    ctx.lineWidth = 3;
    ctx.beginPath();
    trace(ctx, across(current), down(current), 0, radius+5);
    ctx.stroke();
  }
  if (lasso) {
    ctx.lineWidth = 1.5;
    ctx.setLineDash([5, 4]);
    ctx.beginPath();
    lasso.forEach(([x, y], k) => k ? ctx.lineTo(x, y) : ctx.moveTo(x, y));
    ctx.closePath();
    ctx.stroke();
    ctx.setLineDash([]);
  }
}
function redraw() { if (!waiting) { waiting = true; requestAnimationFrame(draw) } }
function readTheme() {
  const style = getComputedStyle(document.documentElement);
  ink = style.getPropertyValue('--ink').trim();
  soft = style.getPropertyValue('--soft').trim();
  regroup();
  legend();
  redraw();
}
function fit() {
  measure();
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < n; i++) {
    x0 = Math.min(x0, data.x[i]); x1 = Math.max(x1, data.x[i]); y0 = Math.min(y0, data.y[i]); y1 = Math.max(y1, data.y[i]);
  }
  const room = 40;
  view.x = (x0+x1)/2;
  view.y = (y0+y1)/2;
  view.k = Math.min(Math.max(50, view.w-room)/(x1-x0 || 1), Math.max(50, view.h-room)/(y1-y0 || 1));
  redraw();
}
function zoom(by, x = view.w/2, y = view.h/2) {
  const dx = x-view.w/2, dy = y-view.h/2, k = Math.min(Math.max(view.k*by, 1e-4), 1e4);
  view.x += dx/view.k-dx/k;
  view.y -= dy/view.k-dy/k;
  view.k = k;
  redraw();
}

// one sound: seen and heard

function picture(i) {
  if (!snippets.pictures[i]) return null;
  const img = new Image(200, 100);
  img.src = 'data:image/webp;base64,'+snippets.pictures[i];
  img.alt = `spectrogram of ${fileOf(i)}`;
  return img;
}
function element(tag, text, more = {}) { return Object.assign(document.createElement(tag), {textContent: text}, more) }
function showCard() {
  const card = $('card'), list = element('dl', '');
  for (const [name, value] of facts(current)) list.append(element('dt', name), element('dd', value));
  const play = element('button', snippets.sounds[current] ? playing ? 'Stop' : 'Play' : 'No sound inside', {id: 'play', className: 'main'});
  play.disabled = !snippets.sounds[current];
  play.onclick = hear;
  const choose = element('button', selected.has(current) ? 'Take out of the selection' : 'Select', {id: 'choose'});
  choose.onclick = toggle;
  const buttons = element('div', '', {className: 'row'}), shape = picture(current);
  buttons.append(play, choose);
  card.replaceChildren(...shape ? [shape] : [], list, buttons);
  const cut = snippets.seconds[current];
  if (cut) card.append(element('p', `The first ${cut} s of it.`, {className: 'soft'}));
}
function choosePoint(i, speak) {
  if (playing) stop();
  current = i;
  showCard();
  if (speak) say(facts(i).map(f => f.join(' ')).join(', '));
  redraw();
}
function stop() { playing.pause(); playing = null; if (current >= 0) showCard() }
function hear() {
  if (playing) return stop();
  if (current < 0 || !snippets.sounds[current]) return;
  const sound = playing = new Audio('data:audio/ogg;base64,'+snippets.sounds[current]);
  const over = () => { if (playing === sound) { playing = null; showCard() } };
  sound.onended = over;
  sound.play().catch(e => { over(); if (e.name !== 'AbortError') say('this browser can not play the sound') });
  showCard();
}
function say(text) { $('said').textContent = text }

// what is selected

function toggle() {
  if (current < 0) return;
  if (!selected.delete(current)) selected.add(current);
  changed();
  showCard();
}
function changed() {
  const rows = [...selected].sort((a, b) => a-b), few = 200;
  $('chosen').textContent = rows.length ? `${rows.length.toLocaleString('en')} selected` : 'Nothing selected';
  for (const id of ['copy', 'save', 'clear']) $(id).disabled = !rows.length;
  $('list').replaceChildren(...rows.slice(0, few).map(i => {
    const item = element('li', ''), button = element('button', [fileOf(i), when(i)].filter(Boolean).join(' · '));
    button.onclick = () => { choosePoint(i); hear() };
    item.append(button);
    return item;
  }), ...rows.length > few ? [element('li', `and ${(rows.length-few).toLocaleString('en')} more, which Copy and Save CSV take too`)] : []);
  say($('chosen').textContent);
  redraw();
}
function select(wanted, add) {
  if (!add) selected.clear();
  for (let i = 0; i < n; i++) if (shown[i] && wanted(across(i), down(i))) selected.add(i);
  changed();
}
function inside(path, x, y) {
  let is = false;
  for (let a = 0, b = path.length-1; a < path.length; b = a++) {
    const [xa, ya] = path[a], [xb, yb] = path[b];
    if (ya > y !== yb > y && x < (xb-xa)*(y-ya)/(yb-ya)+xa) is = !is;
  }
  return is;
}
const selectView = add => select((x, y) => x >= 0 && y >= 0 && x <= view.w && y <= view.h, add);
function table(separator, quote) {
  const head = ['file', 'start', 'end', ...data.columns.map(c => c.name)];
  const rows = [...selected].sort((a, b) => a-b).map(i => [fileOf(i), data.start[i] ?? '', data.end[i] ?? '', ...data.columns.map(c => inWords(c, c.values[i]))]);
  return [head, ...rows].map(r => r.map(quote).join(separator)).join('\n')+'\n';
}
// a spreadsheet would take a text that begins so for a formula
const plain = v => typeof v === 'string' && /^[=+\-@\t\r\n＝＋－＠]/.test(v) && isNaN(v) ? `'${v}` : String(v);
async function copy() {
  const text = table('\t', v => plain(v).replace(/[\t\r\n]+/g, ' '));
  try { await navigator.clipboard.writeText(text) }
  catch (e) { // some browsers give no clipboard to files on a disk
    const area = element('textarea', text);
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
  say(`${selected.size} rows copied`);
  $('copy').textContent = 'Copied';
  setTimeout(() => $('copy').textContent = 'Copy', 1500);
}
function save() {
  const text = table(',', v => `"${plain(v).replaceAll('"', '""')}"`);
  const link = element('a', '', {href: URL.createObjectURL(new Blob([text], {type: 'text/csv'})), download: 'sounds.csv'});
  link.click();
  URL.revokeObjectURL(link.href);
}

// the legend

function mark(g) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg'), path = document.createElementNS(svg.namespaceURI, 'path');
  svg.setAttribute('viewBox', '-6 -6 12 12');
  svg.setAttribute('aria-hidden', 'true');
  path.setAttribute('d', ['M5 0A5 5 0 1 1-5 0A5 5 0 1 1 5 0', 'M-4-4H4V4H-4Z', 'M0-5.5L5.5 4H-5.5Z', 'M0-6L6 0L0 6L-6 0Z'][g.shape]);
  path.setAttribute('fill', g.colour);
  svg.append(path);
  return svg;
}
function legend() {
  const c = data.columns[column], box = $('legend');
  if (!c) return box.replaceChildren(element('span', 'One colour: the table has no other columns', {className: 'soft'}));
  if (c.kind === 'names') {
    const count = c.names.map(() => 0);
    for (const v of c.values) if (v >= 0) count[v]++;
    return box.replaceChildren(...c.names.map((name, v) => {
      const button = element('button', '');
      button.append(mark(look(c, v)), `${name || 'none'} (${count[v].toLocaleString('en')})`);
      button.setAttribute('aria-pressed', !off.has(v));
      button.onclick = () => { if (!off.delete(v)) off.add(v); readTheme(); box.children[v].focus() };
      return button;
    }));
  }
  const {colours, ends: said} = scaleOf(c), bar = element('div', '', {id: 'ramp'}), ends = element('div', '', {className: 'ends'});
  bar.style.background = `linear-gradient(to right, ${colours})`;
  ends.append(...said.map(text => element('span', text)));
  const whole = element('div', '');
  whole.style.width = '100%';
  whole.append(bar, ends);
  box.replaceChildren(whole);
}

// pointer: one moves the map or draws a lasso, two zoom

const fingers = new Map();
let begun = null;
const place = e => { const box = canvas.getBoundingClientRect(); return [e.clientX-box.left, e.clientY-box.top] };
function nearest(x, y, within) {
  let best = -1, least = within*within;
  for (let i = 0; i < n; i++) {
    if (!shown[i]) continue;
    const dx = across(i)-x, dy = down(i)-y, d = dx*dx+dy*dy;
    if (d <= least) { least = d; best = i }
  }
  return best;
}
function hover(x, y, i = nearest(x, y, 12)) {
  const tip = $('tip');
  tip.hidden = i < 0;
  if (i < 0) return;
  if (tip.dataset.row !== String(i)) {
    const shape = picture(i);
    tip.replaceChildren(...shape ? [shape] : [], ...facts(i).slice(0, 6).map(([name, value]) => element('div', name === 'file' ? value : `${name}: ${value}`)));
    tip.dataset.row = i;
  }
  tip.style.left = `${x+tip.offsetWidth+24 > view.w ? Math.max(0, x-tip.offsetWidth-16) : x+16}px`;
  tip.style.top = `${Math.max(0, Math.min(y+12, view.h-tip.offsetHeight-4))}px`;
}
canvas.addEventListener('pointerdown', e => {
  canvas.setPointerCapture(e.pointerId);
  fingers.set(e.pointerId, place(e));
  $('tip').hidden = true;
  if (fingers.size > 1) { lasso = null; begun = null; return }
  begun = {at: place(e), last: place(e), moved: false, add: e.shiftKey, draws: mode === 'lasso' || e.shiftKey};
});
canvas.addEventListener('pointermove', e => {
  const [x, y] = place(e);
  if (!fingers.has(e.pointerId)) { if (e.pointerType === 'mouse') hover(x, y); return }
  if (fingers.size > 1) {
    const [a, b] = [...fingers.values()], wide = Math.hypot(a[0]-b[0], a[1]-b[1]);
    fingers.set(e.pointerId, [x, y]);
    const [c, d] = [...fingers.values()];
    zoom(Math.hypot(c[0]-d[0], c[1]-d[1])/(wide || 1), (c[0]+d[0])/2, (c[1]+d[1])/2);
    return;
  }
  fingers.set(e.pointerId, [x, y]);
  if (!begun) return;
  if (!begun.moved && Math.hypot(x-begun.at[0], y-begun.at[1]) < 5) return;
  begun.moved = true;
  if (begun.draws) (lasso ??= [begun.at]).push([x, y]);
  else { view.x -= (x-begun.last[0])/view.k; view.y += (y-begun.last[1])/view.k }
  begun.last = [x, y];
  redraw();
});
function lift(e) {
  fingers.delete(e.pointerId);
  if (!begun || fingers.size) return;
  const done = begun, path = lasso;
  begun = lasso = null;
  if (e.type === 'pointercancel') return redraw();
  if (path) return select((x, y) => inside(path, x, y), done.add);
  if (done.moved) return;
  const i = nearest(...done.at, e.pointerType === 'mouse' ? 12 : 22);
  if (i < 0) return;
  const same = i === current && playing;
  choosePoint(i);
  if (!same) hear();
  if (e.pointerType !== 'mouse') hover(...done.at, i); // on a phone the card is further down
}
canvas.addEventListener('pointerup', lift);
canvas.addEventListener('pointercancel', lift);
canvas.addEventListener('pointerleave', e => { if (e.pointerType === 'mouse') $('tip').hidden = true });
canvas.addEventListener('wheel', e => { e.preventDefault(); zoom(Math.exp(-e.deltaY*(e.deltaMode ? .05 : .0015)), ...place(e)) }, {passive: false});

// keys

function step(dx, dy) {
  if (current < 0 || !shown[current]) { const i = nearest(view.w/2, view.h/2, 1e9); if (i >= 0) choosePoint(i, true); return }
  const x = across(current), y = down(current);
  let best = -1, least = Infinity;
  for (let i = 0; i < n; i++) {
    if (!shown[i] || i === current) continue;
    const along = (across(i)-x)*dx+(down(i)-y)*dy, aside = Math.abs((across(i)-x)*dy)+Math.abs((down(i)-y)*dx);
    if (along > 0 && aside <= along && along+2*aside < least) { least = along+2*aside; best = i }
  }
  if (best < 0) return;
  choosePoint(best, true);
  const beyond = (v, most) => v < 20 ? v-20 : v > most-20 ? v-most+20 : 0;
  view.x += beyond(across(best), view.w)/view.k;
  view.y -= beyond(down(best), view.h)/view.k;
}
function setMode(to) {
  mode = to;
  $('pan').setAttribute('aria-pressed', to === 'pan');
  $('lasso').setAttribute('aria-pressed', to === 'lasso');
  canvas.classList.toggle('lasso', to === 'lasso');
}
const clear = () => { selected.clear(); changed() };
const keys = {
  ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0), ArrowUp: () => step(0, -1), ArrowDown: () => step(0, 1),
  Enter: hear, ' ': hear, x: toggle, a: () => selectView(true), '+': () => zoom(1.4), '=': () => zoom(1.4), '-': () => zoom(1/1.4), 0: fit,
  l: () => setMode(mode === 'pan' ? 'lasso' : 'pan'), Escape: clear,
};
canvas.addEventListener('keydown', e => {
  const act = keys[e.key] || keys[e.key.toLowerCase()];
  if (!act || e.ctrlKey || e.metaKey || e.altKey) return;
  e.preventDefault();
  act();
});

// buttons

const buttons = {pan: () => setMode('pan'), lasso: () => setMode('lasso'), in: () => zoom(1.4), out: () => zoom(1/1.4), fit, copy, save, clear,
  view: () => selectView(true),
  theme: () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === 'dark';
    document.documentElement.dataset.theme = dark ? 'light' : 'dark';
    readTheme();
  }};
for (const [id, act] of Object.entries(buttons)) $(id).onclick = act;
$('colour').replaceChildren(...data.columns.map((c, i) => element('option', c.name, {value: i})), ...data.columns.length ? [] : [element('option', 'all alike')]);
$('colour').onchange = e => { column = Number(e.target.value); off.clear(); readTheme() };
$('find').oninput = e => { needle = e.target.value.trim().toLowerCase(); regroup(); redraw(); say(`${shown.reduce((a, b) => a+b, 0)} sounds shown`) };
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', readTheme);
new ResizeObserver(redraw).observe(canvas);
column = Math.max(0, data.columns.findIndex(c => c.name === data.colour));
$('colour').value = data.columns.length ? column : $('colour').value;
window.soundMap = {place: i => [across(i), down(i)], count: n}; // for scripts that drive this page
readTheme();
fit();
})();

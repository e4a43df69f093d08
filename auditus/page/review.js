'use strict';
(() => {
const $ = id => document.getElementById(id);
const ahead = 6; // clips that are ready before they are asked for
const words = {yes: true, no: false, unsure: null};
const nameOf = value => value === null ? 'unsure' : value ? 'yes' : 'no';

let state = null, label = null, by = null, current = null;
let queue = [], past = [], skipped = new Set(), filling = false, round = 0, exhausted = false, offline = '', unfilled = '';
let outbox = [], sending = false, polling = false;

// talking to the program

async function ask(path, body) {
  // the header is one that no other page can send here
  const r = await fetch(path, body === undefined ? {} : {
    method: 'POST', body: JSON.stringify(body), headers: {'Content-Type': 'application/json', 'X-Auditus-Review': '1'}});
  if (r.ok) return r.json();
  const e = new Error((await r.text()).slice(0, 500));
  e.status = r.status;
  throw e;
}
function trouble(text) {
  $('trouble').textContent = text;
  $('trouble').hidden = !text;
}
const wait = ms => new Promise(f => setTimeout(f, ms));

// clips, which are fetched before they are shown

async function prepare(card) {
  try {
    const told = await ask(`card/${card.row}`);
    Object.assign(card, told);
    if (told.error) return card;
    const sound = await fetch(`sound/${card.row}`);
    if (!sound.ok) throw new Error(await sound.text());
    card.wave = await sound.arrayBuffer();
    card.img = new Image();
    card.img.alt = `Spectrogram of ${card.file}`;
    card.img.src = told.picture;
    await card.img.decode();
    tune(card);
  } catch (e) {
    if (e instanceof TypeError) return wait(500).then(() => card.dropped ? card : prepare(card)); // no answer
    card.error = String(e.message || e);
  }
  card.ready = true;
  return card;
}
function tune(card) {
  // slower is the same samples at a lower rate, so that all of what is too high comes down
  const slow = Number($('speed').value), wave = card.wave.slice(0), view = new DataView(wave), sr = Math.round(view.getUint32(24, true)/slow);
  view.setUint32(24, sr, true);
  view.setUint32(28, 2*sr, true);
  release(card);
  card.audio = new Audio(URL.createObjectURL(new Blob([wave], {type: 'audio/wav'})));
  card.audio.preload = 'auto';
}
function release(card) { // it may still be loading
  if (!card.audio) return;
  const link = card.audio.src;
  card.audio.pause();
  card.audio.removeAttribute('src');
  card.audio.load();
  URL.revokeObjectURL(link);
}
function drop(card) {
  card.dropped = true;
  release(card);
}
// rows that must not come (again): what is shown, was just judged or is on its way, was skipped
function busyRows() {
  const said = [...past.filter(p => p.card.label === label).map(p => p.card.row),
    ...outbox.filter(o => o.path === 'judge' && o.body.label === label).map(o => o.body.row)];
  return new Set([...(current ? [current.row] : []), ...said, ...skipped]);
}
const heldRows = () => [...new Set([...queue.map(c => c.row), ...busyRows()])];

async function fill() {
  if (filling || label === null || exhausted || queue.length >= ahead) return;
  filling = true;
  const mine = round;
  try {
    let {cards} = await ask('cards', {label, by, n: ahead-queue.length, held: heldRows()});
    if (mine !== round) return;
    if (!cards.length && skipped.size && !queue.length) { // what was skipped comes again
      skipped.clear();
      ({cards} = await ask('cards', {label, by, n: ahead, held: heldRows()}));
      if (mine !== round) return;
    }
    exhausted = !cards.length;
    const known = new Set(heldRows());
    cards.filter(c => !known.has(c.row)).forEach(prepareInQueue);
    if (unfilled) trouble(offline); // what else was said stays until it was read
    unfilled = '';
    if (!current) next();
  } catch (e) {
    if (mine !== round) return;
    if (e.status) { exhausted = true; trouble(unfilled = e.message); if (!current) next() }
    else setTimeout(fill, 1000);
  } finally { filling = false; if (mine !== round) fill() }
}
function prepareInQueue(card) {
  queue.push(card);
  prepare(card).then(c => { c.ready = true; if (c === current) draw() });
}
// after it has learnt, or another class was chosen; the clip that is shown stays where it can
function renew(keep) {
  round++;
  exhausted = false;
  queue.forEach(drop);
  queue = [];
  if (!keep) { if (current) drop(current); current = null; skipped.clear(); draw() }
  fill();
}
// new clips take the place of the old ones once they can be shown
async function exchange() {
  const mine = round;
  let cards;
  try { ({cards} = await ask('cards', {label, by, n: ahead, held: [...busyRows()]})) }
  catch (e) { return }
  if (mine !== round) return;
  const known = new Map(queue.map(c => [c.row, c]));
  await Promise.all(cards.map(c => known.has(c.row) ? 0 : prepare(c)));
  if (mine !== round) return;
  const gone = busyRows();
  round++;
  const fresh = cards.map(c => known.get(c.row) || c).filter(c => !gone.has(c.row) && (c.ready || !c.dropped));
  queue.filter(c => !fresh.includes(c)).forEach(drop);
  queue = fresh;
  exhausted = false;
  if (!current) next(); else fill();
}

// a file, or why there is none
async function download(from) {
  try {
    const r = await fetch(from);
    if (!r.ok) return trouble(await r.text());
    const a = document.createElement('a');
    a.href = URL.createObjectURL(await r.blob());
    a.download = (r.headers.get('content-disposition') || '').replace(/.*filename="?([^"]*)"?.*/, '$1') || 'found';
    a.click();
    trouble(offline);
    setTimeout(() => URL.revokeObjectURL(a.href), 60000);
  } catch (e) { trouble(e.message) }
}

// the clip that is shown

function next() {
  stop();
  current = queue.shift() || null;
  draw();
  fill();
}
const seconds = s => `${s.toFixed(2)} s`;
function draw() {
  const c = current, shown = $('picture');
  document.body.dataset.row = c && c.ready ? c.row : '';
  $('hz').replaceChildren();
  $('at').hidden = true;
  if (!c) {
    shown.replaceChildren();
    $('facts').textContent = label === null ? 'Name the class that you look for, above.' : exhausted ? 'There is nothing left to judge here: choose another way to show clips, or another class.' : 'Loading…';
    return;
  }
  const until = c.end === null ? 'its end' : seconds(c.end);
  $('facts').textContent = `${c.file}, ${seconds(c.start)} to ${until}`
    + (c.channel == null ? '' : `, channel ${c.channel}`)
    + (c.score == null ? '' : `, score ${c.score.toFixed(2)}`) + (c.cut ? ` (only the first ${c.cut} s are shown and heard)` : '')
    + (c.was !== undefined ? `: was ${c.was}` : '');
  if (c.error) { const p = document.createElement('p'); p.textContent = c.error; shown.replaceChildren(p); return }
  if (!c.ready) { const p = document.createElement('p'); p.textContent = 'Loading…'; shown.replaceChildren(p); return }
  shown.replaceChildren(c.img);
  for (const [hz, share] of c.hz) {
    const tick = document.createElement('span');
    tick.textContent = `${hz/1000}${hz === c.hz[c.hz.length-1][0] ? ' kHz' : ''}`;
    tick.style.bottom = `${100*share}%`;
    $('hz').append(tick);
  }
  if ($('auto').checked) play();
}
function stop() {
  if (current && current.audio) { current.audio.pause(); current.audio.currentTime = 0 }
  $('at').hidden = true;
}
function play() {
  const a = current && current.audio;
  if (!a) return;
  if (!a.paused) return stop();
  a.currentTime = 0;
  a.onended = () => { $('at').hidden = true };
  a.play().then(() => requestAnimationFrame(follow), () => { $('facts').textContent += ': press Space to hear it' });
}
function follow() {
  const a = current && current.audio, pic = $('picture');
  if (!a || a.paused) return;
  $('at').hidden = false;
  $('at').style.left = `${pic.offsetLeft+pic.offsetWidth*a.currentTime/a.duration}px`;
  requestAnimationFrame(follow);
}

// judging: what was said is kept here until the program has it on its disk

function keep() { sessionStorage.setItem(`outbox ${state.key}`, JSON.stringify(outbox)) }
function post(path, body, value) {
  outbox.push({path, body: {...body, key: state.key}, value, tries: 0});
  keep();
  send();
}
async function send() {
  if (sending) return;
  sending = true;
  while (outbox.length) {
    const o = outbox[0], again = o.tries++ > 0;
    keep();
    sayUnsaved();
    try {
      take(await ask(o.path, {...o.body, again}));
      outbox.shift();
      if (offline) trouble('');
      offline = '';
    } catch (e) {
      if (e.status && e.status < 500 && e.status !== 409) {
        outbox.shift();
        offline = '';
        trouble(`${e.message} (this was not kept: ${o.body.label}, ${o.path})`);
      } else {
        offline = e.status ? e.message : 'The program does not answer. What you judge is kept here, and sent once it is back.';
        trouble(offline);
        await wait(Math.min(2000, 250*o.tries));
      }
    }
    keep();
  }
  sending = false;
  sayUnsaved();
  fill();
}
function sayUnsaved() { $('saved').textContent = outbox.length ? `${outbox.length} not saved yet` : 'All saved.' }

function judge(value) {
  if (!current || !(current.ready || current.error)) return;
  if (current.error && value !== null) return void ($('facts').textContent = 'This clip can not be heard: skip it, or say unsure.');
  const card = current;
  card.label = label;
  card.was = nameOf(value);
  past.push({card, value});
  while (past.length > 50) drop(past.shift().card);
  state.labels.find(l => l.name === label)[nameOf(value)]++;
  next();
  post('judge', {row: card.row, label, value}, value);
  counts();
}
function skip() {
  if (!current) return;
  skipped.add(current.row);
  past.push({card: Object.assign(current, {label})});
  next();
}
async function undo() {
  const last = past.pop();
  if (!last) {
    if (outbox.length) return;
    try {
      const told = await ask('undo', {key: state.key});
      take(told);
      if (told.undone) back({...told.undone, was: nameOf(told.undone.value)});
    } catch (e) { trouble(e.message) }
    return;
  }
  const {card, value} = last;
  if (value === undefined) skipped.delete(card.row);
  else {
    state.labels.find(l => l.name === card.label)[nameOf(value)]--;
    post('undo', {row: card.row, label: card.label}, value);
  }
  back(card);
  counts();
}
function back(card) {
  if (card.label !== label) { choose(card.label, true); current = null }
  else if (current) { stop(); queue.unshift(current) }
  exhausted = false;
  current = card;
  if (!card.ready) prepare(card).then(c => { c.ready = true; if (c === current) draw() });
  draw();
  fill();
}

// beside the clip

function take(told) { // news of the program
  if (!told.labels) return;
  const started = state && told.started !== state.started, learnt = state && told.fits !== state.fits && told.fits > 0;
  state = told;
  // what is on its way counts as well
  for (const o of outbox.slice(o0())) {
    const c = state.labels.find(l => l.name === o.body.label);
    if (c) c[nameOf(o.value)] += o.path === 'judge' ? 1 : -1;
  }
  options();
  counts();
  if (label !== null && (learnt || started)) exchange();
  if (state.busy) poll();
}
const o0 = () => sending ? 1 : 0; // the first is the one that was answered
async function poll() {
  if (polling) return;
  polling = true;
  while (state.busy) {
    await wait(400);
    try { if (!outbox.length) take(await ask('state')); } catch (e) { await wait(1000) }
  }
  polling = false;
}
function options() {
  const names = state.labels.map(l => l.name), shown = [...$('label').options].map(o => o.value);
  $('name').placeholder = names.length ? 'another class' : 'what you look for';
  if (names.join('\n') !== shown.join('\n')) {
    $('label').replaceChildren(...names.map((n, i) => new Option(i < 9 ? `${i+1}: ${n}` : n, n)));
    if (label !== null) $('label').value = label;
  }
  if (!$('by').options.length) $('by').replaceChildren(...state.strategies.map(s => new Option(s.words, s.name)));
  if (!$('precision').options.length) $('precision').replaceChildren(...state.precisions.map(p => new Option(`${Math.round(1000*p)/10} %`, p)));
  if (document.activeElement !== $('precision')) $('precision').value = state.precision;
  if (!$('exports').childElementCount) $('exports').replaceChildren(...state.exports.map(e => {
    const a = document.createElement('a');
    a.href = `export/${e.name}`;
    a.textContent = e.words;
    a.setAttribute('download', '');
    a.addEventListener('click', event => { event.preventDefault(); download(a.href) });
    return a;
  }));
}
// strategies by the names that they have on this page
const plain = text => text.replace(/(?:by=)?'(\w+)'/g, (all, name) => {
  const s = state.strategies.find(s => s.name === name);
  return s ? `“${s.words}”` : all;
});
function counts() {
  const c = state.labels.find(l => l.name === label);
  const n = c ? c.yes+c.no+c.unsure : 0;
  offer(c);
  $('counts').textContent = c ? `${n} of ${state.rows.toLocaleString('en')}: ${c.yes} yes, ${c.no} no, ${c.unsure} unsure`
    + (c.examples ? `; ${c.examples} examples` : '') : '';
  for (const k of Object.keys(words)) $('shares').querySelector(`.${k}`).style.width = n ? `${100*c[k]/n}%` : 0;
  $('advice').textContent = state.fitting ? 'Learning…' : state.trouble || (c && plain(c.advice)) || '';
  $('numbers').replaceChildren(...(c && c.numbers || []).map(text => {
    const line = document.createElement('li');
    line.textContent = plain(text);
    return line;
  }));
  $('fit').disabled = state.fitting || !c;
  $('score').disabled = state.fitting || Boolean(state.scoring) || !c;
  $('scoring').hidden = !state.scoring;
  if (state.scoring) {
    $('bar').value = state.scoring.done/Math.max(1, state.scoring.of);
    $('done').textContent = state.scoring.words;
  }
  $('found').textContent = plain(state.found || '');
  curve(c ? c.curve : []);
  sayUnsaved();
}
function curve(points) {
  const box = $('curve');
  if (!points || points.length < 2) { box.replaceChildren(); return }
  const ns = 'http://www.w3.org/2000/svg', make = (tag, more, text) => {
    const e = document.createElementNS(ns, tag);
    for (const [k, v] of Object.entries(more)) e.setAttribute(k, v);
    if (text !== undefined) e.textContent = text;
    return e;
  };
  const most = points[points.length-1][0], x = n => 34+240*n/most, y = v => 100-90*v;
  const said = `Average precision after ${points.map(([n, v]) => `${n} judgements: ${v.toFixed(2)}`).join(', ')}`;
  const svg = make('svg', {viewBox: '0 0 290 122', role: 'img', 'aria-label': said});
  for (const v of [0, .5, 1]) {
    svg.append(make('line', {x1: 34, x2: 274, y1: y(v), y2: y(v), stroke: 'var(--line)'}), make('text', {x: 28, y: y(v)+4, 'text-anchor': 'end'}, String(v)));
  }
  svg.append(make('polyline', {points: points.map(([n, v]) => `${x(n)},${y(v)}`).join(' '), fill: 'none', stroke: 'var(--accent)', 'stroke-width': 2}));
  for (const [n, v] of points) svg.append(make('circle', {cx: x(n), cy: y(v), r: 3, fill: 'var(--accent)'}));
  svg.append(make('text', {x: 34, y: 116}, 'judgements'), make('text', {x: 274, y: 116, 'text-anchor': 'end'}, String(most)));
  box.replaceChildren(svg);
}
function offer(c) { for (const o of $('by').options) o.disabled = Boolean(c) && !c.ways.includes(o.value) }
function choose(name, kept) {
  label = name;
  $('label').value = name;
  const c = state.labels.find(l => l.name === name);
  by = c && !c.ways.includes(by || '') ? c.ways[0] : by;
  offer(c);
  $('by').value = by;
  renew(kept);
  counts();
}

// keys and buttons

const actions = {
  y: () => judge(true), n: () => judge(false), u: () => judge(null), ' ': play, ArrowRight: skip, z: undo, Backspace: undo,
  a: () => { $('auto').checked = !$('auto').checked }, l: learn, '?': () => { $('help').open = !$('help').open },
  s: () => { $('speed').selectedIndex = ($('speed').selectedIndex+1) % $('speed').options.length; speed() },
};
document.addEventListener('keydown', e => {
  if (e.ctrlKey || e.altKey || e.metaKey) return;
  const on = e.target, typing = on.matches('input:not([type=checkbox]), select, textarea');
  if (typing || (e.key === ' ' && on.matches('button, input, summary, a'))) return;
  const key = e.key.length === 1 ? e.key.toLowerCase() : e.key;
  if (!$('letters').checked && /^[a-z0-9?]$/.test(key)) return;
  const act = actions[key] || (/^[1-9]$/.test(key) && state && state.labels[key-1] && (() => choose(state.labels[key-1].name, false)));
  if (!act) return;
  e.preventDefault();
  if (!e.repeat) act(); // a key that is held down says it once
});
function click(id, act) {
  $(id).addEventListener('click', e => {
    act();
    if (e.detail) $('card').focus({preventScroll: true}); // of a pointer: the space bar is to play, not to judge again
  });
}
function learn() { ask('fit', {}).then(take, e => trouble(e.message)) }
function speed() { for (const c of [current, ...queue, ...past.map(p => p.card)]) if (c && c.wave && !c.dropped) tune(c) }
for (const id of Object.keys(words)) click(id, () => judge(words[id]));
click('play', play);
click('skip', skip);
click('undo', undo);
click('fit', learn);
click('score', () => ask('score', {}).then(take, e => trouble(e.message)));
$('speed').addEventListener('change', () => { speed(); $('card').focus() });
$('label').addEventListener('change', () => { choose($('label').value, false); $('card').focus() });
$('precision').addEventListener('change', () => {
  ask('precision', {value: Number($('precision').value)}).then(take, x => trouble(x.message));
  $('card').focus();
});
$('by').addEventListener('change', () => { by = $('by').value; trouble(''); renew(false); $('card').focus() });
$('adding').addEventListener('submit', e => {
  e.preventDefault();
  const name = $('name').value.trim();
  if (!name) return;
  ask('label', {name}).then(told => { take(told); $('name').value = ''; choose(name, false); $('card').focus() }, x => trouble(x.message));
});
addEventListener('beforeunload', e => { if (outbox.length) e.preventDefault() });

(async function start() {
  for (;;) {
    try { take(await ask('state')); break } catch (e) { trouble(e.message); await wait(1000) }
  }
  trouble('');
  outbox = JSON.parse(sessionStorage.getItem(`outbox ${state.key}`) || '[]');
  send();
  if (state.labels.length) choose(state.labels[0].name, false); else { counts(); draw(); $('name').focus() }
})();
})();


// What the server says, shown as it changes. All of it is text of others: it is put into text
// nodes and never read as markup.
'use strict';

const SHOWN_MAX = 500;
const WATCHES_MAX = 200;
const TICK_MS = 2000;
const SERVICES_EVERY_MS = { live: 60000, polling: 6000 };
const WATCHES_EVERY_MS = 6000;
const STREAM_AGAIN_MS = 30000;
const TIMEOUT_MS = 10000;
const METRICS = ['dns_requests_total', 'dns_responses_total', 'dns_request_duration_seconds',
  'propagation_seconds', 'build_info'];
const HEALTHS = ['passing', 'warning', 'unknown', 'critical'];

const at = (id) => document.getElementById(id);
const numbers = new Intl.NumberFormat('en');

const seen = {
  // By datacenter and name, with the text that the filter looks in.
  services: new Map(), sorted: null, rows: new Map(),
  datacenters: [], watches: [], ready: null, since: new Map(),
  lostAt: null, counts: null, source: null, isLive: false, servicesAt: 0, watchesAt: 0,
  // Events that came while the list was being read; `null` while it is not.
  meanwhile: null,
};

// An element of `name` with `children`, which are elements or text.
function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Text of the catalogue: its own direction stays its own.
const foreign = (text) => element('bdi', {}, text);

async function ask(path) {
  const reply = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) });
  return { status: reply.status, text: await reply.text() };
}

async function askJson(path) {
  const { status, text } = await ask(path);
  if (status !== 200) throw new Error(`${path}: ${status}`);
  return JSON.parse(text);
}

// ---- the state, in words

const clock = (ms) => new Date(ms).toLocaleTimeString();

// When something began that is `secs` old. It is one time, though each look may round it otherwise.
function since(key, secs) {
  const began = Date.now() - secs * 1000;
  const known = seen.since.get(key);
  if (known === undefined || Math.abs(known - began) > 5000) seen.since.set(key, began);
  return clock(seen.since.get(key));
}

function problems() {
  const found = [];
  if (seen.lostAt !== null) {
    found.push(['bad', `No connection to the server since ${clock(seen.lostAt)}. What is shown here is of that time.`]);
  }
  for (const { name, old_secs: old } of seen.datacenters) {
    if (old === null) seen.since.delete(name);
    else {
      found.push(['bad', `Stale: Consul has not been heard of ${name} since ${since(name, old)}. The last good answers are given.`]);
    }
  }
  const { status, lines } = seen.ready || { status: 200, lines: [] };
  for (const line of lines) {
    if (status !== 200) found.push(['bad', `Not ready: ${line}`]);
    else if (line !== 'ready' && !/^[^ ]+: services \d+, nodes \d+/.test(line)) found.push(['warn', line]);
  }
  const failing = seen.watches.filter((watch) => watch.failures > 0).length;
  if (failing > 0) found.push(['warn', `${failing} of ${seen.watches.length} watches fail, see below.`]);
  return found;
}

function showState() {
  if (seen.ready === null && seen.lostAt === null) return;
  const found = problems();
  if (found.length === 0) found.push(['good', 'Ready, and nothing is stale.']);
  const text = JSON.stringify(found);
  // A screen reader says it when it changes, and not each time it is looked at.
  if (at('state').dataset.text === text) return;
  at('state').dataset.text = text;
  at('state').replaceChildren(...found.map(([kind, words]) => element('p', { class: kind }, words)));
  document.title = found[0][0] === 'bad' ? '(!) fingerpost' : 'fingerpost';
}

function showLive() {
  const how = seen.isLive ? 'live' : `every ${SERVICES_EVERY_MS.polling / 1000} s`;
  at('live').textContent = seen.lostAt === null ? how : 'no connection';
}

// ---- datacenters and watches

function showDatacenters() {
  const count = (value) => (value === null ? 'unknown' : numbers.format(value));
  at('datacenters').replaceChildren(...seen.datacenters.map((dc) => {
    let heard = 'up to date';
    if (dc.old_secs !== null) heard = `stale since ${since(dc.name, dc.old_secs)}`;
    else if (dc.services === null) heard = 'not asked about yet';
    const name = element('th', { scope: 'row' }, foreign(dc.name), dc.is_local ? ' (local)' : '');
    const row = element('tr', dc.old_secs === null ? {} : { class: 'failing' }, name);
    row.append(...[count(dc.services), count(dc.nodes), heard].map((text) => element('td', {}, text)));
    return row;
  }));
  document.body.classList.toggle('one-datacenter', seen.datacenters.length < 2);
}

function age(secs) {
  if (secs === null) return 'never';
  if (secs < 120) return `${Math.round(secs)} s ago`;
  if (secs < 7200) return `${Math.round(secs / 60)} min ago`;
  return `${Math.round(secs / 3600)} h ago`;
}

function showWatches() {
  const failing = seen.watches.filter((watch) => watch.failures > 0);
  const all = failing.concat(seen.watches.filter((watch) => watch.failures === 0));
  const shown = all.slice(0, WATCHES_MAX);
  at('watch-count').textContent = all.length === 0
    ? 'There are none: the catalogue comes from elsewhere, or Consul has not been asked yet.'
    : `${numbers.format(all.length)}, ${failing.length} failing`
      + (shown.length < all.length ? `; the first ${shown.length} are shown` : '');
  at('watches').closest('table').hidden = all.length === 0;
  at('watches').replaceChildren(...shown.map((watch) => {
    const what = watch.name === null ? watch.what : `${watch.what} of `;
    const name = element('th', { scope: 'row' }, what, ...(watch.name === null ? [] : [foreign(watch.name)]),
      ' in ', foreign(watch.datacenter));
    if (watch.failures > 0) {
      name.append(element('div', {}, `${watch.failures} times in a row: ${watch.error}`));
    }
    if (watch.is_filtered) name.append(element('div', {}, 'Consul hides a part from the token'));
    const index = watch.index === null ? '–' : String(watch.index);
    const row = element('tr', watch.failures > 0 ? { class: 'failing' } : {}, name);
    row.append(...[index, age(watch.heard_secs_ago), age(watch.changed_secs_ago)]
      .map((text) => element('td', {}, text)));
    return row;
  }));
}

// ---- services

const keyOf = (datacenter, name) => JSON.stringify([datacenter, name.toLowerCase()]);

function put(service) {
  const key = keyOf(service.datacenter, service.name);
  const known = seen.services.get(key);
  const tags = service.tags || (known && known.tags) || [];
  const { datacenter, name, health } = service;
  const old = service.old_secs === undefined ? (known ? known.isOld : false) : service.old_secs !== null;
  if (known === undefined) seen.sorted = null;
  const text = [name, datacenter, ...tags].join(' ').toLowerCase();
  const next = { key, datacenter, name, tags, health, isOld: old, text };
  // One that is as it was keeps its row.
  if (JSON.stringify(next) !== JSON.stringify(known)) seen.services.set(key, next);
}

function drop(datacenter, name) {
  if (seen.services.delete(keyOf(datacenter, name))) seen.sorted = null;
}

function sortedServices() {
  if (seen.sorted === null) {
    const byName = (a, b) => (a === b ? 0 : a < b ? -1 : 1);
    seen.sorted = [...seen.services.keys()].sort((a, b) => {
      const [one, other] = [seen.services.get(a), seen.services.get(b)];
      return byName(one.name, other.name) || byName(one.datacenter, other.datacenter);
    });
  }
  return seen.sorted;
}

// Unknown is not passing.
const isSick = ({ health }) => health === null || health.passing === 0
  || HEALTHS.some((kind) => kind !== 'passing' && health[kind] > 0);

function inWords(health) {
  if (health === null) return 'unknown: not in memory';
  const parts = HEALTHS.filter((kind) => health[kind] > 0).map((kind) => {
    const word = kind === 'unknown' ? 'of unknown status' : kind;
    return `${numbers.format(health[kind])} ${word}`;
  });
  return parts.length === 0 ? 'no instances' : parts.join(', ');
}

function bar(health) {
  const made = element('div', { class: 'bar', 'aria-hidden': 'true' });
  if (health === null) return made;
  made.classList.add('none');
  for (const kind of HEALTHS.filter((kind) => health[kind] > 0)) {
    const part = element('span', { class: kind });
    part.style.flexGrow = health[kind];
    made.append(part);
  }
  return made;
}

function rowOf(service) {
  const known = seen.rows.get(service.key);
  if (known && known.of === service) return known.row;
  const button = element('button', { type: 'button', title: 'Explain its answer' }, foreign(service.name));
  button.dataset.key = service.key;
  const name = element('th', { scope: 'row' }, button);
  if (service.tags.length > 0) name.append(element('div', { class: 'soft' }, foreign(service.tags.join(', '))));
  const words = inWords(service.health) + (service.isOld ? ', may be old' : '');
  const cells = [name, element('td', {}, foreign(service.datacenter)), element('td', {}, words, bar(service.health))];
  let row = known && known.row;
  if (row) row.replaceChildren(...cells);
  else row = element('tr', {}, ...cells);
  seen.rows.set(service.key, { of: service, row });
  return row;
}

function showServices() {
  const words = at('filter').value.toLowerCase().split(/\s+/).filter((word) => word !== '');
  const onlySick = at('sick').checked;
  let matching = 0;
  const shown = [];
  for (const key of sortedServices()) {
    const service = seen.services.get(key);
    if (!words.every((word) => service.text.includes(word)) || (onlySick && !isSick(service))) continue;
    matching += 1;
    if (shown.length < SHOWN_MAX) shown.push(service);
  }
  // The focus stays where it was, as far as that is there still.
  const focused = document.activeElement.dataset.key;
  const rows = shown.map(rowOf);
  const body = at('services');
  const isSame = rows.length === body.rows.length && rows.every((row, index) => row === body.rows[index]);
  if (!isSame) body.replaceChildren(...rows);
  const again = focused && seen.rows.get(focused);
  if (again && document.activeElement.dataset.key !== focused && again.row.isConnected) {
    again.row.querySelector('button').focus({ preventScroll: true });
  }
  if (seen.rows.size > 2 * SHOWN_MAX) {
    const keys = new Set(shown.map((service) => service.key));
    for (const key of seen.rows.keys()) if (!keys.has(key)) seen.rows.delete(key);
  }
  const of = `${numbers.format(matching)} of ${numbers.format(seen.services.size)} services`;
  const text = matching > shown.length ? `${of}; the first ${shown.length} are shown` : of;
  if (at('count').textContent !== text) at('count').textContent = text;
}

// Many changes that come together are shown once.
let isDue = false;
function showSoon() {
  if (isDue) return;
  isDue = true;
  setTimeout(() => { isDue = false; showServices(); }, 100);
}

async function readServices() {
  seen.servicesAt = Date.now();
  seen.meanwhile = [];
  const all = await askJson('/v1/services').catch((error) => { seen.meanwhile = null; throw error; });
  const keys = new Set();
  for (const service of all) {
    put(service);
    keys.add(keyOf(service.datacenter, service.name));
  }
  for (const [key, { datacenter, name }] of seen.services) if (!keys.has(key)) drop(datacenter, name);
  // The list may be older than they are.
  for (const [take, data] of seen.meanwhile) take(data);
  seen.meanwhile = null;
  showSoon();
}

// ---- numbers

function readMetrics(text) {
  const series = [];
  for (const line of text.split('\n')) {
    const parts = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (parts === null) continue;
    const labels = Object.fromEntries([...(parts[2] || '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)]
      .map(([, key, value]) => [key, value]));
    series.push({ name: parts[1].replace(/^fingerpost_/, ''), labels, value: Number(parts[3]) });
  }
  return series;
}

// The bound of the bucket that the quantile `q` is in.
function quantile(series, name, q) {
  const buckets = series.filter((it) => it.name === `${name}_bucket`);
  const total = buckets.length === 0 ? 0 : buckets[buckets.length - 1].value;
  if (total === 0) return null;
  const bound = Number(buckets.find((it) => it.value >= q * total).labels.le.replace('+Inf', 'Infinity'));
  if (bound === Infinity) return 'more';
  return `≤ ${bound < 0.001 ? `${bound * 1e6} µs` : bound < 1 ? `${bound * 1000} ms` : `${bound} s`}`;
}

function showMetrics(text) {
  const series = readMetrics(text);
  const sums = (name, key) => {
    const sum = new Map();
    for (const it of series.filter((it) => it.name === name)) {
      sum.set(it.labels[key] || '', (sum.get(it.labels[key] || '') || 0) + it.value);
    }
    return sum;
  };
  const now = { at: performance.now(), asked: sums('dns_requests_total'), replied: sums('dns_responses_total', 'rcode') };
  const before = seen.counts;
  seen.counts = now;
  const secs = before === null ? 0 : (now.at - before.at) / 1000;
  const rate = (kind, key) => (now[kind].get(key) - (before[kind].get(key) || 0)) / secs;
  // After a restart the counts begin anew.
  if (secs > 0 && rate('asked', '') >= 0) {
    const short = (value) => (value < 10 ? value.toFixed(1) : numbers.format(Math.round(value)));
    at('rate').textContent = short(rate('asked', ''));
    const codes = [...now.replied.keys()].filter((code) => now.replied.get(code) > 0);
    at('rcodes').textContent = codes.map((code) => `${code} ${short(Math.max(rate('replied', code), 0))}`).join('\n') || 'none yet';
  }
  for (const [id, name] of [['duration', 'dns_request_duration_seconds'], ['propagation', 'propagation_seconds']]) {
    const [half, most] = [quantile(series, name, 0.5), quantile(series, name, 0.99)];
    at(id).textContent = half === null ? 'none yet' : `p50 ${half}\np99 ${most}`;
  }
  const build = series.find((it) => it.name === 'build_info');
  if (build) at('version').textContent = build.labels.version;
}

// ---- the rounds

let isAsking = false;
async function tick() {
  if (isAsking || document.hidden) return;
  isAsking = true;
  try {
    const now = Date.now();
    const metrics = METRICS.map((name) => `name[]=fingerpost_${name}`).join('&');
    const [ready, datacenters, counts, watches] = await Promise.all([
      ask('/ready?verbose'), askJson('/v1/datacenters'), ask(`/metrics?${metrics}`),
      now - seen.watchesAt < WATCHES_EVERY_MS ? null : askJson('/v1/watches'),
    ]);
    seen.lostAt = null;
    seen.ready = { status: ready.status, lines: ready.text.split('\n').filter((line) => line !== '') };
    seen.datacenters = datacenters;
    if (watches !== null) {
      seen.watches = watches;
      seen.watchesAt = now;
      showWatches();
    }
    showDatacenters();
    showMetrics(counts.text);
    const every = seen.isLive ? SERVICES_EVERY_MS.live : SERVICES_EVERY_MS.polling;
    if (now - seen.servicesAt >= every) await readServices();
  } catch (error) {
    if (seen.lostAt === null) seen.lostAt = Date.now();
    seen.counts = null;
    seen.servicesAt = 0;
  } finally {
    isAsking = false;
    showState();
    showLive();
  }
}

// What is said at once is read again by the next round, and the list of services by this one.
function hurry() {
  seen.watchesAt = 0;
  tick();
}

const heard = {
  service: put,
  services: ({ datacenter, added, removed }) => {
    // Known names only, until an event says more of them.
    for (const name of added) put({ datacenter, name, health: null });
    for (const name of removed) drop(datacenter, name);
  },
  lagged: () => { seen.servicesAt = 0; hurry(); },
  reach: () => { seen.servicesAt = 0; hurry(); },
  datacenters: () => { seen.servicesAt = 0; hurry(); },
};
const CHANGES = ['service', 'services'];

function listen() {
  if (seen.source !== null || document.hidden) return;
  const source = new EventSource('/v1/events');
  seen.source = source;
  source.onopen = () => {
    // What was said before is not said again.
    seen.isLive = true;
    seen.servicesAt = 0;
    tick();
  };
  source.onerror = () => {
    seen.isLive = false;
    if (source.readyState === EventSource.CLOSED && seen.source === source) {
      // There was no place, most likely.
      seen.source = null;
      setTimeout(listen, STREAM_AGAIN_MS);
    }
    tick();
  };
  for (const [name, take] of Object.entries(heard)) {
    source.addEventListener(name, (event) => {
      const data = JSON.parse(event.data);
      take(data);
      if (seen.meanwhile !== null && CHANGES.includes(name)) seen.meanwhile.push([take, data]);
      showSoon();
    });
  }
}

// A page that nobody sees takes no place of another's.
function rest() {
  if (seen.source !== null) seen.source.close();
  seen.source = null;
  seen.isLive = false;
}

// ---- explanations

let asked = 0;
async function explain(name, type) {
  asked += 1;
  const turn = asked;
  const why = at('why');
  why.hidden = false;
  why.textContent = `Asking about ${name} …`;
  let text;
  try {
    const query = new URLSearchParams({ name, type, format: 'text' });
    const reply = await ask(`/v1/explain?${query}`);
    text = reply.status === 200 ? reply.text : JSON.parse(reply.text).error;
  } catch (error) {
    text = 'The server cannot be asked at present.';
  }
  if (turn === asked) why.textContent = text;
}

at('explain').addEventListener('submit', (event) => {
  event.preventDefault();
  explain(at('name').value.trim(), at('type').value);
});
at('services').addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (button === null) return;
  const { datacenter, name } = seen.services.get(button.dataset.key);
  at('name').value = `${name}.service.${datacenter}.${document.documentElement.dataset.domain}`;
  explain(at('name').value, at('type').value);
  at('why').scrollIntoView({ block: 'nearest' });
  at('why').focus({ preventScroll: true });
});
at('filter').addEventListener('input', showSoon);
at('sick').addEventListener('change', showServices);
document.addEventListener('visibilitychange', () => {
  if (document.hidden) rest();
  else { listen(); hurry(); }
});

at('name').value = `consul.service.${document.documentElement.dataset.domain}`;
listen();
tick();
setInterval(tick, TICK_MS);

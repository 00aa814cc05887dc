'use strict';
// Draws the charts of the page again, as wide as they are shown, with a cursor and a zoom. Without this script the
// page shows the same charts as they were drawn when it was made.
(() => {
  const NS = 'http://www.w3.org/2000/svg', LEFT = 54, RIGHT = 14, TOP = 20, BOTTOM = 36;
  const tip = document.getElementById('tip');
  let charts = [];
  let zoom = null;                     // [first, last] iteration; one zoom for all charts
  const switched = new Set();          // charts that somebody has switched from linear to logarithmic or back

  const el = (name, attributes, text) => {
    const node = document.createElementNS(NS, name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    return node;
  };

  // Numbers, ticks and bounds: as in axis.py.
  const trim = t => t.includes('.') ? t.replace(/0+$/, '').replace(/\.$/, '') : t;
  const significant = v => v.toPrecision(4);
  function shown(v) {
    if (!Number.isFinite(v)) return String(v);
    const size = Math.abs(v);
    if (size >= 1e15 || (size > 0 && size < 1e-4)) {
      const [mantissa, power] = v.toExponential(3).split('e');
      return trim(mantissa) + 'e' + Number(power);
    }
    for (const [unit, factor] of [['G', 1e9], ['M', 1e6], ['k', 1e3]])
      if (size >= factor && (factor > 1e3 || size >= 1e4)) return trim(significant(v / factor)) + unit;
    return trim(v.toFixed(Math.max(0, 3 - (size ? Math.floor(Math.log10(size)) : 0))));
  }
  function linearTicks(low, high, about) {
    const rough = (high - low) / Math.max(1, about), power = 10 ** Math.floor(Math.log10(rough));
    const step = ([1, 2, 5].find(m => m * power >= rough * 0.999) || 10) * power, ticks = [];
    for (let n = Math.ceil(low / step - 1e-9); n <= Math.floor(high / step + 1e-9); n++) ticks.push(n * step);
    return ticks;
  }
  function logTicks(low, high) {
    const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
    const stride = Math.max(1, Math.ceil((last - first) / 5)), ticks = [];
    for (let power = first; power <= last; power += stride)
      for (const factor of last - first <= 2 ? [1, 2, 5] : [1]) ticks.push(factor * 10 ** power);
    return ticks.filter(v => low <= v && v <= high);
  }
  function bounds(values, log, zero) {
    let low = Infinity, high = -Infinity;
    for (const v of values) if (v !== null && (v > 0 || !log)) { if (v < low) low = v; if (v > high) high = v; }
    if (low === Infinity) return log ? [0.1, 1] : [0, 1];
    if (log) { const room = high > low ? (high / low) ** 0.05 : 1.1; return [low / room, high * room]; }
    if (low === high && !(zero && low > 0)) { const room = Math.abs(low) * 0.05 || 1; return [low - room, high + room]; }
    const bottom = low >= 0 && low <= (zero ? high : 0.35 * high) ? 0 : low - 0.05 * (high - low);
    return [bottom, high + 0.05 * (high - bottom)];
  }
  const scale = (low, high, start, stop, log) => {
    const f = log ? Math.log10 : v => v;
    return v => start + (f(v) - f(low)) / (f(high) - f(low)) * (stop - start);
  };
  // First index of an ascending list whose entry is not smaller.
  function lower(list, value) {
    let a = 0, b = list.length;
    while (a < b) { const m = (a + b) >> 1; if (list[m] < value) a = m + 1; else b = m; }
    return a;
  }

  class Chart {
    constructor(figure) {
      this.figure = figure;
      this.plot = figure.querySelector('.plot');
      this.data = JSON.parse(figure.querySelector('script').textContent);
      const { lines, marks } = this.data;
      this.end = Math.max(1, ...lines.map(l => l.x.length ? l.x[l.x.length - 1] : 0), ...marks.map(m => m.x));
      this.at = null;
      this.addTools();
      this.listen();
      this.render();
    }

    addTools() {
      const tools = document.createElement('div');
      tools.className = 'tools';
      this.reset = this.button(tools, 'Reset zoom', () => setZoom(null));
      this.reset.className = 'reset';
      const known = this.data.lines.flatMap(l => l.y).filter(y => y !== null);
      // Where it makes a difference.
      if (known.length && Math.min(...known) > 0 && Math.max(...known) > 3 * Math.min(...known))
        this.toggle = this.button(tools, '', () => {
          if (!switched.delete(this.figure.id)) switched.add(this.figure.id);
          this.render();
        });
      this.figure.append(tools);
    }

    button(parent, text, action) {
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = text;
      button.addEventListener('click', action);
      parent.append(button);
      return button;
    }

    range() { return zoom || [0, this.end]; }

    render() {
      const width = Math.max(240, this.plot.clientWidth), height = this.figure.classList.contains('wide') ? 280 : 230;
      const [first, last] = this.range(), log = this.data.log !== switched.has(this.figure.id);
      const parts = this.data.lines.map(line => this.visible(line, first, last));
      const [low, high] = bounds(parts.flatMap(p => p.inside), log, this.data.zero);
      this.width = width; this.height = height;
      this.x = scale(first, last, LEFT, width - RIGHT, false);
      this.y = scale(low, high, height - BOTTOM, TOP, log);
      this.back = px => first + (px - LEFT) / (width - RIGHT - LEFT) * (last - first);
      const svg = el('svg', { viewBox: `0 0 ${width} ${height}`, height, role: 'img',
        'aria-label': this.plot.querySelector('svg').getAttribute('aria-label') });
      this.drawGrid(svg, log ? logTicks(low, high) : linearTicks(low, high, 5), linearTicks(first, last, width / 75));
      for (const mark of this.data.marks) if (mark.x >= first && mark.x <= last) this.drawMark(svg, mark);
      this.data.lines.forEach((line, i) => this.drawLine(svg, line, parts[i], log));
      for (const peak of this.data.peaks)
        if (peak.x >= first && peak.x <= last && peak.y >= low && peak.y <= high) {
          const ring = el('circle', { class: `peak s${peak.c % 6}`, cx: this.x(peak.x), cy: this.y(peak.y), r: 5 });
          ring.append(el('title', {}, peak.t));
          svg.append(ring);
        }
      this.svg = svg;
      this.plot.replaceChildren(svg);
      this.reset.hidden = !zoom;
      if (this.toggle) this.toggle.textContent = log ? 'Linear' : 'Log';
      this.figure.querySelector('.scale').textContent = log ? ' log scale' : '';
    }

    // The points in the range and one on each side, so that lines run on to the edge.
    visible(line, first, last) {
      const a = lower(line.x, first), b = lower(line.x, last + 1e-9);
      return { from: Math.max(0, a - 1), to: Math.min(line.x.length, b + 1), inside: line.y.slice(a, b) };
    }

    drawGrid(svg, yTicks, xTicks) {
      const right = this.width - RIGHT, bottom = this.height - BOTTOM;
      for (const v of yTicks) {
        svg.append(el('path', { class: 'grid', d: `M${LEFT} ${this.y(v)}H${right}` }));
        svg.append(el('text', { class: 'tick y', x: LEFT - 6, y: this.y(v), dy: '.32em', 'text-anchor': 'end' },
          shown(v)));
      }
      for (const v of xTicks.filter(Number.isInteger))
        svg.append(el('text', { class: 'tick x', x: this.x(v), y: bottom + 15, 'text-anchor': 'middle' }, shown(v)));
      svg.append(el('path', { class: 'axis', d: `M${LEFT} ${bottom}H${right}` }));
      svg.append(el('text', { class: 'tick', x: (LEFT + right) / 2, y: this.height - 4, 'text-anchor': 'middle' },
        'iteration'));
    }

    drawMark(svg, mark) {
      const x = this.x(mark.x), group = el('g', { class: `mark ${mark.k}` });
      group.append(el('path', { d: `M${x} ${TOP - 4}V${this.height - BOTTOM}` }));
      group.append(el('use', { href: `#m-${mark.k}`, x: x - 6, y: TOP - 16, width: 12, height: 12 }));
      group.append(el('title', {}, mark.t));
      svg.append(group);
    }

    drawLine(svg, line, part, log) {
      const style = `s${line.c % 6} d${Math.floor(line.c / 6) % 4}`, missing = y => y === null || (log && y <= 0);
      // Lines that run on to points outside must not leave the plot.
      const clip = `clip-${this.figure.id}`, inner = el('g', { 'clip-path': `url("#${CSS.escape(clip)}")` });
      if (!svg.querySelector('clipPath')) {
        const area = el('clipPath', { id: clip });
        area.append(el('rect', { x: LEFT - 5, y: TOP - 6, width: this.width - LEFT - RIGHT + 10,
          height: this.height - TOP - BOTTOM + 12 }));
        svg.append(area);
      }
      const path = (xs, ys, from, to) => {
        let d = '', up = true;
        for (let i = from; i < to; i++) {
          if (missing(ys[i])) { up = true; continue; }
          d += `${up ? 'M' : 'L'}${this.x(xs[i]).toFixed(1)} ${this.y(ys[i]).toFixed(1)}`;
          if (up && (i + 1 === to || missing(ys[i + 1]))) d += 'h.01';
          up = false;
        }
        return d;
      };
      if (line.d) {
        for (let i = part.from; i < part.to; i++) if (!missing(line.y[i]))
          inner.append(el('circle', { class: `dot ${line.d} ${style}`, cx: this.x(line.x[i]), cy: this.y(line.y[i]), r: 3.5 }));
      } else {
        // The trend has as many stretches at every zoom: close up, the curve itself says more.
        const trend = line.tx.length > 0 && part.to - part.from > 300;
        inner.append(el('path', { class: `line ${trend ? 'thin ' : ''}${style}`, d: path(line.x, line.y, part.from, part.to) }));
        if (trend) inner.append(el('path', { class: `line ${style}`, d: path(line.tx, line.ty, 0, line.tx.length) }));
      }
      svg.append(inner);
    }

    // The cursor -------------------------------------------------------------

    listen() {
      let start = null, box = null;
      const position = event => Math.min(this.width - RIGHT, Math.max(LEFT,
        event.clientX - this.svg.getBoundingClientRect().left));
      this.plot.addEventListener('pointerdown', event => {
        if (event.button) return;
        start = position(event);
        if (event.pointerType === 'mouse') this.plot.setPointerCapture(event.pointerId);
        this.point(this.back(start));
      });
      this.plot.addEventListener('pointermove', event => {
        const now = position(event);
        if (start !== null && Math.abs(now - start) > 4) {
          if (!box) this.svg.append(box = el('rect', { class: 'selection', y: TOP,
            height: this.height - TOP - BOTTOM }));
          box.setAttribute('x', Math.min(start, now));
          box.setAttribute('width', Math.abs(now - start));
        }
        this.point(this.back(now));
      });
      const finish = event => {
        if (box && event.type === 'pointerup') {
          const ends = [this.back(start), this.back(position(event))].sort((a, b) => a - b);
          if (ends[1] - ends[0] >= 1) setZoom(ends);
        }
        if (box) box.remove();
        start = box = null;
      };
      this.plot.addEventListener('pointerup', finish);
      this.plot.addEventListener('pointercancel', finish);
      // A finger that is lifted has read nothing yet.
      this.plot.addEventListener('pointerleave', event => {
        if (start === null && event.pointerType === 'mouse') this.leave();
      });
      this.plot.addEventListener('dblclick', () => setZoom(null));
      this.figure.addEventListener('keydown', event => this.key(event));
      this.figure.addEventListener('blur', () => this.leave());
    }

    key(event) {
      if (event.target !== this.figure) return;
      if (event.key === 'Escape') { setZoom(null); this.leave(); return; }
      const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
      if (!move) return;
      event.preventDefault();
      const [first, last] = this.range();
      const xs = [...new Set(this.data.lines.flatMap(l => l.x))].filter(x => x >= first && x <= last).sort((a, b) => a - b);
      if (!xs.length) return;
      const now = this.at === null ? (move < 0 ? xs.length : -1) : lower(xs, this.at);
      this.point(xs[Math.min(xs.length - 1, Math.max(0, now + move))]);
    }

    point(x) {
      const [first, last] = this.range(), rows = [];
      let nearest = null;
      for (const line of this.data.lines) {
        let i = lower(line.x, x);
        if (i > 0 && (i === line.x.length || x - line.x[i - 1] < line.x[i] - x)) i--;
        const at = line.x[i];
        if (at === undefined || at < first || at > last) continue;
        rows.push([line.n, at, line.y[i]]);
        if (nearest === null || Math.abs(at - x) < Math.abs(nearest - x)) nearest = at;
      }
      if (nearest === null) { this.leave(); return; }
      for (const other of charts) if (other !== this && other.at !== null) other.leave();
      this.at = nearest;
      const px = this.x(nearest);
      if (!this.cursor || !this.cursor.isConnected) this.svg.append(this.cursor = el('path', { class: 'cursor' }));
      this.cursor.setAttribute('d', `M${px} ${TOP}V${this.height - BOTTOM}`);
      const epoch = this.data.ipe ? `, epoch ${(nearest / this.data.ipe).toFixed(2)}` : '';
      const lines = [['head', `iteration ${nearest}${epoch}`]];
      for (const [name, at, y] of rows)
        lines.push(['', (rows.length > 1 ? `${name}: ` : '') + (y === null ? 'not finite' : shown(y)) +
          (at === nearest ? '' : ` (at ${at})`)]);
      for (const mark of this.data.marks) if (Math.abs(this.x(mark.x) - this.x(x)) < 7) lines.push(['', mark.t]);
      for (const peak of this.data.peaks) if (peak.x === nearest) lines.push(['', peak.t]);
      this.showTip(lines, px);
    }

    showTip(lines, px) {
      tip.replaceChildren(...lines.map(([style, text]) => {
        const p = document.createElement('p');
        p.className = style;
        p.textContent = text;
        return p;
      }));
      tip.hidden = false;
      const box = this.svg.getBoundingClientRect(), room = document.documentElement.clientWidth;
      let left = box.left + px + 14;
      if (left + tip.offsetWidth > room - 4) left = Math.max(4, box.left + px - 14 - tip.offsetWidth);
      tip.style.left = `${left + scrollX}px`;
      tip.style.top = `${box.top + scrollY + TOP + 6}px`;
    }

    leave() {
      tip.hidden = true;
      this.at = null;
      if (this.cursor) this.cursor.remove();
    }
  }

  function setZoom(range) {
    zoom = range;
    tip.hidden = true;
    charts.forEach(chart => chart.render());
  }

  function start() {
    charts = [...document.querySelectorAll('figure.chart')].map(figure => new Chart(figure));
  }
  start();
  addEventListener('pointerdown', event => {
    if (!event.target.closest('.plot')) charts.forEach(chart => chart.leave());
  });
  let pending = 0, width = innerWidth;
  addEventListener('resize', () => {
    if (innerWidth === width) return;
    width = innerWidth;
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(() => charts.forEach(chart => chart.render()));
  });
  for (const event of ['beforeprint', 'afterprint'])
    addEventListener(event, () => charts.forEach(chart => chart.render()));

  // Following a run --------------------------------------------------------------

  if (document.documentElement.dataset.live === undefined) return;
  let version = null;
  async function refresh() {
    if (!document.hidden) try {
      const answer = await fetch(location.href, { headers: version ? { 'If-None-Match': version } : {}, cache: 'no-store' });
      if (answer.status === 200) {
        version = answer.headers.get('ETag');
        replace(new DOMParser().parseFromString(await answer.text(), 'text/html'));
      }
      document.title = document.title.replace(/^\(stopped\) /, '');
    } catch (error) {
      if (!document.title.startsWith('(stopped) ')) document.title = `(stopped) ${document.title}`;
    }
    setTimeout(refresh, 2000);
  }
  function replace(page) {
    const open = [...document.querySelectorAll('details')].map(d => d.open), focused = document.activeElement;
    const scroll = [...document.querySelectorAll('.table')].map(t => t.scrollTop);
    for (const part of ['header', 'main', 'footer'])
      document.querySelector(part).replaceWith(document.adoptNode(page.querySelector(part)));
    document.querySelectorAll('details').forEach((d, i) => { d.open = open[i] || false; });
    document.querySelectorAll('.table').forEach((t, i) => { t.scrollTop = scroll[i] || 0; });
    tip.hidden = true;
    start();
    if (focused && focused.id) document.getElementById(focused.id)?.focus({ preventScroll: true });
  }
  refresh();
})();

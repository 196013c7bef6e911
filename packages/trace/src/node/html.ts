/** One self-contained page: tables, story and pictures; nothing is loaded from elsewhere. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { roundTrip } from '../analysis/report.ts';
import type { ConnectionReport, SubflowReport } from '../analysis/report.ts';
import { ms, seconds, sentence, size, verdicts } from '../analysis/story.ts';
import type { Totals } from '../analysis/analyzer.ts';
import { PALETTE } from '../draw/plot.ts';
import type { Plot } from '../draw/plot.ts';
import { GRAPHS, plotOf } from '../draw/plots.ts';
import type { Drawn } from '../draw/plots.ts';
import { signallingSvg } from '../draw/signalling.ts';
import { escapeXml } from '../draw/svg.ts';
import { endpoint, totalsLines, worthTelling } from '../draw/text.ts';

export interface HtmlInput {
  title: string;
  totals: Totals;
  span: { start: string; seconds: number };
  files: readonly string[];
  drawn: readonly Drawn[];
  /** Connections that are in the capture and not on the page. */
  left: number;
}

export function htmlReport(input: HtmlInput): string {
  const nonceless = viewerScript();
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:">
<title>${escapeXml(input.title)}</title><style>${STYLE}</style></head><body>
<header><h1>${escapeXml(input.title)}</h1>
${totalsLines(input.totals, input.files, input.span)
  .map((line) => `<p>${escapeXml(line)}</p>`)
  .join('\n')}
${input.left > 0 ? `<p>The ${input.drawn.length} largest connections are below; ${input.left} smaller ones are not on this page.</p>` : ''}
<nav>${input.drawn.map((one) => `<a href="#c${one.report.index}">#${one.report.index} ${escapeXml(one.report.client)} → ${escapeXml(one.report.server)}</a>`).join('')}</nav></header>
<main>${input.drawn.map(section).join('\n')}</main>
<script type="module">${nonceless}</script>
</body></html>
`;
}

function section(drawn: Drawn, order: number): string {
  const { report } = drawn;
  const plots = plotsOf(drawn);
  const { json, data } = encode(plots);
  const notes = verdicts(report);
  return `<section class="connection" id="c${report.index}" data-index="${report.index}" data-order="${order}">
<h2>#${report.index} ${escapeXml(report.client)} → ${escapeXml(report.server)}</h2>
<p>Multipath TCP ${report.version === null ? 'of unknown version' : `version ${report.version}`}, ${report.subflows.length} subflow${report.subflows.length === 1 ? '' : 's'}, ${seconds(report.end - report.start)}; DSS checksums ${report.checksum.used ? 'on' : 'off'}${report.fallback === null ? '' : ', <strong>fell back to TCP</strong>'}.</p>
${notes.length === 0 ? '<p class="good">Nothing stands out.</p>' : `<ul class="verdicts">${notes.map((one) => `<li class="${one.severity}">${escapeXml(one.text)}</li>`).join('')}</ul>`}
<div class="tabs" role="tablist"></div>
<div class="tools"><button type="button" class="reset">Whole picture</button><button type="button" class="save">Save PNG</button><span>wheel: zoom (Shift: time, Alt: values) · drag: move · Shift-drag: choose · double click: whole · keys: ← → + − 0 f</span></div>
<h3 class="title"></h3><div class="chart"></div>
<h3>Subflows</h3>${subflowTable(report)}
<h3>Data</h3>${dataTable(report)}
<h3>What happened</h3><p>A click on a line leads to its moment in the picture.</p>${storyTable(report)}
<details><summary>Signalling packets</summary>${signallingSvg(report)}</details>
<script type="application/json" id="plots-${report.index}">${json}</script>
<script type="text/plain" id="data-${report.index}">${data}</script>
</section>`;
}

function plotsOf(drawn: Drawn): Plot[] {
  const out: Plot[] = [];
  const [up, down] = drawn.report.directions;
  for (const graph of GRAPHS) {
    if (graph === 'timeline') {
      out.push(plotOf(graph, drawn));
      continue;
    }
    // Both directions only where both say something.
    const larger = up.bytes > down.bytes ? 0 : 1;
    out.push(plotOf(graph, drawn, larger));
    const other = larger === 0 ? 1 : 0;
    if (drawn.report.directions[other].bytes > 20_000 && (graph === 'seq' || graph === 'throughput')) out.push(plotOf(graph, drawn, other));
  }
  return out.filter((plot) => plot.series.some((one) => one.x.length > 0));
}

/** Plots as JSON, their numbers as one gzipped block of 32-bit integers. */
function encode(plots: readonly Plot[]): { json: string; data: string } {
  const blocks: Uint32Array[] = [];
  let at = 0;
  const column = (values: Float64Array): { at: number; offset: number; scale: number } => {
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    const span = high - low;
    const whole = values.every((value) => Number.isInteger(value)) && span < 2 ** 32;
    const scale = whole || !(span > 0) ? 1 : span / 0xffffffff;
    const out = new Uint32Array(values.length);
    for (let i = 0; i < values.length; i++) out[i] = Math.round((values[i]! - low) / scale);
    const entry = { at, offset: Number.isFinite(low) ? low : 0, scale };
    blocks.push(out);
    at += out.length;
    return entry;
  };
  const encoded = plots.map((plot) => ({
    ...plot,
    rows: plot.rows ?? null,
    series: plot.series.map((one) => {
      const sorted = byTime(one);
      return {
        name: one.name,
        shape: one.shape,
        color: one.color,
        strong: one.strong ?? false,
        loose: one.loose ?? false,
        count: one.x.length,
        x: column(sorted(one.x)),
        y: column(sorted(one.y)),
        y2: one.y2 === undefined ? null : column(sorted(one.y2)),
        packet: one.packet === undefined ? null : column(sorted(one.packet)),
      };
    }),
  }));
  const all = new Uint32Array(at);
  let to = 0;
  for (const block of blocks) {
    all.set(block, to);
    to += block.length;
  }
  // "</script" must not appear inside the page's data.
  return { json: JSON.stringify(encoded).replaceAll('<', '\\u003c'), data: gzipSync(new Uint8Array(all.buffer)).toString('base64') };
}

/** Merged captures may go back in time by a little; the viewer searches by time. */
function byTime(series: Plot['series'][number]): (values: Float64Array) => Float64Array {
  const { x } = series;
  let sorted = true;
  for (let i = 1; i < x.length && sorted; i++) sorted = x[i]! >= x[i - 1]!;
  if (sorted) return (values) => values;
  const order = Uint32Array.from({ length: x.length }, (_, i) => i).sort((a, b) => x[a]! - x[b]!);
  return (values) => Float64Array.from(order, (i) => values[i]!);
}

function subflowTable(report: ConnectionReport): string {
  const head = ['', 'From', 'To', 'Opened by', 'Time', 'Handshake', 'RTT (median)', 'Flags', 'Features (client / server)', 'Client sent', 'Server sent', 'End'];
  const rows = report.subflows.map((one, i) => {
    const rtt = roundTrip(one);
    return `<tr data-time="${(one.start - report.start) / 1e6}"><td><span class="swatch" style="background:${PALETTE[i % PALETTE.length]}"></span>${one.number}</td><td>${endpoint(one.source, one.sourcePort)}</td><td>${endpoint(one.destination, one.destinationPort)}</td><td>${one.openedBy === 0 ? 'client' : 'server'}</td><td>${seconds(one.start)} – ${seconds(one.end)}</td><td>${one.handshake === null ? '' : ms(one.handshake)}</td><td>${rtt === null ? '' : ms(rtt.median)}</td><td>${flags(one)}</td><td>${features(one)}</td><td>${sent(one, 0)}</td><td>${sent(one, 1)}</td><td>${one.sent[0].end} / ${one.sent[1].end}</td></tr>`;
  });
  return `<div class="wide"><table><thead><tr>${head.map((one) => `<th>${one}</th>`).join('')}</tr></thead><tbody>${rows.join('')}</tbody></table></div>`;
}

function flags(one: SubflowReport): string {
  const out = [one.kind === 'join' ? 'MP_JOIN' : 'MP_CAPABLE'];
  if (one.backup[0]) out.push('backup (client)');
  if (one.backup[1]) out.push('backup (server)');
  if (one.hmac === 'wrong') out.push('<strong>wrong HMAC</strong>');
  if (one.hmac === 'right') out.push('HMAC right');
  return out.join('<br>');
}

function features(one: SubflowReport): string {
  const side = (by: 0 | 1): string => {
    const half = one.sent[by];
    return [
      half.mss === null ? 'no MSS' : `MSS ${half.mss}`,
      half.windowScale === null ? 'no scale' : `scale ${half.windowScale}`,
      half.sackPermitted ? 'SACK' : 'no SACK',
      half.timestamps ? 'TS' : 'no TS',
    ].join(', ');
  };
  return `${side(0)}<br>${side(1)}`;
}

function sent(one: SubflowReport, by: 0 | 1): string {
  const half = one.sent[by];
  const parts = [size(half.bytes)];
  if (half.retransmittedBytes > 0) parts.push(`${size(half.retransmittedBytes)} again`);
  if (half.reinjectedBytes > 0) parts.push(`${size(half.reinjectedBytes)} reinjected`);
  if (half.zeroWindows > 0) parts.push(`${half.zeroWindows} zero windows`);
  return parts.join('<br>');
}

function dataTable(report: ConnectionReport): string {
  const rows = report.directions.map(
    (one, by) =>
      `<tr><td>${by === 0 ? 'client' : 'server'}</td><td>${size(one.bytes)}</td><td>${(one.goodput / 1e6).toFixed(2)} Mbit/s</td><td>${one.share.map((part) => `${part.subflow}: ${(part.part * 100).toFixed(0)} %`).join(', ')}</td><td>${escapeXml(one.scheduler)}</td><td>${one.dataRtt === null || report.vantage === (by === 0 ? 'server' : 'client') ? '' : ms(one.dataRtt.median)}</td><td>${size(one.reinjected.bytes)} (${size(one.reinjected.useful)} useful, ${size(one.reinjected.wasted)} wasted)</td><td>${size(one.queue.max)}, ${ms(one.queue.blockedTime)}</td><td>${ms(one.longestGap)}</td></tr>`,
  );
  return `<div class="wide"><table><thead><tr><th>Sent by</th><th>Bytes</th><th>Goodput</th><th>Share of subflows</th><th>Looks like</th><th>Data-level RTT</th><th>Reinjected</th><th>Queue, blocked</th><th>Longest gap</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`;
}

const MOST_STORY = 500;

function storyTable(report: ConnectionReport): string {
  const events = report.events.filter(worthTelling);
  const rows = events
    .slice(0, MOST_STORY)
    .map(
      (event) =>
        `<tr class="${event.severity}" data-time="${(event.time - report.start) / 1e6}" tabindex="0"><td>${seconds(event.time - report.start)}</td><td>${event.packet > 0 ? event.packet : ''}</td><td>${escapeXml(sentence(event, report))}</td></tr>`,
    );
  const rest = events.length - MOST_STORY;
  return `<div class="wide"><table class="story"><thead><tr><th>Time</th><th>Packet</th><th></th></tr></thead><tbody>${rows.join('')}</tbody></table></div>${rest > 0 ? `<p>and ${rest} more events</p>` : ''}`;
}

/** The compiled viewer, beside this file or in the build folder when the sources are run. */
function viewerScript(): string {
  for (const path of ['../browser/viewer.js', '../../dist/browser/viewer.js']) {
    try {
      return readFileSync(fileURLToPath(new URL(path, import.meta.url)), 'utf8');
    } catch {
      // Try the next place.
    }
  }
  throw new Error('the viewer is not built; run `npm run build`');
}

const STYLE = `
:root{--ink:#222;--grid:#e4e4e4;--paper:#fff;--soft:#f5f5f5;--warn:#8a4b00;--bad:#b00020}
@media(prefers-color-scheme:dark){:root{--ink:#ddd;--grid:#383838;--paper:#161616;--soft:#222;--warn:#ffb457;--bad:#ff6b7a}section svg{filter:invert(.88) hue-rotate(180deg)}}
*{box-sizing:border-box}body{font:14px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:0 auto;padding:1rem;max-width:1300px}
h1{font-size:1.4rem;margin:0 0 .4rem}h2{font-size:1.15rem;margin:2rem 0 .3rem;overflow-wrap:anywhere}h3{font-size:1rem;margin:1.2rem 0 .3rem}p{margin:.2rem 0}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1rem;margin-top:.6rem}a{color:inherit}
.tabs,.tools,.legend{display:flex;flex-wrap:wrap;gap:.3rem;margin:.5rem 0;align-items:center}
button{font:inherit;color:inherit;background:var(--soft);border:1px solid var(--grid);border-radius:4px;padding:.25rem .6rem;cursor:pointer}button[aria-selected=true]{background:#0072B2;color:#fff}
.tools span{opacity:.75;font-size:12px}.legend label{display:inline-flex;gap:.3rem;align-items:center;margin-right:.7rem}
.swatch{display:inline-block;width:11px;height:11px;border-radius:2px;margin-right:4px}
.frame{position:relative;height:440px}canvas{width:100%;height:100%;touch-action:none;cursor:crosshair}canvas:focus{outline:2px solid #0072B2}
.tip{position:absolute;display:none;pointer-events:none;background:var(--ink);color:var(--paper);padding:.3rem .5rem;border-radius:4px;font-size:12px;white-space:nowrap;z-index:2}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px}th,td{border:1px solid var(--grid);padding:.25rem .5rem;text-align:left;vertical-align:top;white-space:nowrap}th{background:var(--soft)}
.story td:last-child{white-space:normal}[data-time]{cursor:pointer}[data-time]:hover{background:var(--soft)}
.warning{color:var(--warn)}.error{color:var(--bad)}.good{opacity:.75}details{margin:1rem 0;overflow-x:auto}
`;

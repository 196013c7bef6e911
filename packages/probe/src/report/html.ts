/** The report as one page: verdict, hop picture with the changed fields, sequence diagram of every step. Nothing is loaded from elsewhere. */
import { BEHAVIOURS } from '../behaviours.ts';
import { mptcpHex, seen } from '../compare.ts';
import { placeText } from '../rules.ts';
import { layersOf } from '../layers.ts';
import type { ProbeReport, RecordedPacket, WalkReport } from './report.ts';

const escape = (text: string): string => text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
/** Packets of one diagram; more would be unreadable. */
const MAX_ARROWS = 60;

export function reportHtml(report: ProbeReport): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Multipath TCP probe of ${escape(report.target)}</title><style>${STYLE}</style></head><body>
<header><h1>Multipath TCP probe of ${escape(report.target)}</h1>
<ul class="verdict">${report.verdict.map((line) => `<li>${escape(line)}</li>`).join('')}</ul></header>
<main>${report.path === null ? '' : pathSection(report.path)}${report.conversation === null ? '' : conversationSection(report)}</main>
</body></html>
`;
}

function pathSection(path: NonNullable<ProbeReport['path']>): string {
  return `<section><h2>The path</h2>${hopPicture(path)}
${
  path.findings.length === 0
    ? ''
    : `<div class="scroll"><table><thead><tr><th>Behaviour</th><th>Where</th><th>Direction</th><th>How sure</th><th>Seen</th></tr></thead><tbody>${path.findings
        .map(
          (one) =>
            `<tr class="${BEHAVIOURS[one.behaviour].severity}"><td>${escape(BEHAVIOURS[one.behaviour].does)}</td><td>${escape(placeText(one, path.facts))}</td><td>${one.direction === 'forward' ? 'to the server' : 'to the client'}</td><td>${one.certainty}</td><td>${one.evidence.map(escape).join('<br>')}</td></tr>`,
        )
        .join('')}</tbody></table>`
}
${path.notes.map((note) => `<p class="note">${escape(note)}</p>`).join('')}
${path.walks.map(walkDetails).join('')}</section>`;
}

/** Client, hops, server in a row; boxes where the findings put them. */
function hopPicture(path: NonNullable<ProbeReport['path']>): string {
  const { facts, findings } = path;
  const length = facts.distance ?? Math.max(1, ...findings.map((one) => one.to), ...path.walks.flatMap((walk) => walk.hops.map((hop) => hop.ttl + 1)));
  const step = Math.max(70, Math.min(150, 1000 / length));
  const x = (hop: number): number => 50 + hop * step;
  const width = x(length) + 60;
  const nodes = Array.from({ length: length + 1 }, (_, hop) => {
    const name = hop === 0 ? 'this host' : hop === length ? 'server' : (facts.routers[hop - 1] ?? '*');
    return `<circle cx="${x(hop)}" cy="60" r="13" class="${hop === 0 || hop === length ? 'end' : 'hop'}"/><text x="${x(hop)}" y="64" class="number">${hop}</text><text x="${x(hop)}" y="${hop % 2 === 0 ? 92 : 106}">${escape(name)}</text>`;
  }).join('');
  const boxes = findings
    .map((one, i) => {
      const left = x(one.from) + 16;
      const right = x(one.to) - 16;
      const y = 24 - (i % 2) * 12;
      const arrow = one.direction === 'forward' ? '→' : '←';
      return `<rect x="${left}" y="50" width="${Math.max(8, right - left)}" height="20" class="box ${BEHAVIOURS[one.behaviour].severity}"><title>${escape(BEHAVIOURS[one.behaviour].does)}</title></rect><text x="${(left + right) / 2}" y="${y}" class="label">${arrow} ${escape(one.behaviour)}</text>`;
    })
    .join('');
  return `<div class="scroll"><svg viewBox="0 0 ${width} 120" width="${width}" role="img" aria-label="hops of the path"><line x1="${x(0)}" y1="60" x2="${x(length)}" y2="60" class="path"/>${boxes}${nodes}</svg></div>`;
}

function walkDetails(walk: WalkReport): string {
  const changed = walk.hops.some((hop) => hop.routers.some((router) => router.differences.length > 0));
  const rows = walk.hops
    .flatMap((hop) =>
      hop.routers.length === 0
        ? [`<tr><td>${hop.ttl}</td><td colspan="4">*</td></tr>`]
        : hop.routers.map(
            (router) =>
              `<tr><td>${hop.ttl}</td><td>${escape(router.name ?? router.address)}</td><td>${(router.rtt / 1000).toFixed(1)} ms</td><td>${router.quoted}</td><td>${router.differences
                .map(
                  (one) =>
                    `<span class="${one.change}">${escape(one.field)} ${one.change === 'changed' ? `${escape(one.before)} → ${escape(one.after)}` : one.change}</span>`,
                )
                .join(', ')}${router.labels === '' ? '' : ` MPLS ${escape(router.labels)}`}</td></tr>`,
          ),
    )
    .join('');
  return `<details${changed ? ' open' : ''}><summary>Walk ${walk.direction === 'forward' ? '' : 'of the server '}with ${escape(walk.stage)}: <code>${escape(walk.sent)}</code></summary>
${walk.options.map((option) => `<p>option 30 <code>${option}</code></p>`).join('')}<div class="scroll"><table><thead><tr><th>TTL</th><th>Router</th><th>RTT</th><th>Octets of TCP quoted</th><th>Changes</th></tr></thead><tbody>${rows}</tbody></table></div></details>`;
}

function conversationSection(report: ProbeReport): string {
  const conversation = report.conversation!;
  return `<section><h2>The conversation${conversation.version === null ? '' : `, version ${conversation.version}`}</h2>
${conversation.steps
  .map((step) => {
    const known = step.known.map((one) => `<li>${escape(one.name)}: ${escape(one.outcomes.join(' or '))}${one.agrees ? ' — as seen' : ''}</li>`).join('');
    return `<details class="step ${step.judgement.replace(' ', '-')}"><summary><b>${step.judgement}</b> ${escape(step.title)}: <code>${escape(step.outcome)}</code></summary>
${step.details.map((one) => `<p>${escape(one)}</p>`).join('')}
${step.requires === null ? '' : `<p>${escape(step.requires.section)}: ${escape(step.requires.text)} (<code>${escape(step.requires.outcomes.join(' or '))}</code>)</p>`}
${known === '' ? '' : `<ul>${known}</ul>`}${diagram(report.packets.filter((one) => one.label === step.id))}</details>`;
  })
  .join('')}</section>`;
}

/** Packets of one step as arrows between the two ends. */
function diagram(packets: readonly RecordedPacket[]): string {
  const shown = packets.slice(0, MAX_ARROWS);
  if (shown.length === 0) return '';
  const height = 40 + shown.length * 26;
  const flows = [...new Set(shown.map(portOf))];
  const arrows = shown
    .map((one, i) => {
      const y = 40 + i * 26;
      const out = one.direction === 'out';
      const flow = flows.indexOf(portOf(one));
      const options = mptcpHex(one.bytes).join(' ');
      return `<g class="flow${flow % 4}"><line x1="${out ? 130 : 770}" y1="${y}" x2="${out ? 762 : 138}" y2="${y + 8}"/><path d="${out ? `M762 ${y + 8}l-9 -5v9z` : `M138 ${y + 8}l9 -5v9z`}"/><text x="450" y="${y - 2}">${escape(layersOf(one.bytes).replace(/^IP(v6)? \/ /, ''))}<title>${escape(options)}</title></text><text x="${out ? 120 : 780}" y="${y + 4}" class="${out ? 'left' : 'right'}">${(one.at / 1000).toFixed(1)} ms${flows.length > 1 ? ` · ${flow + 1}` : ''}</text></g>`;
    })
    .join('');
  const more = packets.length > shown.length ? `<p class="note">${packets.length - shown.length} further packets are in the capture.</p>` : '';
  return `<div class="scroll"><svg viewBox="0 0 900 ${height}" width="900" role="img" aria-label="packets of this step">
<text x="130" y="16" class="number">prober</text><text x="770" y="16" class="number">server</text><line x1="130" y1="22" x2="130" y2="${height}" class="life"/><line x1="770" y1="22" x2="770" y2="${height}" class="life"/>${arrows}</svg></div>${more}`;
}

function portOf(packet: RecordedPacket): number {
  const one = seen(packet.bytes);
  return one === null ? 0 : packet.direction === 'out' ? one.sourcePort : one.destinationPort;
}

const STYLE = `:root{color-scheme:light dark;--good:#0a7d34;--bad:#b3261e;--warn:#8a5a00;--line:#8886;--f0:#1f6fb2;--f1:#b3541e;--f2:#3d8b37;--f3:#8e44ad}
@media(prefers-color-scheme:dark){:root{--good:#5fd38a;--bad:#ff8a80;--warn:#f0b849;--f0:#7cc0ff;--f1:#ffb27a;--f2:#8fdc88;--f3:#d7a3f0}}
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:0 auto;padding:1rem}h1{font-size:1.4rem}h2{font-size:1.15rem;margin-top:2rem}
.verdict{font-size:1.05rem}.verdict li{margin:.3rem 0}.scroll{overflow-x:auto}svg{max-width:none}svg text{font-size:11px;fill:currentColor;text-anchor:middle}svg .left{text-anchor:end}svg .right{text-anchor:start}
.number{font-weight:600}.path,.life{stroke:var(--line);stroke-width:2}circle{fill:canvas;stroke:currentColor;stroke-width:2}circle.end{stroke-width:3}
.box{opacity:.75}.box.blocks{fill:var(--bad)}.box.harms{fill:var(--warn)}.box.harmless{fill:var(--good)}.label{font-weight:600}
g line{stroke:currentColor;stroke-width:1.5}.flow0{color:var(--f0)}.flow1{color:var(--f1)}.flow2{color:var(--f2)}.flow3{color:var(--f3)}g path{fill:currentColor}
table{border-collapse:collapse;width:100%;font-size:.9rem}th,td{border-bottom:1px solid var(--line);padding:.3rem .5rem;text-align:left;vertical-align:top}
details{border:1px solid var(--line);border-radius:6px;margin:.4rem 0;padding:.3rem .7rem}summary{cursor:pointer}code{font-size:.9em;overflow-wrap:anywhere}
.conforms b{color:var(--good)}.known-deviation b{color:var(--warn)}.new-deviation b{color:var(--bad)}.removed{color:var(--bad)}.changed,.added{color:var(--warn)}tr.blocks td:first-child{color:var(--bad)}.note{opacity:.75;font-size:.9rem}`;

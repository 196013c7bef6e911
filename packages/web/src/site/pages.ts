/** The site's pages: no script, no request to anywhere else. */
import { dayChart, shareTable, sumOf } from './charts.ts';
import { escapeHtml } from './html.ts';
import { worldMap } from './map.ts';
import type { DayStatistics } from './statistics.ts';
import type { Verdict } from './verdict.ts';

const STYLE = `
:root{color-scheme:light dark;--back:#fbfbf8;--front:#1c2024;--dim:#5d666f;--card:#fff;--edge:#dcdfe3;--yes:#0f7b6c;--no:#b3541e;--land:#d9dcdf}
@media (prefers-color-scheme:dark){:root{--back:#14171a;--front:#e8eaec;--dim:#9aa4ad;--card:#1d2226;--edge:#343b41;--yes:#35b59f;--no:#e08a52;--land:#3a4147}}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--front);font:17px/1.55 system-ui,sans-serif}
main{max-width:62rem;margin:0 auto;padding:2.5rem 1.25rem}h1{font-size:clamp(1.7rem,5vw,2.7rem);line-height:1.15;margin:0 0 1rem}
h2{font-size:1.15rem;margin:2rem 0 .6rem}.verdict{border-left:.5rem solid var(--no);background:var(--card);padding:1.4rem 1.6rem;border-radius:.4rem;box-shadow:0 0 0 1px var(--edge)}
.verdict.good{border-color:var(--yes)}.good h1{color:var(--yes)}.bad h1{color:var(--no)}p{max-width:46rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .7rem .35rem 0;border-bottom:1px solid var(--edge);font-weight:400;vertical-align:middle}
td:nth-child(3){width:50%}thead th{color:var(--dim);font-size:.85rem}code{font-family:ui-monospace,monospace;font-size:.92em;overflow-wrap:anywhere}
.bar{height:.8rem;background:var(--yes);border-radius:.2rem;min-width:2px}.wide{overflow-x:auto}svg{width:100%;height:auto;display:block}
.chart text{font-size:11px;fill:var(--dim)}.chart line{stroke:var(--edge)}.yes{fill:var(--yes)}.no{fill:var(--no)}.map path{stroke:var(--back);stroke-width:.5}
.legend{display:flex;gap:1.5rem;color:var(--dim);font-size:.9rem;margin:.4rem 0}.legend i{display:inline-block;width:.8rem;height:.8rem;border-radius:.2rem;margin-right:.4rem}
.numbers{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:1rem;margin:1rem 0}.numbers div{background:var(--card);box-shadow:0 0 0 1px var(--edge);border-radius:.4rem;padding:.8rem 1rem}
.numbers b{display:block;font-size:1.7rem;line-height:1.2}.numbers span{color:var(--dim);font-size:.9rem}footer{margin-top:3rem;color:var(--dim);font-size:.9rem}a{color:inherit}`;

function page(title: string, body: string): string {
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>${escapeHtml(title)}</title><style>${STYLE}</style></head><body><main>${body}</main></body></html>\n`;
}

/** The answer to a visitor. */
export function verdictPage(verdict: Verdict): string {
  const rows = verdict.subflows.map(
    (one) =>
      `<tr><td><code>${escapeHtml(one.remote)}</code></td><td><code>${escapeHtml(one.local)}</code></td><td>${one.rttMilliseconds.toFixed(1)} ms</td><td>${one.backup ? 'backup' : 'regular'}</td></tr>`,
  );
  const table = `<h2>${verdict.multipath ? 'Subflows' : 'Connection'}</h2><div class="wide"><table><thead><tr><th>your end</th><th>our end</th><th>RTT</th><th>priority</th></tr></thead>${rows.join('')}</table></div>`;
  const next = verdict.multipath
    ? ''
    : `<h2>How to use it</h2><p>On Linux 5.6 or later: <code>mptcpize run PROGRAM</code>, or in Node.js <code>subflow run -- node app.js</code>. On iOS, apps ask for it by URLSession’s multipathServiceType. Then <code>curl</code> this page under <code>mptcpize</code> and compare.</p>`;
  return page(
    'Am I using Multipath TCP?',
    `<div class="verdict ${verdict.multipath ? 'good' : 'bad'}"><h1>${escapeHtml(verdict.headline)}</h1><p>${escapeHtml(verdict.explanation)}</p></div>${table}${next}<footer><a href="/stats">Statistics</a> · <a href="/json">JSON</a> · plain text for curl. Addresses are not stored.</footer>`,
  );
}

/** The same for curl. */
export function verdictText(verdict: Verdict): string {
  const lines = verdict.subflows.map((one) => `  ${one.remote} → ${one.local}  RTT ${one.rttMilliseconds.toFixed(1)} ms${one.backup ? '  backup' : ''}`);
  return `${verdict.headline}\n${verdict.explanation}\n${lines.join('\n')}\n`;
}

export const LOST_NAMES: Readonly<Record<string, string>> = {
  'not-asked': 'no option in the SYN',
  syn: 'blanked in the SYN',
  version: 'another version asked for',
  handshake: 'lost in the handshake',
  data: 'lost on data (fallback)',
  server: 'server had none',
};

/** Numbers for everybody. */
export function statisticsPage(days: readonly DayStatistics[], hasCountries: boolean): string {
  const requests = days.reduce((sum, one) => sum + one.requests, 0);
  const multipath = days.reduce((sum, one) => sum + one.multipath, 0);
  const today = days.at(-1);
  const countries: Record<string, { multipath: number; plain: number }> = {};
  for (const day of days) {
    for (const [code, one] of Object.entries(day.countries)) {
      const sum = (countries[code] ??= { multipath: 0, plain: 0 });
      sum.multipath += one.multipath;
      sum.plain += one.plain;
    }
  }
  const number = (value: string | number, label: string): string => `<div><b>${value}</b><span>${label}</span></div>`;
  const map = hasCountries
    ? `<section><h2>By country</h2>${worldMap(countries)}<p class="legend"><span><i style="background:var(--yes)"></i>all Multipath TCP</span><span><i style="background:var(--no)"></i>none</span><span><i style="background:var(--land)"></i>no visitors</span></p></section>`
    : '';
  return page(
    'Multipath TCP: statistics',
    `<h1>Who uses Multipath TCP here?</h1><div class="numbers">${number(requests, 'requests')}${number(`${requests === 0 ? 0 : ((100 * multipath) / requests).toFixed(1)} %`, 'over Multipath TCP')}${number(today?.visitors ?? 0, 'visitors today')}${number(days.length, 'days')}</div>
<section><h2>Per day</h2>${dayChart(days)}<p class="legend"><span><i style="background:var(--yes)"></i>Multipath TCP</span><span><i style="background:var(--no)"></i>plain TCP</span></p></section>
${map}${shareTable(
      'Versions',
      sumOf(days, (one) => one.versions),
      { '0': 'version 0 (RFC 6824)', '1': 'version 1 (RFC 8684)' },
    )}${shareTable(
      'Subflows',
      sumOf(days, (one) => one.subflows),
    )}${shareTable(
      'Where it was lost',
      sumOf(days, (one) => one.lost),
      LOST_NAMES,
    )}<footer><a href="/">Am I using Multipath TCP?</a> · <a href="/stats.json">JSON</a>. Visitors are counted by a hash whose key is thrown away every day; addresses are not stored.</footer>`,
  );
}

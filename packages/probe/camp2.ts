import { BOXES, campaignRun, lineOf } from '../../test/probe/campaign.ts';
const [, , quote, seeds, only, fam, echo] = process.argv;
let n = 0, ok = 0, exact = 0, maxTook = 0; const t = Date.now();
for (const box of only && only !== 'all' ? (only === 'clean' ? [null] : [only]) : [...BOXES, null]) for (let seed = 1; seed <= Number(seeds); seed++) {
  try {
    const run = await campaignRun(box, seed, { quote: Number(quote), family: fam === '6' ? 6 : 4, ...(echo === 'no' ? { echo: false } : {}), ...(process.env.LOSS ? { link: { loss: Number(process.env.LOSS), reorder: Number(process.env.REORDER ?? 0), reorderDelay: 5000 } } : {}) });
    n++; if (run.named && run.placed) ok++; if (run.exact) exact++; maxTook = Math.max(maxTook, run.took);
    if (run.took > 25e6) console.log(box, run.link, "took", run.took / 1e6); if (!run.named || !run.placed || process.env.V) { console.log(lineOf(run)); if (process.env.E) for (const f of run.findings) console.log('   ', f.behaviour, f.evidence); }
  } catch (e) { n++; console.log(box, seed, 'FAILED', (e as Error).message); }
}
console.log({ n, ok, exact, maxTook: maxTook / 1e6, ms: (Date.now() - t) / n });

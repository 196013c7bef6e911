import { campaignRun, lineOf } from '../../test/probe/campaign.ts';
const [, , box, seed] = process.argv;
const run = await campaignRun(box!, Number(seed), { quote: 520, link: { delay: 1500, loss: 0.04, reorder: 0.1, reorderDelay: 5000 } });
console.log(lineOf(run), run.facts.echoLost, run.facts.distance, run.facts.answers, run.facts.resetOnData);
for (const o of run.facts.observations) console.log(o.stage, o.sent.length, o.arrived?.length, o.hops?.map(h => h.answers.length).join(' '));

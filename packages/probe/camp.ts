import { Random, MIDDLEBOXES } from '@subflow/emulator';
import { ProbeWorld, WORLD_PORT, observePath, findings, sentence, inVirtualTime } from '@subflow/probe';
const [, , name, linkText, quote, seed] = process.argv;
const world = new ProbeWorld({ seed: Number(seed ?? 1), routers: 5, quote: Number(quote ?? 520), link: { delay: 2000 }, boxes: name && name !== 'clean' ? [{ name, link: Number(linkText ?? 2) }] : [] });
const t = Date.now();
const facts = await inVirtualTime(world.agenda, observePath(world.hub, { target: world.target, port: WORLD_PORT }), 300e6);
console.log('virtual', world.agenda.now / 1e6, 'real', Date.now() - t, 'echo', facts.echoServer, 'dist', facts.distance, facts.answers, facts.answeredAt);
for (const f of findings(facts)) console.log(f.behaviour, f.direction, f.from, f.to, f.certainty, f.evidence.slice(0,3));
if (process.env.V) for (const o of facts.observations) console.log(o.stage, o.sent.length, o.arrived?.length, o.hops?.map(h => h.answers.length).join(' '));

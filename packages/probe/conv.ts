import { ProbeWorld, WORLD_PORT, converse, inVirtualTime } from '@subflow/probe';
const v = Number(process.argv[2] ?? 1) as 0 | 1;
const world = new ProbeWorld({ seed: 1, routers: 3, link: { delay: 2500 } });
const c = await inVirtualTime(world.agenda, converse(world.hub, { address: world.target, port: WORLD_PORT, version: v, closedPort: 1, ...(process.argv[3] ? { steps: process.argv.slice(3) } : {}) }), 600e6);
console.log(c.kind, c.version, c.microseconds / 1e6);
for (const s of c.steps) console.log(s.id.padEnd(28), s.outcome, s.runs > 1 ? `x${s.runs}` : '', s.details.join('; '));

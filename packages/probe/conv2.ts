import { ProbeWorld, WORLD_PORT, converse, inVirtualTime, probeReport, reportText } from '@subflow/probe';
const v = Number(process.argv[2] ?? 1) as 0 | 1;
const world = new ProbeWorld({ seed: Number(process.argv[3] ?? 1), routers: 3, link: { delay: 2500, loss: Number(process.env.LOSS ?? 0), reorder: Number(process.env.REORDER ?? 0), reorderDelay: 4000 } });
const c = await inVirtualTime(world.agenda, converse(world.hub, { address: world.target, port: WORLD_PORT, version: v, closedPort: 1 }), 600e6);
console.log(reportText(probeReport(world.target, WORLD_PORT, c, null, [])).filter((l) => !l.includes('✓')).join('\n'));

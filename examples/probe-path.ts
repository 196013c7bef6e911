/** The prober as a library, in the emulator: a box on a path is found; then a probe of one's own, as data and as code. */
import {
  compose,
  findings,
  Flow,
  inVirtualTime,
  mptcpOption,
  observePath,
  parseScript,
  ProbeWorld,
  runScript,
  sentence,
  scriptText,
  WORLD_PORT,
} from '@subflow/probe';
import { FLAG } from '@subflow/wire';

// Five routers; between hop 3 and hop 4 somebody removes options from SYN+ACKs.
const world = new ProbeWorld({ seed: 1, routers: 5, link: { delay: 2_000 }, boxes: [{ name: 'strip-synack', link: 3 }] });
const facts = await inVirtualTime(world.agenda, observePath(world.hub, { target: world.target, port: WORLD_PORT }));
for (const finding of findings(facts)) console.log(sentence(finding, facts));

// The same question as data, in the language of `subflow probe HOST --script FILE`.
const script = parseScript(`
name: does a SYN+ACK keep the option?
steps:
  - send: IP / TCP(flags=SYN) / MSS(1460) / MP_CAPABLE(version=1)
    expect: { flags: SYN ACK, has: MP_CAPABLE }
`);
const result = await inVirtualTime(world.agenda, runScript(world.hub, script, { address: world.target, port: WORLD_PORT }));
for (const line of scriptText(result)) console.log(line);

// And as code: any packet, any question.
const flow = new Flow(world.hub, world.target, WORLD_PORT);
const scope = { values: new Map(), version: 1 as const, random: () => world.hub.port.entropy() };
const answer = await inVirtualTime(
  world.agenda,
  flow.ask(
    () => flow.build({ ...compose('TCP(flags=SYN) / MP_CAPABLE(version=1)', scope, flow), seq: flow.iss }),
    ({ packet }) => (packet.tcp.flags & FLAG.syn) !== 0,
  ),
);
console.log(`SYN+ACK ${answer === null ? 'did not come' : mptcpOption(answer.packet, 'capable') === undefined ? 'without' : 'with'} MP_CAPABLE`);
flow.close();

/** One run of a scan in the emulator, in a process of its own: `scan` or `bare`. JSON on standard output. */
import { Agenda } from '@subflow/emulator';
import { Hub, inVirtualTime, kindOf, Scanner } from '@subflow/probe';
import { buildPacket, FLAG, ipHeader, PROTOCOL } from '@subflow/wire';
import { Farm, farmKind } from '../packages/probe/test/farm.ts';

const TARGETS = 40_000;
const DELAY = 10_000;
const agenda = new Agenda();
const farm = new Farm(agenda, 1, DELAY);
const addressOf = (i: number): Uint8Array => Uint8Array.of(198, 51, (i >>> 8) & 0xff, i & 0xff);
const started = performance.now();
let wrong = 0;
let done = 0;

if (process.argv[2] === 'scan') {
  const hub = new Hub(farm.port);
  const scanner = new Scanner(hub, { rate: 4_000, atOnce: 500, wait: 100_000, tries: 2 });
  async function* targets(): AsyncGenerator<{ name: string; address: Uint8Array; port: number }> {
    for (let i = 0; i < TARGETS; i++) yield { name: String(i), address: addressOf(i), port: 80 };
  }
  const work = scanner.scan(targets(), (result) => {
    done++;
    const kind = kindOf(result);
    if (kind !== farmKind(addressOf(Number(result.target)))) wrong++;
  });
  await inVirtualTime(agenda, work);
  agenda.runUntil(agenda.now + 1e6);
  hub.close();
} else {
  const source = Uint8Array.of(192, 0, 2, 1);
  farm.port.onPacket(() => {
    done++;
  });
  for (let i = 0; i < TARGETS; i++) {
    const tcp = {
      sourcePort: 40_000,
      destinationPort: 80,
      seq: i,
      ack: 0,
      headerLength: 20,
      reserved: 0,
      flags: FLAG.syn,
      window: 65_535,
      checksum: 0,
      urgent: 0,
      options: [],
    };
    farm.port.send(buildPacket(ipHeader(source, addressOf(i), PROTOCOL.tcp), { tcp }));
    if (i % 2_000 === 0) agenda.runUntil(agenda.now + DELAY * 2);
  }
  agenda.runUntil(agenda.now + 1e6);
  done = TARGETS;
}
const seconds = (performance.now() - started) / 1000;
process.stdout.write(
  JSON.stringify({ perSecond: done / seconds, megabytes: process.resourceUsage().maxRSS / 1024, wrong, open: process.argv[2] === 'scan' ? farm.open.size : 0 }),
);

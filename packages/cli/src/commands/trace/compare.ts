/** `subflow trace compare CLIENT SERVER`: what happens between the two ends? */
import { Command } from 'commander';
import { compareCaptures, ms } from '@subflow/trace';
import type { CaptureComparison, DirectionComparison } from '@subflow/trace';
import { UsageError } from '../../errors.ts';
import { clockDifference, fingerprints, reportDamages } from '../../trace/reading.ts';

const EXAMPLES = `
Examples:
  subflow trace compare client.pcap server.pcap
  subflow trace compare client.pcap server.pcap --json

Connections are recognised by their keys, so address translation does not hide them. The clocks need not agree: the offset is
told from the smallest delays of both directions, which are taken to be equal.`;

export function compareCommand(): Command {
  return new Command('compare')
    .description("captures of a connection's two ends: losses, delays, changes on the way")
    .argument('<client>', "the client's capture")
    .argument('<server>', "the server's capture")
    .option('--json', 'one JSON object', false)
    .addHelpText('after', EXAMPLES)
    .action(async (clientFile: string, serverFile: string, flags: { json: boolean }) => {
      const near = await fingerprints(clientFile);
      const far = await fingerprints(serverFile);
      const result = compareCaptures(near.prints, far.prints);
      if (result.connections.length === 0)
        throw new UsageError(
          'NOTHING_IN_COMMON',
          `no Multipath TCP connection of ${clientFile} (${near.prints.connections.length}) is in ${serverFile} (${far.prints.connections.length}); expected captures of the same connections`,
        );
      const clock = clockDifference(near.analyzer, far.analyzer, result);
      if (flags.json) process.stdout.write(`${JSON.stringify({ ...result, clockOffset: clock, notCompared: near.prints.beyond + far.prints.beyond })}\n`);
      else process.stdout.write(`${lines(result, clock).join('\n')}\n`);
      reportDamages([...near.damages, ...far.damages]);
    });
}

function lines(result: CaptureComparison, clock: number | null): string[] {
  const out: string[] = [];
  if (clock !== null)
    out.push(
      Math.abs(clock) <= result.uncertainty
        ? `the clocks agree, as far as can be told (to ${ms(result.uncertainty)})`
        : `the server's clock is ${(Math.abs(clock) / 1000).toFixed(3)} ms ${clock < 0 ? 'ahead' : 'behind'} (to ${ms(result.uncertainty)})`,
    );
  for (const connection of result.connections) {
    out.push('', `#${connection.client} in the client's capture is #${connection.server} in the server's (the same ${connection.by})`);
    connection.subflows.forEach((one, i) => {
      out.push(`  subflow ${i + 1}  ${one.client}${one.translated ? `   at the server: ${one.server}` : ''}`);
      out.push(`    up    ${direction(one.up)}`, `    down  ${direction(one.down)}`);
      for (const change of one.changes) out.push(`    ! ${change}`);
    });
  }
  if (result.onlyClient.length > 0) out.push('', `only in the client's capture: ${result.onlyClient.map((n) => `#${n}`).join(', ')}`);
  if (result.onlyServer.length > 0) out.push('', `only in the server's capture: ${result.onlyServer.map((n) => `#${n}`).join(', ')}`);
  return out;
}

function direction(one: DirectionComparison): string {
  const parts = [`${one.sent} packets sent, ${one.arrived} arrived, ${one.lost} lost (${((one.lost / Math.max(1, one.sent)) * 100).toFixed(2)} %)`];
  if (one.appeared > 0) parts.push(`${one.appeared} appeared on the way`);
  if (one.delay !== null) parts.push(`one-way delay ${ms(one.delay.min)} least, ${ms(one.delay.median)} median, ${ms(one.delay.p95)} at 95 %`);
  if (one.hops !== null) parts.push(`${one.hops} hops`);
  return parts.join('; ');
}

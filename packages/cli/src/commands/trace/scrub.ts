/** `subflow trace scrub`: a capture to hand on. */
import { createHmac, randomBytes } from 'node:crypto';
import { Command } from 'commander';
import { withOutput } from '@subflow/link';
import { pcapngInterface, pcapngPacket, pcapngSection } from '@subflow/wire';
import { Scrubber } from '@subflow/trace';
import { wordsBeside } from '../../outputs.ts';
import { analyse, reportDamages } from '../../trace/reading.ts';

const EXAMPLES = `
Examples:
  subflow trace scrub private.pcap -o public.pcapng

Replaced: IP addresses (10.0.0.0/8 and 2001:db8::/32, numbered as they come), also those in ADD_ADDR; MAC addresses (gone);
payload (zeros); keys, and what follows from them: tokens, HMACs, data sequence numbers. Options that Multipath TCP does not need
(cookies, signatures, unknown ones) are emptied. Checksums are right again. Kept: ports, times, lengths, sequence numbers,
timestamps, TTL. Left out: everything but TCP, tunnels, fragments.`;

export function scrubCommand(): Command {
  return new Command('scrub')
    .description('anonymise: addresses, payload and keys, checksums mended')
    .argument('<file...>', 'captures; - is standard input')
    .requiredOption('-o, --output <file>', 'where to (pcapng); - is standard output')
    .addHelpText('after', EXAMPLES)
    .action(async (files: string[], flags: { output: string }) => {
      const secret = randomBytes(32);
      const scrubber = new Scrubber((input) => createHmac('sha256', secret).update(input).digest());
      const words = wordsBeside({ '--output': flags.output });
      const damages = await withOutput(flags.output, {}, async (output) => {
        output.write(pcapngSection('subflow trace scrub'));
        output.write(pcapngInterface(scrubber.linkType, 'scrubbed'));
        const { damages } = await analyse(files, { detail: 'summary' }, (reader, analyzer) => {
          const scrubbed = scrubber.frame(analyzer);
          if (scrubbed !== null) output.write(pcapngPacket({ interface: 0, seconds: reader.seconds, nanoseconds: reader.nanoseconds, ...scrubbed }));
          return true;
        });
        return damages;
      });
      words.write(`${flags.output}: ${scrubber.written} packets, ${scrubber.dropped} left out (not TCP, tunnels, fragments)\n`);
      reportDamages(damages);
    });
}

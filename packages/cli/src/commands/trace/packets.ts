/** `subflow trace packets`: one packet after the other, field by field. */
import { Command } from 'commander';
import { compileFilter, DissectedPacket, FIELDS, nearestField, packetLine, valueText } from '@subflow/trace';
import { UsageError } from '../../errors.ts';
import { analyse, reportDamages } from '../../trace/reading.ts';
import { LineWriter } from '../../trace/lines.ts';

const EXAMPLES = `
Examples:
  subflow trace packets a.pcap                                    one line for each packet
  subflow trace packets a.pcap --filter 'tcp.options.mptcp.subtype == 1'
  subflow trace packets a.pcap --filter 'mptcp.stream == 0 && tcp.flags & 4' --json
  subflow trace packets a.pcap --fields frame.number,tcp.options.mptcp.rawdataseqno
  subflow trace fields                                            the names there are

Filters are Wireshark's (wireshark-filter(4)), over its names for IP, TCP and Multipath TCP, and some of our own (subflow.*).`;

interface Flags {
  filter?: string;
  fields?: string;
  json: boolean;
  count?: string;
  follow: boolean;
}

export function packetsCommand(): Command {
  return new Command('packets')
    .description('packets with their fields, chosen by a display filter')
    .argument('<file...>', 'captures; - is standard input')
    .option('--filter <expression>', 'only packets that it holds for')
    .option('--fields <names>', 'these fields alone, tab-separated, as tshark -T fields writes them')
    .option('--json', 'a JSON object for each packet, all its fields by name', false)
    .option('--count <n>', 'stop after so many packets')
    .option('--follow', 'wait for more at the end of the file', false)
    .addHelpText('after', EXAMPLES)
    .action(async (files: string[], flags: Flags) => {
      const filter = flags.filter === undefined ? null : compileFilter(flags.filter);
      const fields = flags.fields?.split(',').map((name) => fieldOf(name.trim())) ?? null;
      const most = flags.count === undefined ? Number.POSITIVE_INFINITY : Number(flags.count);
      if (!(most >= 0)) throw new UsageError('BAD_ARGUMENT', `--count "${flags.count}"; expected a number of packets`);
      const out = new LineWriter(process.stdout);
      let shown = 0;
      let number = 0;
      let before = 0;
      const { damages } = await analyse(
        files,
        { detail: 'full' },
        (reader, analyzer) => {
          const packet = new DissectedPacket(analyzer, reader, ++number, analyzer.time - before);
          before = analyzer.time;
          if (filter !== null && !filter(packet)) return true;
          if (fields !== null) {
            out.line(
              fields
                .map((field) =>
                  packet
                    .of(field.name)
                    .map((value) => valueText(field, value))
                    .join(','),
                )
                .join('\t'),
            );
          } else if (flags.json) {
            const all: Record<string, string | string[]> = {};
            for (const [name, values] of packet.all()) {
              const texts = values.map((value) => valueText(FIELDS.get(name)!, value));
              all[name] = texts.length === 1 ? texts[0]! : texts;
            }
            out.line(JSON.stringify(all));
          } else {
            const line = packetLine(packet, analyzer);
            out.line(
              `${String(line.number).padStart(6)} ${line.time.padStart(11)}  ${line.source} → ${line.destination}  ${line.protocol} ${line.length} ${line.info}`,
            );
          }
          return ++shown < most && !out.closed;
        },
        { follow: flags.follow },
      );
      await out.end();
      reportDamages(damages);
    });
}

export function fieldsCommand(): Command {
  return new Command('fields').description('the fields that filters and --fields know').action(() => {
    for (const field of FIELDS.values()) process.stdout.write(`${field.name.padEnd(44)} ${field.type.padEnd(9)} ${field.title}\n`);
  });
}

function fieldOf(name: string): ReturnType<(typeof FIELDS)['get']> & object {
  const field = FIELDS.get(name);
  if (field !== undefined) return field;
  const near = nearestField(name);
  throw new UsageError('NO_FIELD', `"${name}" is not a field${near === null ? '; `subflow trace fields` lists them' : `; did you mean ${near}?`}`);
}

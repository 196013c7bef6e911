/** `subflow trace …`: what happened in this capture? */
import { Command } from 'commander';
import { compareCommand } from './trace/compare.ts';
import { connectionsCommand } from './trace/connections.ts';
import { exportCommand } from './trace/export.ts';
import { graphCommand } from './trace/graph.ts';
import { liveCommand } from './trace/live.ts';
import { reportCommand } from './trace/report.ts';
import { scrubCommand } from './trace/scrub.ts';
import { withSummary } from './trace/summary.ts';
import { fieldsCommand, packetsCommand } from './trace/packets.ts';

const EXAMPLES = `
Examples:
  subflow trace a.pcap                              connections, subflows, verdicts, and the story of each
  subflow trace client.pcap.gz lte.pcapng --top 5   two captures merged by time
  subflow trace a.pcap --connection 3               one connection, everything about it
  tcpdump -w - | subflow trace -                    from a pipe
  subflow trace graph seq a.pcap                    draw it
  subflow trace report a.pcap -o a.html             a page with everything
  subflow trace packets a.pcap --filter 'tcp.options.mptcp.subtype == 1'`;

export function traceCommand(): Command {
  const trace = withSummary(
    new Command('trace').description('analyse captures: connections, subflows, what happened and why').enablePositionalOptions().addHelpText('after', EXAMPLES),
  );
  for (const make of [reportCommand, graphCommand, connectionsCommand, compareCommand, exportCommand, liveCommand, scrubCommand, packetsCommand, fieldsCommand])
    trace.addCommand(make());
  return trace;
}

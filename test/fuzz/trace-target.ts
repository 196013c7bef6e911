/** The trace analyzer: any bytes as a capture file. Nothing may throw or hang, and everything that can be said of it is said. */
import type { Instrumented } from './instrument.ts';
import type { Target } from './wire-target.ts';

/** A capture of 2 kB has at most a hundred records; more would be a loop. */
const MOST_FRAMES = 200;

export function traceTarget({ wire, trace }: Instrumented): Target {
  const fields = [...trace.FIELDS.values()];
  const filters = [
    'tcp.options.mptcp.subtype == 2 && tcp.len > 0',
    'ip.addr == 192.0.2.0/24 || ipv6.addr == 2001:db8::1',
    'tcp.payload[0:2] == 47:45 or subflow.dsn in {1..100}',
  ].map((text) => trace.compileFilter(text));
  const keyed = (input: Uint8Array): Uint8Array => Uint8Array.from({ length: 32 }, (_, i) => (input[i % Math.max(1, input.length)] ?? 0) ^ (i * 37));
  return (buffer, length) => {
    const choice = length === 0 ? 0 : buffer[length - 1]! & 7;
    const recorder = new trace.Recorder(null, 4);
    const analyzer = new trace.Analyzer({
      detail: choice === 1 ? 'summary' : 'full',
      ...(choice === 2 ? { points: recorder } : {}),
      onConnection: (connection) => finish(connection),
    });
    analyzer.severalInterfaces = choice === 3;
    const prints = new trace.Fingerprints();
    const scrubber = new trace.Scrubber(keyed);
    const reader = new wire.CaptureReader(length + 1);
    reader.push(buffer.subarray(0, length));
    let frames = 0;
    while (reader.next()) {
      if (++frames > MOST_FRAMES) throw new Error('more frames than the input has room for');
      analyzer.read(reader);
      if (choice === 4 && (frames & 3) === (length & 3)) {
        const packet = new trace.DissectedPacket(analyzer, reader, frames, 0);
        for (const field of fields) for (const value of packet.of(field.name)) trace.valueText(field, value);
        for (const filter of filters) filter(packet);
        trace.packetLine(packet, analyzer);
      } else if (choice === 5) {
        const scrubbed = scrubber.frame(analyzer);
        if (scrubbed !== null && scrubbed.bytes.length > reader.length) throw new Error('scrubbing made a frame longer');
      } else if (choice === 6) {
        prints.take(analyzer);
      }
    }
    reader.finish();
    analyzer.end();
    analyzer.totals();
    if (choice === 6) trace.compareCaptures(prints, prints);

    function finish(connection: import('@subflow/trace').Connection): void {
      const report = trace.connectionReport(connection);
      trace.connectionLines(report, trace.PLAIN, { story: true });
      if (choice === 6) prints.connections.push(connection);
      const recording = recorder.recordings.get(connection.index);
      if (recording === undefined) return;
      // One picture each time: drawing is the slowest part.
      const plot = trace.plotOf(trace.GRAPHS[length % trace.GRAPHS.length]!, { connection, report, recording });
      if ((length & 8) === 0) trace.svgOf(plot);
      else trace.terminalPlot(plot, 60, 14, trace.PLAIN);
      if ((length & 48) === 0) trace.signallingSvg(report);
    }
  };
}

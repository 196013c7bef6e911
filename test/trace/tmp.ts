import { writeFileSync } from 'node:fs';
import { download, emulatedWorld, pcapngOf } from './emulated.ts';
const w = emulatedWorld([
  { name: 'wifi', link: { rate: 20e6, delay: 10_000, queueTime: 50_000, loss: 0.005 } },
  { name: 'lte', link: { rate: 10e6, delay: 30_000, queueTime: 80_000, loss: 0.002 } },
]);
download(w, 1_000_000);
writeFileSync('/tmp/corpus/c.pcap', pcapngOf(w.captured.client, ['wifi', 'lte']));
writeFileSync('/tmp/corpus/s.pcap', pcapngOf(w.captured.server, ['wifi', 'lte'], { offset: 1_234_567 }));
console.log(w.paths.map((p) => [p.forward.counters.packets, p.forward.counters.dropped, p.backward.counters.packets, p.backward.counters.dropped]));

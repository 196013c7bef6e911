/** Writes the packets of a link to a pcapng file that Wireshark opens, also while it grows. */
import { LINKTYPE, pcapngInterface, pcapngPacket, pcapngSection } from '@subflow/wire';
import { epoch } from './clock.ts';
import { OutputFile } from './output/output-file.ts';

/** Packets are collected and written in pieces of about this size. */
const FLUSH = 1 << 20;

export class PcapngTap {
  readonly path: string;
  private readonly output: OutputFile;
  private readonly base: number;
  private pending: Uint8Array[] = [];
  private pendingBytes = 0;
  packets = 0;

  /** `base` is the wall-clock time of time 0 in microseconds; the real clock's by default. Throws {@link OutputError}. */
  constructor(output: string | OutputFile, interfaces: readonly string[], comment?: string, base: number = epoch) {
    this.output = typeof output === 'string' ? OutputFile.openSync(output, { how: 'grow' }) : output;
    this.path = this.output.path;
    this.base = base;
    this.put(pcapngSection('subflow', comment));
    for (const name of interfaces) this.put(pcapngInterface(LINKTYPE.raw, name));
  }

  /** Records a packet seen at `time` (microseconds on the clock of `base`). */
  record(packet: Uint8Array, time: number, interfaceIndex = 0, comment: string | null = null): void {
    const micros = this.base + time;
    const seconds = Math.floor(micros / 1e6);
    this.put(
      pcapngPacket({
        interface: interfaceIndex,
        seconds,
        nanoseconds: Math.floor((micros - seconds * 1e6) * 1000),
        bytes: packet,
        originalLength: packet.length,
        comment,
      }),
    );
    this.packets++;
  }

  close(): void {
    this.flush();
    this.output.finishSync();
  }

  private put(block: Uint8Array): void {
    this.pending.push(block);
    this.pendingBytes += block.length;
    if (this.pendingBytes > FLUSH) this.flush();
  }

  private flush(): void {
    if (this.pending.length === 0) return;
    this.output.write(Buffer.concat(this.pending));
    this.pending = [];
    this.pendingBytes = 0;
  }
}

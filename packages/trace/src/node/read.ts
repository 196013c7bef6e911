/** Frames of one or several captures in the order of their times. */
import type { CaptureReader, Malformed } from '@subflow/wire';
import { TraceError } from '../errors.ts';
import { CaptureInput } from './input.ts';
import type { InputOptions } from './input.ts';

/** Interfaces of the n-th file have numbers from n times this. */
export const INTERFACES_PER_FILE = 65_536;

export interface Damage {
  file: string;
  /** Packets read before it. */
  packets: number;
  offset: number;
  code: string;
  reason: string;
}

/** The frame that `reader` stands at, of the file with that number. Return false to stop. */
export type OnFrame = (reader: CaptureReader, file: number) => boolean | void;

export interface ReadResult {
  damages: Damage[];
  inputs: readonly CaptureInput[];
}

export interface ReadOptions extends InputOptions {
  onProgress?: (read: number, size: number) => void;
  /** Microseconds to add to the times of each file, so that their clocks agree. */
  shifts?: readonly number[];
}

/** How often the event loop gets a turn (progress, Ctrl-C), in milliseconds. */
const TURN_EVERY = 50;

/**
 * Reads captures to their end. Throws {@link TraceError} when a file cannot be read or is not a capture; damage further
 * in ends that file and is reported.
 */
export async function readCaptures(files: readonly string[], onFrame: OnFrame, options: ReadOptions = {}): Promise<ReadResult> {
  const inputs: CaptureInput[] = [];
  const damages: Damage[] = [];
  try {
    for (const file of files) inputs.push(new CaptureInput(file, options));
    const reader = new Merge(inputs, damages, options.shifts ?? []);
    const size = inputs.reduce((total, input) => total + input.size, 0);
    let turn = performance.now();
    for (;;) {
      const file = reader.next();
      const index = typeof file === 'number' ? file : await file;
      if (index < 0 || onFrame(inputs[index]!.reader, index) === false || options.signal?.aborted === true) break;
      if ((reader.given & 0x3fff) === 0 && performance.now() - turn > TURN_EVERY) {
        options.onProgress?.(
          inputs.reduce((total, input) => total + input.read, 0),
          size,
        );
        await new Promise((resolve) => setImmediate(resolve));
        turn = performance.now();
      }
    }
  } finally {
    for (const input of inputs) input.close();
  }
  return { damages, inputs };
}

class Merge {
  given = 0;
  private readonly inputs: readonly CaptureInput[];
  private readonly damages: Damage[];
  private readonly shifts: readonly number[];
  /** Files that stand at a frame. */
  private ready: number[] = [];
  /** Files that must be advanced before the next choice. */
  private stale: number[];

  constructor(inputs: readonly CaptureInput[], damages: Damage[], shifts: readonly number[]) {
    this.inputs = inputs;
    this.shifts = shifts;
    this.damages = damages;
    this.stale = inputs.map((_, i) => i);
  }

  /** The file whose frame is next; -1 at the end of all. A promise only where bytes must be waited for. */
  next(): number | Promise<number> {
    this.given++;
    if (this.inputs.length === 1) {
      if (this.inputs[0]!.reader.next()) return 0;
      return this.refill(0).then((more) => (more ? 0 : -1));
    }
    while (this.stale.length > 0) {
      const file = this.stale.at(-1)!;
      if (!this.inputs[file]!.reader.next()) return this.refill(file).then((more) => this.advance(file, more));
      this.stale.pop();
      this.put(file);
    }
    return this.choose();
  }

  private advance(file: number, more: boolean): number | Promise<number> {
    this.stale.pop();
    if (more) this.put(file);
    this.given--;
    return this.next();
  }

  private put(file: number): void {
    const shift = this.shifts[file] ?? 0;
    if (shift !== 0) shiftTime(this.inputs[file]!.reader, shift);
    this.ready.push(file);
  }

  private choose(): number {
    let best = -1;
    for (let i = 0; i < this.ready.length; i++) if (best < 0 || earlier(this.inputs[this.ready[i]!]!.reader, this.inputs[this.ready[best]!]!.reader)) best = i;
    if (best < 0) return -1;
    const [file] = this.ready.splice(best, 1);
    this.stale.push(file!);
    return file!;
  }

  /** Reads until the file stands at a frame; false at its end. */
  private async refill(file: number): Promise<boolean> {
    const input = this.inputs[file]!;
    for (;;) {
      let more: boolean;
      try {
        const filled = input.fill();
        more = typeof filled === 'boolean' ? filled : await filled;
      } catch (error) {
        if (!(error instanceof TraceError) || input.reader.packets === 0) throw error;
        this.damages.push({ file: input.name, packets: input.reader.packets, offset: input.reader.consumed, code: error.code, reason: error.message });
        return false;
      }
      if (input.reader.next()) return true;
      if (input.reader.damage !== null) {
        this.broken(input, input.reader.damage);
        return false;
      }
      if (!more) return false;
    }
  }

  private broken(input: CaptureInput, damage: Malformed): void {
    if (input.reader.format === null)
      throw new TraceError('NOT_A_CAPTURE', `${input.name} is not a capture: ${damage.reason}; expected pcap or pcapng, also compressed with gzip or zstd`);
    this.damages.push({ file: input.name, packets: input.reader.packets, offset: damage.offset, code: damage.code, reason: damage.reason });
  }
}

function shiftTime(reader: CaptureReader, micros: number): void {
  const whole = Math.floor(micros / 1e6);
  const nanoseconds = reader.nanoseconds + Math.round((micros - whole * 1e6) * 1000);
  reader.seconds += whole + Math.floor(nanoseconds / 1e9);
  reader.nanoseconds = nanoseconds % 1e9;
}

function earlier(a: CaptureReader, b: CaptureReader): boolean {
  return a.seconds === b.seconds ? a.nanoseconds < b.nanoseconds : a.seconds < b.seconds;
}
